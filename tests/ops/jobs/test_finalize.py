"""Modules that faded in for old ones, which take their place for good."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import modswap
from modswap.cli.app import run
from modswap.nn.insertion import Insertion
from tests.models import GatedNet, build_gated
from tests.ops.jobs.test_insert import ALLOW, FACTORY, X, loaded, saved
from tests.ops.jobs.test_revert import UNEXAMINED

RULE = 'replace: [{match: "{space,channel}_attention", with: ECA, start: preserve}]\n'


BESIDE = "insert: [{after: stem, with: ECA}]\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def net() -> GatedNet:
    torch.manual_seed(0)
    return build_gated().eval()


def faded(file: str, net: GatedNet, gate: float, rule: str = RULE) -> tuple[str, tuple[str, ...]]:
    """Write a file with new modules beside old ones, and gates of a value."""
    Path("swap.yaml").write_text(UNEXAMINED + rule)
    modswap.replace(net, modswap.read_recipe("swap.yaml"))
    for module in net.modules():
        if isinstance(module, Insertion) and module.gate is not None:
            nn.init.constant_(module.gate, gate)
    modswap.save(net, file)
    return file, ALLOW if file.endswith(".pt") else FACTORY


@pytest.mark.parametrize("file", ["faded.pt", "faded.safetensors"])
def test_at_gates_of_1_the_model_computes_the_same_without_the_old_modules(
    file: str, net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    _, needs = faded(file, net, 1.0)
    out = f"final{Path(file).suffix}"
    capsys.readouterr()

    assert run(["finalize", file, "-o", out, *needs, "--format", "json"]) == 0

    report = json.loads(capsys.readouterr().out)
    model, before = loaded(out, needs).eval(), loaded(file, needs).eval()
    assert (model(X) - before(X)).abs().max() <= 1e-5 * before(X).abs().max()
    assert type(model.get_submodule("space_attention")).__name__ == "ECA"
    assert not [n for n in model.state_dict() if ".module." in n or n.endswith(".gate")]
    made = {one["name"] for site in report["sites"] for one in site["mapped"]}
    assert made
    assert report["ledger"]["fresh"]["tensors"] == 0
    assert report["ledger"]["proved"]
    new = before.state_dict()["space_attention.eca.module.conv.weight"]
    assert torch.equal(model.state_dict()["space_attention.conv.weight"], new)
    assert run(["verify", out, "-q"]) == 0


def test_other_gates_are_taken_as_1_if_that_is_asked_for_and_the_drift_is_said(
    net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    file, needs = faded("faded.pt", net, 0.5)
    capsys.readouterr()

    assert run(["finalize", file, "-o", "final.pt", *needs]) == 1
    assert "its gate is not 1, but from 0.5 to 0.5" in " ".join(capsys.readouterr().err.split())
    assert not Path("final.pt").exists()
    assert run(["finalize", file, "--dry-run", *needs, "--at", "1"]) == 0
    assert "outputs moved by" in " ".join(capsys.readouterr().out.split())


def test_calls_and_files_that_cannot_be_finalized_are_refused(
    net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(net, "net.pt")
    for args, code, message in [
        (["net.pt", "-o", "final.pt", *ALLOW], 2, "no module in it fades in for another one"),
        (["net.pt"], 2, "there is no file to write"),
        (["net.pt", "-o", "final.pt", "--at", "0.5"], 2, "a gate can end at 1 alone"),
        (["net.pt", "-o", "net.pt", "--force"], 3, "is the input"),
    ]:
        capsys.readouterr()
        assert run(["finalize", *args]) == code, message
        assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("final.pt").exists()


def test_a_file_with_an_average_of_the_model_is_refused(
    net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    file, needs = saved("averaged", net)
    Path("swap.yaml").write_text(UNEXAMINED + RULE)
    assert run(["replace", file, "-c", "swap.yaml", "-o", "out.pt", *needs, "-q"]) == 0
    capsys.readouterr()

    assert run(["finalize", "out.pt", "-o", "final.pt", *needs]) == 3

    assert "it holds the model more than once" in " ".join(capsys.readouterr().err.split())


def test_modules_beside_others_stay_and_a_second_one_is_in_the_way(
    net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    file, needs = faded("faded.safetensors", net, 1.0, RULE + BESIDE)
    capsys.readouterr()

    assert run(["finalize", file, "-o", "final.safetensors", *needs]) == 0

    said = " ".join(capsys.readouterr().out.split())
    assert "stem.eca stays as it is" in said
    assert "stem.eca.gate" in loaded("final.safetensors", needs).state_dict()
