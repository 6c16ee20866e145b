"""Modules that faded in for old ones, which take their place for good."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn

import modswap
from modswap.cli.app import run
from modswap.nn.insertion import Insertion
from tests.models import GatedNet, build_gated
from tests.ops.jobs.test_insert import ALLOW, FACTORY, X, loaded
from tests.ops.jobs.test_revert import UNEXAMINED, held

RULE = 'replace: [{match: "{space,channel}_attention", with: ECA, start: preserve}]\n'


BESIDE = "insert: [{after: stem, with: ECA}]\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def net() -> GatedNet:
    torch.manual_seed(0)
    return build_gated().eval()


def faded(
    file: str, net: GatedNet, gate: float, rule: str = RULE, beside: float | None = None
) -> tuple[str, tuple[str, ...]]:
    """Write a file with new modules beside old ones, and gates of a value.

    `beside` is that of modules that do not fade in for others, if it is another one.
    """
    Path("swap.yaml").write_text(UNEXAMINED + rule)
    modswap.replace(net, modswap.read_recipe("swap.yaml"))
    for module in net.modules():
        if isinstance(module, Insertion) and module.gate is not None:
            other = module.place != "instead" and beside is not None
            nn.init.constant_(module.gate, (beside or 0) if other else gate)
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
    assert "the gate of the new module is 0.5, not 1" in " ".join(capsys.readouterr().err.split())
    assert not Path("final.pt").exists()
    assert run(["finalize", file, "--dry-run", *needs, "--at", "1"]) == 0
    assert "outputs moved by" in " ".join(capsys.readouterr().out.split())


def test_calls_and_files_that_cannot_be_finalized_are_refused(
    net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(net, "net.pt")
    for args, code, message in [
        (["net.pt", "-o", "final.pt", *ALLOW], 2, "no module in it has a gate"),
        (["net.pt", "-o", "final.pt", "--fold", *ALLOW], 2, "a file that `modswap replace` or"),
        (["net.pt"], 2, "there is no file to write"),
        (["net.pt", "-o", "final.pt", "--at", "0.5"], 2, "a gate can end at 1 alone"),
        (["net.pt", "-o", "net.pt", "--force"], 3, "is the input"),
    ]:
        capsys.readouterr()
        assert run(["finalize", *args]) == code, message
        assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("final.pt").exists()


ATTENDED = "insert: [{after: stem, with: MultiHeadSelfAttention, args: {num_heads: 2}}]\n"
GATES = {"model": 0.5, "ema": 0.25}


def averaged(kind: str, net: GatedNet) -> tuple[str, ...]:
    """Write a swapped model and its average, trained since, into a file; return its needs."""
    again = copy.deepcopy(net)
    if kind == "modules":
        torch.save({"model": net, "ema": again.half()}, "net.pt")
    else:
        torch.save({"model": net.state_dict(), "ema": again.state_dict()}, "net.pt")
    Path("swap.yaml").write_text(UNEXAMINED + RULE + ATTENDED)
    needs = ALLOW if kind == "modules" else FACTORY
    assert run(["replace", "net.pt", "-c", "swap.yaml", "-o", "out.pt", *needs, "-q"]) == 0
    payload = held("out.pt")
    for key, gate in GATES.items():
        state = payload[key] if kind == "weights" else payload[key].state_dict()
        for name, tensor in state.items():
            if name.endswith(".gate"):
                tensor.fill_(gate if name.startswith("stem.") else 1)
            elif "eca.module." in name:
                tensor.mul_(1 + gate)
    torch.save(payload, "trained.pt")
    return needs


@pytest.mark.parametrize("kind", ["modules", "weights"])
def test_an_average_of_the_model_in_the_file_ends_with_its_own_gates(
    kind: str, net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    needs = averaged(kind, net)
    capsys.readouterr()

    assert run(["finalize", "trained.pt", "-o", "final.pt", *needs, "--input", "2,3,28,28"]) == 0

    assert "under 'ema': " in " ".join(capsys.readouterr().out.split())
    assert run(["verify", "final.pt", "-q"]) == 0
    old, new = (held(file) for file in ("trained.pt", "final.pt"))
    for key, gate in GATES.items():
        before, after = old[key], new[key]
        if kind == "modules":
            y, wanted = after.float()(X), before.float()(X)
            assert (y - wanted).abs().max() <= (
                1e-5 if key == "model" else 1e-2
            ) * wanted.abs().max()
            before, after = before.state_dict(), after.state_dict()
        assert not [name for name in after if name.endswith(".gate")]
        last = next(name for name in before if name.endswith("proj.weight"))
        assert torch.equal(after[last], before[last] * gate)
        eca = "space_attention.eca.module.conv.weight"
        assert torch.equal(after["space_attention.conv.weight"], before[eca])
    assert run(["revert", "final.pt", "-o", "back.pt"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "before the swap, 'net.pt', or add --partial to take out the other one" in said


def test_a_gate_of_the_average_that_is_not_1_is_named(
    net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    needs = averaged("weights", net)
    payload = held("trained.pt")
    payload["ema"]["space_attention.eca.gate"].fill_(0.75)
    torch.save(payload, "trained.pt")
    capsys.readouterr()

    assert run(["finalize", "trained.pt", "-o", "final.pt", *needs]) == 1

    said = " ".join(capsys.readouterr().err.split())
    assert "space_attention under 'ema': the gate of the new module is 0.75, not 1" in said


def test_modules_that_multiply_beside_others_keep_gates_that_are_not_1(
    net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    file, needs = faded("faded.safetensors", net, 1.0, RULE + BESIDE, beside=0.5)
    capsys.readouterr()

    assert run(["finalize", file, "-o", "final.safetensors", *needs]) == 0

    said = " ".join(capsys.readouterr().out.split())
    assert "stem.eca stays as it is: its gate is 0.5, and it multiplies its input" in said
    assert "stem.eca.gate" in loaded("final.safetensors", needs).state_dict()


PUT_IN = """
insert:
  - {after: stem, with: MultiHeadSelfAttention, args: {num_heads: 2}}
  - {before: head, with: BiLevelRoutingAttention, args: {n_win: 3}}
  - {around: "{space,channel}_attention", share: true, with: "torch.nn:Conv2d", name: side,
     args: {in_channels: 16, out_channels: 16, kernel_size: 3, padding: 1}}
