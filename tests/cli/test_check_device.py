"""`modswap check --device NAME` reads the weights and runs on that device."""

import json
from pathlib import Path
from typing import Any

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
    assert "fix: name a device of this machine: cpu" in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_gpu_that_is_not_there_is_said_with_what_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "net.pt", *RULE, "--device", "cuda"]) == 2

    error = capsys.readouterr().err
    assert "--device: device 'cuda' cannot be used: " in error
    assert "fix: name a device of this machine: cpu" in error


@pytest.mark.parametrize("with_", ["ECA", "ACmix"])
def test_file_that_was_saved_on_a_gpu_keeps_the_device_of_each_tensor(
    with_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        torch.save(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)), "gpu.pt")

    rule = ("--match", "1", "--with", with_, "--input", "1,8,14,14", "-q")
    assert run(["replace", "gpu.pt", *rule, "-o", "out.pt"]) == 0

    tags: list[str] = []

    def note(storage: Any, tag: str) -> Any:
        tags.append(tag)
        return storage

    torch.load("out.pt", map_location=note, weights_only=False)  # noqa: TID251 - as others load it
    assert set(tags) == {"cuda:0"}
    loaded = torch.load("out.pt", map_location="cpu", weights_only=False)  # noqa: TID251 - as above
    assert loaded(torch.zeros(1, 8, 14, 14)).shape == (1, 8, 14, 14)
