"""The drift that reports show for every swap."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modswap.cli.app import run
from modswap.ops.examine.table import examination_names

SKIP = ", ".join(name for name in examination_names() if name != "drift")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    torch.save(nn.Sequential(nn.Conv2d(8, 8, 1), *head), "net.pt")


def drift(command: str, rule: str, *more: str) -> dict[str, Any]:
    Path("swap.yaml").write_text(
        f"version: 1\nverify: {{skip: [{SKIP}]}}\ninputs: [{{shape: [3, 8, 6, 6]}}]\n"
        f"replace: [{{match: {rule}}}]\n"
    )
    report = ["--format", "json", "--report", "r.json"]
    assert run([command, "net.pt", "-c", "swap.yaml", *report, *more]) == 0
    checks = json.loads(Path("r.json").read_text())["verify"]["checks"]
    (found,) = (one for one in checks if one["check"] == "drift")
    return dict(found)


def test_replace_reports_the_drift_of_every_start() -> None:
    fresh, inherited = (
        drift("replace", f"'0', with: ACmix, start: {start}", "--dry-run")
        for start in ("fresh", "inherit")
    )

    assert (fresh["status"], fresh["data"]["rows"]) == ("passed", 3)
    assert fresh["data"]["relative"] > 0.01
    assert inherited["data"]["relative"] < 1e-5
    assert inherited["data"]["agreeing"] == 3


def test_check_has_no_values() -> None:
    found = drift("check", "'0', with: ACmix, start: inherit")

    assert (found["status"], found["what"]) == (
        "skipped",
        "no values were computed: `modswap replace` measures it",
    )


def test_outputs_of_other_sizes_are_not_compared() -> None:
    rule = "'3', with: 'torch.nn:Linear', args: {out_features: 2}"

    assert "other sizes" in drift("replace", rule, "--dry-run")["what"]
    assert drift("replace", rule.replace("2", "5"), "--dry-run")["data"]["relative"] > 0


def test_infinite_drift_is_null_in_json() -> None:
    silent = nn.Conv2d(8, 8, 1)
    for parameter in silent.parameters():
        nn.init.zeros_(parameter)
    torch.save(nn.Sequential(silent), "net.pt")
    rule = "'0', with: 'torch.nn:Conv2d', args: {kernel_size: 1}"
    found = drift("replace", rule, "--dry-run")

    assert found["data"]["relative"] is None
    assert "moved by inf" in found["what"]