"""


@pytest.mark.one_in(2)
@pytest.mark.parametrize("file", ["gated.pt", "gated.safetensors"])
def test_gates_of_modules_that_are_added_go_into_their_last_layers(
    file: str, net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("swap.yaml").write_text(UNEXAMINED + PUT_IN)
    modswap.replace(net, modswap.read_recipe("swap.yaml"))
    gated = [module for module in net.modules() if isinstance(module, Insertion)]
    for module in gated:
        assert module.gate is not None
        nn.init.normal_(module.gate)
    modswap.save(net, file)
    needs, out = ALLOW if file.endswith(".pt") else FACTORY, f"final{Path(file).suffix}"
    capsys.readouterr()

    assert run(["finalize", file, "-o", out, *needs, "--format", "json"]) == 0

    report = json.loads(capsys.readouterr().out)
    model, before = loaded(out, needs).eval(), loaded(file, needs).eval()
    assert (model(X) - before(X)).abs().max() <= 1e-5 * before(X).abs().max()
    old, new = before.state_dict(), model.state_dict()
    assert [name for name in old if name not in new] == [n for n in old if n.endswith(".gate")]
    changed = {name for name in new if not torch.equal(old[name], new[name])}
    assert {name.rpartition(".")[0] for name in changed} == {
        "stem.multi_head_self_attention.module.module.proj",
        "head.bi_level_routing_attention.module.wo",
        "space_attention.side.module",
        "channel_attention.side.module",
    }
    sides = [model.get_submodule(f"{name}_attention.side") for name in ("space", "channel")]
    assert sides[0] is sides[1]
    assert report["ledger"]["fresh"]["tensors"] == 0
    assert report["ledger"]["proved"]
    assert run(["verify", out, "-q"]) == 0
    back = f"back{Path(file).suffix}"
    assert run(["revert", out, "-o", back, *needs, "-q"]) == 0
    plain = loaded(back, needs).state_dict()
    assert plain.keys() == build_gated().state_dict().keys()
    assert all(torch.equal(value, old[name]) for name, value in plain.items())


def test_a_gate_of_1_is_left_out_also_where_the_module_multiplies(net: GatedNet) -> None:
    file, needs = faded("faded.safetensors", net, 1.0, BESIDE)

    assert run(["finalize", file, "-o", "final.safetensors", *needs]) == 0

    model, before = loaded("final.safetensors", needs).eval(), loaded(file, needs).eval()
    assert (model(X) - before(X)).abs().max() <= 1e-5 * before(X).abs().max()
    assert "stem.eca.gate" not in model.state_dict()


@pytest.mark.parametrize(
    ("gate", "what"), [(0.0, "its gate is 0 still"), (0.5, "its gate is 0.5, and it multiplies")]
)
def test_a_file_whose_gates_all_have_to_stay_is_refused(
    gate: float, what: str, net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    file, needs = faded("faded.safetensors", net, gate, BESIDE)
    capsys.readouterr()

    assert run(["finalize", file, "-o", "final.safetensors", *needs]) == 1

    assert f"stem.eca: {what}" in " ".join(capsys.readouterr().err.split())
    assert not Path("final.safetensors").exists()


def test_a_module_saved_by_a_training_script_needs_no_receipt(
    net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("swap.yaml").write_text(UNEXAMINED + RULE + PUT_IN.partition("  - {around")[0])
    modswap.replace(net, modswap.read_recipe("swap.yaml"))
    for module in net.modules():
        if isinstance(module, Insertion) and module.gate is not None:
            nn.init.constant_(module.gate, 1.0 if module.place == "instead" else -0.5)
    before = net(X)
    torch.save({"epoch": 1, "model": net}, "trained.pt")
    capsys.readouterr()

    asked = ["--input", "2,3,28,28", *ALLOW]
    assert run(["finalize", "trained.pt", "-o", "out.safetensors", *asked]) == 2
    assert "no receipt says with which arguments" in " ".join(capsys.readouterr().err.split())
    assert run(["finalize", "trained.pt", "-o", "out.pt", *asked]) == 0

    model = loaded("out.pt", ALLOW).eval()
    assert (model(X) - before).abs().max() <= 1e-5 * before.abs().max()
    assert not [name for name in model.state_dict() if name.endswith(".gate")]
    assert type(model.get_submodule("space_attention")).__name__ == "ECA"


def test_a_tensor_that_a_new_module_shared_with_another_one_is_named(
    net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    faded("faded.pt", net, 1.0)
    net.head.spare = net.get_parameter("space_attention.eca.module.conv.weight")
    torch.save(net, "tied.pt")
    capsys.readouterr()

    assert run(["finalize", "tied.pt", "-o", "final.pt", *ALLOW, "--input", "1,3,28,28"]) == 0

    said = " ".join(capsys.readouterr().out.split())
    assert said.count("was one tensor with") == 1
    assert "space_attention.conv.weight was one tensor with head.spare" in said


def test_copies_whose_weights_have_other_names_in_the_file_end_as_well(net: GatedNet) -> None:
    needs = averaged("weights", net)
    payload = held("trained.pt")
    for key in GATES:
        payload[key] = {n.replace("stem.", "trunk."): t for n, t in payload[key].items()}
    torch.save(payload, "other.pt")

    asked = [*needs, "--rename", "trunk.=stem.", "--input", "2,3,28,28", "-q"]
    assert run(["finalize", "other.pt", "-o", "final.pt", *asked]) == 0

    old, new = held("other.pt"), held("final.pt")
    for key, gate in GATES.items():
        last = next(name for name in old[key] if name.endswith("proj.weight"))
        assert last.startswith("trunk.")
        assert torch.equal(new[key][last], old[key][last] * gate)
        eca = "space_attention.eca.module.conv.weight"
        assert torch.equal(new[key]["space_attention.conv.weight"], old[key][eca])
        assert torch.equal(new[key]["trunk.weight"], old[key]["trunk.weight"])


def test_empty_gate_of_a_file_is_no_bug(net: GatedNet, capsys: pytest.CaptureFixture[str]) -> None:
    _, needs = faded("faded.pt", net, 1.0)
    for module in net.modules():
        if isinstance(module, Insertion):
            module.gate = nn.Parameter(torch.zeros(0))
    modswap.save(net, "faded.pt", force=True)
    capsys.readouterr()

    assert run(["finalize", "faded.pt", "-o", "out.pt", *needs, "--at", "1"]) == 3
    assert "the gate of a new module in it is empty" in capsys.readouterr().err
    assert not Path("out.pt").exists()
