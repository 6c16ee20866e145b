"""Weights of a module in another checkpoint, through the command."""

import importlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import modswap
from modswap.cli.app import run
from modswap.ops.examine import table
from tests.models import gate

SHAPE = ("--input", "2,8,12,12")


def net(channels: int = 8) -> nn.Sequential:
    """Return a network whose first module is replaced."""
    return nn.Sequential(nn.Conv2d(8, channels, 1), nn.ReLU(), nn.Conv2d(channels, 8, 1))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kept = tuple(row for row in table.EXAMINATIONS if row.name == "drift")
    monkeypatch.setattr(table, "EXAMINATIONS", kept)  # the others take their time
    torch.manual_seed(0)
    torch.save(net(), "net.pt")
    donor = nn.ModuleDict({"stem": gate(8), "wide": gate(12)})
    for value in donor.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    torch.save(donor, "donor.pt")
    torch.save({"state_dict": donor.state_dict()}, "donor.ckpt")
    save_file(donor.state_dict(), "donor.safetensors")
    save_file(donor["stem"].state_dict(), "stem.safetensors")


def swap(start: str, *more: str, command: str = "replace", module: str = "ConvGate") -> int:
    written = ["-o", "out.pt", "--report", "r.json"] if command == "replace" else []
    rule = ["--match", "0", "--with", module, "--start", start, *SHAPE]
    return run([command, "net.pt", *rule, *written, "--format", "json", *more])


def donor_tensor(name: str) -> torch.Tensor:
    return load_file("donor.safetensors")[name]


@pytest.mark.parametrize(
    "file", ["donor.pt:stem", "donor.ckpt:stem", "donor.safetensors:stem", "stem.safetensors"]
)
def test_weights_come_from_a_file_of_any_kind(file: str) -> None:
    assert swap(f"donor:{file}") == 0

    written: Any = modswap.load("out.pt")
    assert torch.equal(written[0].conv.weight, donor_tensor("stem.0.weight"))
    assert torch.equal(written[0].bn.running_var, donor_tensor("stem.1.running_var"))
    report = json.loads(Path("r.json").read_text())
    (site,) = report["sites"]
    assert (site["start"], site["fresh"]) == ("donor", [])
    assert {"name": "conv.weight", "from": f"{file}: 0.weight"} in site["mapped"]
    assert "matched by shape and order: 0.weight → conv.weight" in " ".join(site["notes"])
    assert "0.conv.weight" in report["ledger"]["mapped"]["names"]
    assert report["ledger"]["fresh"] == {"tensors": 0, "bytes": 0, "names": []}


def test_names_win_over_order() -> None:
    rule = ["--with", "torch.nn:Conv2d", "--set", "kernel_size=1"]
    torch.save({"weight": torch.ones(8, 8, 1, 1), "bias": torch.ones(8)}, "own.pt")
    args = ["replace", "net.pt", "--match", "0", *rule, "--start", "donor:own.pt", *SHAPE]

    assert run([*args, "-o", "out.pt", "-q"]) == 0
    written: Any = modswap.load("out.pt")
    assert bool((written[0].weight == 1).all())


def test_written_file_needs_its_donor_no_more() -> None:
    assert swap("donor:donor.pt:stem", "-q") == 0
    Path("donor.pt").unlink()

    assert torch.equal(modswap.load("out.pt")[0].conv.bias, donor_tensor("stem.0.bias"))  # type: ignore[index] # a Sequential


def test_check_reads_shapes_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert swap("donor:donor.ckpt:stem", command="check") == 0
    report = json.loads(capsys.readouterr().out)

    assert report["sites"][0]["fresh"] == []
    assert swap("donor:donor.ckpt:wide", command="check") == 1


