"""`modswap check --device NAME` reads the weights and runs on that device."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from modswap.cli.app import run

RULE = ("--match", "1", "--with", "ECA", "--input", "1,3,8,8", "--format", "json")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)), "net.pt")


@pytest.mark.parametrize(
    ("options", "computed"),
    [([], False), (["--device", "meta"], False), (["--device", "cpu"], True)],
)
def test_values_are_computed_where_a_device_is_named(
    options: list[str], computed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("net.pt").read_bytes()

    code = run(["check", "net.pt", *RULE, *options])

    report = json.loads(capsys.readouterr().out)
    assert (code, report["ok"]) == (0, True)
    skipped = json.dumps(report["verify"]).count("no values were computed")
    assert bool(skipped) is not computed
    assert Path("net.pt").read_bytes() == before


def test_device_that_is_not_there_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "net.pt", *RULE, "--device", "gpu"]) == 2

    error = capsys.readouterr().err
    assert "--device: device 'gpu' cannot be used" in error
    assert "name cpu, cuda, cuda:1 or mps" in error
