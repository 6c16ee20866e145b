"""Batch norms and branches of new modules go into their layers.

Covers: copies.
"""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn

import modswap
from modswap.cli.app import run
from tests.models import GatedNet, build_gated
from tests.ops.jobs.test_insert import ALLOW, FACTORY, X
from tests.ops.jobs.test_revert import UNEXAMINED, held

GATE = "channel_attention"
RULES = """\
replace:
  - {match: channel_attention, with: CoordinateAttention}
  - {match: space_attention, with: "tests.models:ReparamBlock", args: {channels: 16}}
insert: [{after: stem, with: CBAM}]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settled(net: nn.Module) -> nn.Module:
    """Give the batch norms of a model values as of training, and open its gates."""
    settle(net.state_dict())
    return net


def settle(state: dict[str, torch.Tensor]) -> None:
    """Give the batch norms of a state values as of training, and open its gates."""
    norms = {name.removesuffix("running_var") for name in state if name.endswith("running_var")}
    for name, tensor in state.items():
        norm, _, kind = name.rpartition(".")
        if kind == "gate" or (f"{norm}." in norms and kind in {"bias", "running_mean"}):
            tensor.normal_()
        elif f"{norm}." in norms and kind in {"weight", "running_var"}:
            tensor.uniform_(0.5, 2)


@pytest.fixture
def net() -> GatedNet:
    torch.manual_seed(0)
    return build_gated().eval()


def swapped(file: str, net: GatedNet, rules: str = RULES) -> tuple[str, ...]:
    """Write a file with new modules; return what it needs to be loaded."""
    # folded norms compute the same in evaluation alone
    Path("swap.yaml").write_text(UNEXAMINED.replace("{skip", "{modes: [eval, train], skip") + rules)
    modswap.replace(net, modswap.read_recipe("swap.yaml"))
    modswap.save(settled(net), file)
    return ALLOW if file.endswith(".pt") else (*FACTORY, *ALLOW)


def loaded(file: str) -> nn.Module:
    """Return the model of a file in evaluation."""
    factory = None if file.endswith(".pt") else "tests.models:build_gated"
    return modswap.load(file, model=factory, allow=["tests.models.*"]).eval()


NORMS = (
    "channel_attention.bn1.",
    "space_attention.dense.1.",
    "space_attention.point.",
    "space_attention.skip.",
    "stem.cbam.module.SpatialGate.spatial.bn.",
)


@pytest.mark.parametrize("file", ["net.pt", "net.safetensors"])
def test_batch_norms_and_branches_of_new_modules_go_into_their_layers(
    file: str, net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    needs, out = swapped(file, net), f"final{Path(file).suffix}"
    capsys.readouterr()

    assert run(["finalize", file, "-o", out, "--fold", *needs, "--format", "json"]) == 0

    report = json.loads(capsys.readouterr().out)
    model, before = loaded(out), loaded(file)
    assert (model(X) - before(X)).abs().max() <= 1e-5 * before(X).abs().max()
    old, new = before.state_dict(), model.state_dict()
    assert {name for name in old if name not in new} == {n for n in old if n.startswith(NORMS)}
    assert {name for name in new if name not in old} == {
        "space_attention.dense.0.bias",
        "stem.cbam.module.SpatialGate.spatial.conv.bias",
    }
    changed = {name for name in new if name in old and not torch.equal(old[name], new[name])}
    assert changed == {
        "channel_attention.conv1.weight",
        "channel_attention.conv1.bias",
        "space_attention.dense.0.weight",
        "stem.cbam.module.SpatialGate.spatial.conv.weight",
    }
    assert report["ledger"]["fresh"]["tensors"] == 0
    assert report["ledger"]["proved"]
    counts = [sum(p.numel() for p in one.parameters()) for one in (before, model)]
    assert [report["params"][key] for key in ("before", "after")] == counts
    said = {site["new"]["class"]: " ".join(site["notes"]) for site in report["sites"]}
    assert (
        "bn1 went into conv1, its outputs within"
        in said["modswap.nn.coordinate_attention.CoordinateAttention"]
    )
    assert run(["verify", out, "-q"]) == 0


@pytest.mark.slow
def test_a_folded_file_can_be_swapped_again_reverted_and_written_as_code(net: GatedNet) -> None:
    needs = swapped("net.safetensors", net)
    assert (
        run(["finalize", "net.safetensors", "-o", "out.safetensors", "--fold", *needs, "-q"]) == 0
    )
    before = loaded("out.safetensors")

    asked = ["--match", "head", "--with", "torch.nn:Conv2d", "--set", "in_channels=16"]
    asked += ["--set", "out_channels=2", "--set", "kernel_size=1", "--input", "1,3,28,28"]
    assert run(["replace", "out.safetensors", "-o", "on.safetensors", *asked, *needs, "-q"]) == 0
    on = held("on.safetensors")
    kept = {n: t for n, t in before.state_dict().items() if not n.startswith("head.")}
    assert all(torch.equal(on[name], tensor) for name, tensor in kept.items())
    back = ["revert", "out.safetensors", "-o", "back.safetensors", *needs, "-q"]
    assert run(back) == 1
    assert run([*back, "--partial"]) == 0
    partly = loaded("back.safetensors").state_dict()
    assert "channel_attention.bn1.weight" not in partly
    assert not [name for name in partly if "cbam" in name]
    code = ["code", "out.safetensors", "--standalone", "alone.py", "--input", "2,3,28,28"]
    assert run([*code, *needs, "-q"]) == 0


@pytest.mark.parametrize("kind", ["modules", "weights"])
def test_an_average_of_the_model_is_folded_with_its_own_values(kind: str, net: GatedNet) -> None:
    again, needs = copy.deepcopy(net), ALLOW if kind == "modules" else (*FACTORY, *ALLOW)
    both = {"model": net, "ema": again.half() if kind == "modules" else again}
    if kind == "weights":
        both = {key: one.state_dict() for key, one in both.items()}  # type: ignore[misc] # weights
    torch.save(both, "net.pt")
    Path("swap.yaml").write_text(UNEXAMINED + RULES)
    assert run(["replace", "net.pt", "-c", "swap.yaml", "-o", "out.pt", *needs, "-q"]) == 0
    payload = held("out.pt")
    for key in ("model", "ema"):
        settle(payload[key] if kind == "weights" else payload[key].state_dict())
    torch.save(payload, "trained.pt")

    asked = ["--fold", *needs, "--input", "2,3,28,28", "-q"]
    assert run(["finalize", "trained.pt", "-o", "final.pt", *asked]) == 0

    assert run(["verify", "final.pt", "-q"]) == 0
    old, new = (held(file) for file in ("trained.pt", "final.pt"))
    for key in ("model", "ema"):
        before, after = old[key], new[key]
        if kind == "modules":
            y, wanted = after.float().eval()(X), before.float().eval()(X)
            most = 1e-5 if key == "model" else 5e-3
            assert (y - wanted).abs().max() <= most * wanted.abs().max()
            before, after = before.state_dict(), after.state_dict()
        assert not [name for name in after if name.startswith(NORMS)]
        state = {n.removeprefix(f"{GATE}."): t.float() for n, t in before.items() if GATE in n}
        factor = state["bn1.weight"] / (state["bn1.running_var"] + 1e-5).sqrt()
        wanted = state["conv1.weight"] * factor[:, None, None, None]
        assert torch.allclose(after[f"{GATE}.conv1.weight"].float(), wanted, rtol=1e-3)


def test_what_cannot_be_folded_is_said(net: GatedNet, capsys: pytest.CaptureFixture[str]) -> None:
    rules = 'replace: [{match: "{channel,space}_attention", with: "torch.nn:BatchNorm2d", '
    needs = swapped("net.safetensors", net, f"{rules}args: {{num_features: 16}}}}]\n")
    capsys.readouterr()

    assert run(["finalize", "net.safetensors", "-o", "out.safetensors", "--fold", *needs]) == 1

    said = " ".join(capsys.readouterr().err.split())
    assert "no plain convolution or linear layer gives it its input" in said
    assert not Path("out.safetensors").exists()
