"""Receipts that say other gates than the modules of a file have.

Covers: gates.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modswap.cli.app import run
from tests.models import build_gated

MODEL = ("--model", "tests.models:build_gated")
ALLOW = ("--allow", "tests.models.*")


def with_joint(file: Path, **joint: Any) -> Path:
    """Return a copy of a file in which the receipt says another joint of each module."""
    out = file.with_name(f"other{file.suffix}")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("receipt.json"):
                receipt = json.loads(data)
                for site in receipt["sites"]:
                    site["joint"].update(joint)
                data = json.dumps(receipt).encode()
            new.writestr(name, data)
    return out


@pytest.fixture
def net(tmp_path: Path) -> nn.Module:
    torch.manual_seed(0)
    return build_gated().eval()


def inserted(file: Path, value: Any, needs: tuple[str, ...]) -> Path:
    """Return a file with a module put in after the stem."""
    torch.save(value, file)
    out = file.with_name(f"out{file.suffix}")
    rule = ("--after", "stem", "--with", "ECA", "--input", "1,3,28,28", "--quiet")
    assert run(["replace", str(file), *rule, "-o", str(out), *needs]) == 0
    return out


@pytest.mark.parametrize(
    "joint",
    [{"axes": 9}, {"axes": -1}, {"target": [3]}, {"form": "add"}, {"place": "instead"}],
    ids=str,
)
def test_receipt_and_module_that_disagree_are_refused(
    joint: dict[str, Any], net: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = inserted(tmp_path / "net.pt", net, ALLOW)
    final = ("-o", str(tmp_path / "final.pt"), "--at", "1", *ALLOW)
    other = with_joint(out, **joint)
    capsys.readouterr()

    assert run(["finalize", str(other), *final]) == 3

    assert "its receipt and its module 'stem.eca' disagree" in capsys.readouterr().err
    assert run(["finalize", str(with_joint(out, channels=7)), *final]) == 0  # the gate says that


@pytest.mark.parametrize(
    "joint", [{"target": [3]}, {"place": "instead"}, {"target": [3], "form": "plain"}], ids=str
)
def test_weights_whose_receipt_makes_a_model_that_does_not_run_are_refused(
    joint: dict[str, Any], net: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = inserted(tmp_path / "net.pth", net.state_dict(), MODEL)
    other = with_joint(out, **joint)
    capsys.readouterr()

    final = ("-o", str(tmp_path / "final.pth"), "--at", "1", "--fold", *MODEL)
    assert run(["finalize", str(other), *final]) == 3

    assert "its model does not run on the dummy input: ValueError" in capsys.readouterr().err
