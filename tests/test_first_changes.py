"""A first change, as docs/architecture.md describes it: a module or a report is one row.

An examination and a format are added in the same way by the tests of their tables.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import modswap
from modswap.cli.app import run
from modswap.core.kept.outcome import Outcome
from modswap.nn import CATALOGUE
from modswap.ops.recipes import parse_recipe
from modswap.report import REPORTS, Page
from tests.models import build_gated
from tests.recipes import UNEXAMINED

ROOT = Path(__file__).parents[1]
# the guide's own example of a row
(SHARP,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)


def test_module_is_added_by_its_row_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sharp_gates.py").write_text(SHARP)
    monkeypatch.syspath_prepend(tmp_path)
    import sharp_gates  # type: ignore[import-not-found] # written above

    monkeypatch.setitem(CATALOGUE._own, "SharpGate", sharp_gates.ROW)
    model = build_gated()
    rule = "{match: space_attention, with: SharpGate, args: {side: 5}}"
    text = f"version: 1\ninputs: [{{shape: [1, 3, 28, 28]}}]\n{UNEXAMINED}replace: [{rule}]\n"

    outcome = modswap.replace(model, parse_recipe(text, "swap.yaml", "."))

    assert outcome.ok
    assert outcome.sites[0].args == {"channels": 16, "side": 5}
    assert run(["catalogue", "SharpGate"]) == 0
    assert "side of the kernel" in capsys.readouterr().out


def test_report_is_added_by_its_row_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def names(outcomes: Sequence[Outcome], page: Page) -> str:
        return "".join(f"{site.path}\n" for outcome in outcomes for site in outcome.sites)

    monkeypatch.setattr("modswap.report.REPORTS", {**REPORTS, "names": names})
    monkeypatch.chdir(tmp_path)
    torch.save(build_gated(), "net.pt")
    Path("swap.yaml").write_text(
        "version: 1\nallow: tests.models.*\ninputs: [{shape: [1, 3, 28, 28]}]\n"
        f"{UNEXAMINED}replace: [{{match: '*_attention', with: ECA}}]\n"
    )

    code = run(["check", "net.pt", "-c", "swap.yaml", "--format", "names"])

    assert code == 0
    assert capsys.readouterr().out == "channel_attention\nspace_attention\n"