@pytest.mark.parametrize(
    ("start", "code", "message"),
    [
        ("donor:donor.pt:wide", 1, "donor.pt:wide does not fit: conv.weight (8, 8, 3, 3)"),
        ("donor:donor.pt:stam", 2, "no module 'stam' in it"),
        ("donor:donor.ckpt:stam", 2, "did you mean 'stem', 'stem.0' or"),
        ("donor:missing.pt:stem", 3, "missing.pt"),
        ("donor:", 2, "--start: no file is named"),
        ("donor", 2, "--start: no file is named"),
        ("donate", 2, "--start: 'start' is 'donate', expected fresh"),
    ],
)  # fmt: skip
def test_donor_that_does_not_fit_is_refused(
    start: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert swap(start) == code

    said = capsys.readouterr()
    assert message in said.err + said.out
    assert not Path("out.pt").exists()


def recipe(donor: str) -> str:
    rule = f"{{match: '0', with: ConvGate, start: donor, donor: {donor}}}"
    return f"version: 1\ninputs: [{{shape: [1, 8, 12, 12]}}]\nreplace: [{rule}]\n"


def test_donor_may_fit_in_part() -> None:
    Path("swap.yaml").write_text(recipe("{file: donor.pt, path: stem.0, partial: true}"))

    assert run(["replace", "net.pt", "-c", "swap.yaml", "-o", "out.pt", "--report", "r.json",
                "--format", "json"]) == 0  # fmt: skip

    (site,) = json.loads(Path("r.json").read_text())["sites"]
    assert [name for name in site["fresh"] if name.startswith("bn.")] == site["fresh"]
    assert "left out: bn.weight (8) is not in the donor" in " ".join(site["notes"])
    Path("swap.yaml").write_text(recipe("{file: donor.pt, path: stem.0}"))
    assert run(["check", "net.pt", "-c", "swap.yaml", "-q"]) == 1


class Evil:
    """A value whose pickle would call a function."""

    def __reduce__(self) -> Any:
        return (print, ("ran",))


def test_donor_is_never_executed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("evil.pt").write_bytes(pickle.dumps({"stem.weight": Evil()}))

    assert swap("donor:evil.pt:stem") in {3, 4}
    assert "ran" not in capsys.readouterr().out
    assert not Path("out.pt").exists()


def test_class_in_a_donor_has_to_be_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("donated.py").write_text("from torch import nn\nclass Own(nn.Sequential): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    own = importlib.import_module("donated").Own
    torch.save(own(gate(8)), "own.pt")

    assert swap("donor:own.pt:0") == 4
    assert "--allow donated.Own" in capsys.readouterr().err
    assert swap("donor:own.pt:0", "--allow", "donated.Own") == 0


@pytest.mark.parametrize("name", ["donor.pt", "./donor.pt", "link.pt"])
def test_donor_is_never_overwritten(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("link.pt").symlink_to("donor.pt")
    before = Path("donor.pt").read_bytes()
    rule = ["--match", "0", "--with", "ConvGate", "--start", "donor:donor.pt:stem", *SHAPE]

    assert run(["replace", "net.pt", *rule, "-o", name, "--force"]) == 3
    assert "the donor is never overwritten" in capsys.readouterr().err
    assert run(["check", "net.pt", *rule, "--report", name, "--format", "json"]) != 0
    assert Path("donor.pt").read_bytes() == before


def test_recipe_inside_a_file_opens_no_donor() -> None:
    torch.save(net().state_dict(), "weights.pt")
    Path("nets.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1))\n"
    )
    rule = ["--match", "0", "--with", "ConvGate", "--start", "donor:donor.pt:stem", *SHAPE]
    args = ["--model", "nets.py:build", "-o", "out.safetensors", "-q"]
    assert run(["replace", "weights.pt", *rule, *args]) == 0
    Path("donor.pt").unlink()

    model: Any = modswap.load("out.safetensors", model="nets.py:build")
    assert torch.equal(model[0].conv.weight, donor_tensor("stem.0.weight"))


@pytest.mark.parametrize("start", ["inherit", "donor:donor.pt:stem"])
def test_start_that_needs_the_model_is_refused_without_it(
    start: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert swap(start, "--no-forward", "--set", "in_channels=8") == 2
    assert "--no-forward" in capsys.readouterr().err
    assert not Path("out.pt").exists()


def test_initialiser_needs_no_pass() -> None:
    Path("swap.yaml").write_text(
        "version: 1\nreplace: [{match: '0', with: ConvGate, init: {weight: ones, bias: zeros}}]\n"
    )

    assert run(["replace", "net.pt", "-c", "swap.yaml", "--no-forward", "-o", "o.pt", "-q"]) == 0
    assert bool((modswap.load("o.pt")[0].conv.weight == 1).all())  # type: ignore[index] # a Sequential


def test_check_says_what_would_be_inherited(capsys: pytest.CaptureFixture[str]) -> None:
    assert swap("inherit", command="check", module="ACmix") == 0
    report = json.loads(capsys.readouterr().out)

    (site,) = report["sites"]
    assert {"name": "conv1.weight", "from": "weight"} in site["mapped"]
    assert "conv_p.weight" in site["fresh"]
    (drift,) = [one for one in report["verify"]["checks"] if one["check"] == "drift"]
    assert drift["status"] == "skipped"


def test_start_is_saved_in_the_recipe() -> None:
    Path("recipes").mkdir()
    assert swap("donor:donor.pt:stem", "--save-recipe", "recipes/one.yaml", "-q") == 0

    assert 'start: "donor"' in Path("recipes/one.yaml").read_text()
    assert run(["check", "net.pt", "-c", "recipes/one.yaml", "-q"]) == 0
