"""Modules put in beside others in real files: written, proved, loaded, swapped again."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import modswap
from modswap.cli.app import run
from modswap.io.pickled.data import UnreadableError
from modswap.io.pickled.edit import module_at
from modswap.io.pickled.outline import affordable_payload
from modswap.io.recognise.look import look_at
from tests.models import GatedNet, build_gated

FACTORY = ("--model", "tests.models:build_gated")
ALLOW = ("--allow", "tests.models.*")
RECIPE = """\
version: 1
inputs: [{shape: [1, 3, 28, 28]}]
verify: {skip: [matrix, copies, cost, sizes, gradients, dependence, independence, finite]}
insert:
  - {after: "{space,channel}_attention", with: CBAM}
  - {around: stem, with: "torch.nn:Conv2d", name: side,
     args: {in_channels: 3, out_channels: 16, kernel_size: 3, stride: 2, padding: 1}}
"""
X = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("swap.yaml").write_text(RECIPE)


@pytest.fixture
def net() -> GatedNet:
    torch.manual_seed(0)
    return build_gated().eval()


def trained(net: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(net.parameters())
    net(X).sum().backward()
    optimizer.step()
    net.zero_grad()
    return optimizer


def saved(kind: str, net: GatedNet) -> tuple[str, tuple[str, ...]]:
    """Save a model in a container; return the file and what it needs to be loaded."""
    optimizer = trained(net)
    match kind:
        case "whole":
            torch.save(net, "net.pt")
        case "averaged":
            held = {"epoch": 3, "model": net, "ema": copy.deepcopy(net).half()}
            torch.save(held, "net.pt")
        case "weights":
            torch.save(net.state_dict(), "net.pt")
        case "training":
            held = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
            torch.save(held, "net.pt")
        case "legacy":
            torch.save(net.state_dict(), "net.pt", _use_new_zipfile_serialization=False)
        case "safetensors":
            save_file(net.state_dict(), "net.safetensors")
            return "net.safetensors", FACTORY
    return "net.pt", ALLOW if kind in {"whole", "averaged"} else FACTORY


def loaded(file: str, needs: tuple[str, ...]) -> nn.Module:
    if needs == ALLOW:
        return modswap.load(file, allow=["tests.models.*"])
    return modswap.load(file, model="tests.models:build_gated")


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "kind", ["whole", "averaged", "weights", "training", "legacy", "safetensors"]
)
def test_every_kept_tensor_has_its_name_and_bits_and_the_file_computes_the_same(
    kind: str, net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    file, needs = saved(kind, net)
    out = f"out{Path(file).suffix}"

    assert run(["replace", file, "-c", "swap.yaml", "-o", out, *needs, "--format", "json"]) == 0

    report = json.loads(capsys.readouterr().out)
    model = loaded(out, needs).eval()
    old = net.state_dict()
    assert all(torch.equal(model.state_dict()[name], old[name]) for name in old)
    assert torch.equal(model(X), net(X))
    assert report["ledger"]["dropped"]["tensors"] == 0
    assert [(s["path"], s["place"], s["new_path"]) for s in report["sites"]] == [
        ("channel_attention", "after", "channel_attention.cbam"),
        ("space_attention", "after", "space_attention.cbam"),
        ("stem", "around", "stem.side"),
    ]
    assert report["sites"][0]["start"] == "preserve"
    assert run(["verify", out, "-q"]) == 0
    assert run(["tree", out]) == 0
    assert "cbam" in capsys.readouterr().out


def test_an_optimizer_steps_on_with_the_new_parameters(net: GatedNet) -> None:
    file, needs = saved("training", net)
    assert run(["replace", file, "-c", "swap.yaml", "-o", "out.pt", *needs, "-q"]) == 0

    held = torch.load("out.pt")  # noqa: TID251 - as a training script does
    model = loaded("out.pt", needs)
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.load_state_dict(held["optimizer"])

    steps = {
        name: float(optimizer.state[p]["step"]) if p in optimizer.state else 0.0
        for name, p in model.named_parameters()
    }
    assert {name for name, step in steps.items() if step} == set(dict(net.named_parameters()))
    model(X).sum().backward()
    optimizer.step()


@pytest.mark.slow
def test_what_was_put_in_is_swapped_and_added_to_again(net: GatedNet) -> None:
    file, needs = saved("whole", net)
    assert run(["replace", file, "-c", "swap.yaml", "-o", "a.pt", *needs, "-q"]) == 0
    again = ["--input", "1,3,28,28", *needs, "-q"]

    rule = ["--after", "channel_attention", "--with", "CBAM"]
    assert run(["replace", "a.pt", *rule, "-o", "b.pt", *again]) == 0
    rule = ["--match", "channel_attention.cbam.module", "--with", "ECA"]
    assert run(["replace", "b.pt", *rule, "-o", "c.pt", *again]) == 0

    model = loaded("c.pt", needs).eval()
    names = [*model.get_submodule("channel_attention")._modules]
    assert names == ["0", "1", "2", "cbam", "cbam_2"]
    assert type(model.get_submodule("channel_attention.cbam.module")).__name__ == "ECA"
    assert torch.equal(model(X), net(X))


@pytest.mark.slow
def test_weights_that_were_put_in_beside_are_swapped_again(net: GatedNet) -> None:
    file, needs = saved("safetensors", net)
    out = "a.safetensors"
    assert run(["replace", file, "-c", "swap.yaml", "-o", out, *needs, "-q"]) == 0
    rule = ["--match", "space_attention", "--with", "ECA", "--input", "1,3,28,28"]

    assert run(["replace", out, *rule, "-o", "b.safetensors", *needs, "-q"]) == 0

    names = load_file("b.safetensors").keys()
    assert not [name for name in names if name.startswith("space_attention.cbam")]
    assert [name for name in names if name.startswith("channel_attention.cbam")]
    assert loaded("b.safetensors", needs)(X).shape == (2, 2, 14, 14)


@pytest.mark.parametrize(
    "option",
    [
        "--after",
        pytest.param("--before", marks=pytest.mark.slow),
        pytest.param("--around", marks=pytest.mark.slow),
    ],
)
def test_places_are_options_and_the_saved_recipe_says_the_same(
    option: str, net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    file, needs = saved("whole", net)
    rule = [option, "head", "--with", "torch.nn:Conv2d", "--set", "kernel_size=1"]
    sizes = {"--after": (2, 2), "--before": (16, 16), "--around": (16, 2)}[option]
    rule += [f"--set=in_channels={sizes[0]}", f"--set=out_channels={sizes[1]}"]
    more = ["--input", "1,3,28,28", *needs, "-q", "--save-recipe", "one.yaml"]

    assert run(["replace", file, *rule, "-o", "out.pt", *more]) == 0

    text = Path("one.yaml").read_text()
    assert f"insert:\n  - {option[2:]}: " in text
    assert run(["check", file, "-c", "one.yaml", *needs, "-q"]) == 0
    assert torch.equal(loaded("out.pt", needs)(X), net(X))


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--after", "nowhere", "--with", "CBAM"], 2, "no module matches 'nowhere'"),
        (["--after", "", "--with", "CBAM"], 2, "the pattern is empty"),
        (["--after", "head", "--match", "stem", "--with", "ECA"], 2, "exclude each other"),
        (["--after", "head", "--with", "CBAM", "--set", "x=1"], 2, "CBAM has no argument 'x'"),
        (["--after", "head"], 2, "--after needs --with as well"),
        (["--after", "head", "--with", "CBAM", "--no-forward"], 2, "puts nothing in beside"),
    ],
)
def test_wrong_calls_are_refused_in_a_line_and_nothing_is_written(
    args: list[str], code: int, message: str, net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    file, needs = saved("whole", net)

    assert run(["replace", file, *args, "-o", "out.pt", "--input", "1,3,28,28", *needs]) == code

    assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("out.pt").exists()


def planted(**changes: Any) -> None:
    """Save a file with a module beside another, changed by hand."""
    net = build_gated()
    torch.save(net, "net.pt")
    rules = "insert:\n  - {after: stem, with: ECA}\n"
    Path("one.yaml").write_text(RECIPE.partition("insert:")[0] + rules)
    assert run(["replace", "net.pt", "-c", "one.yaml", "-o", "out.pt", *ALLOW, "-q"]) == 0
    model = loaded("out.pt", ALLOW)
    vars(model.get_submodule("stem")).update(changes)
    torch.save(model, "bad.pt")


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", ["_inner", "forward", "joined"])
def test_a_file_cannot_plant_code_in_a_module_with_others_beside_it(name: str) -> None:
    planted(**{name: torch.nn.functional.relu})

    code = run(["tree", "bad.pt", "--input", "1,3,28,28", *ALLOW, "-q"])

    assert code == (0 if name == "joined" else 4)  # the last is no name of its class


def test_a_class_of_a_file_is_judged_beside_others_too(capsys: pytest.CaptureFixture[str]) -> None:
    planted()
    capsys.readouterr()

    assert run(["replace", "bad.pt", "--match", "stem", "--with", "ECA", "--dry-run"]) == 4
    assert "tests.models.GatedNet" in capsys.readouterr().err


def test_modules_of_a_file_read_as_data_are_found_by_their_path() -> None:
    planted()
    payload, _ = affordable_payload(look_at(Path("out.pt")))

    assert module_at(payload, "stem.eca.module").what.attribute == "ECA"
    with pytest.raises(UnreadableError, match="no module 'nowhere'"):
        module_at(payload, "nowhere")
