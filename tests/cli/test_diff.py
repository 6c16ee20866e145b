"""`modswap diff`: exit codes, forms and wrong calls.

Covers: commands.diff.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from modswap.cli.app import run
from tests.cli.diff_page import PAGE, page, without_what_varies


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights = {"stem.weight": torch.arange(6.0), "head.weight": torch.ones(3)}
    torch.save(weights, "net.pt")
    save_file(weights, "net.safetensors", {"format": "pt"})
    torch.save({**weights, "head.weight": torch.full((3,), 1.5)}, "other.pt")


def test_equal_files_of_two_formats_end_with_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "net.pt", "net.safetensors"]) == 0
    assert capsys.readouterr().out.endswith("EQUAL  2 tensors, 0 other values\n")


def test_quiet_prints_nothing_where_they_are_equal(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "net.pt", "net.safetensors", "-q"]) == 0
    assert capsys.readouterr().out == ""
    assert run(["diff", "net.pt", "other.pt", "-q"]) == 1
    assert "head.weight      0.5       0.5  1.000000    100 %" in capsys.readouterr().out


def test_difference_ends_with_one_and_json_names_it() -> None:
    assert run(["diff", "net.pt", "other.pt", "--format", "json", "--report", "r.json"]) == 1

    (changed,) = json.loads(Path("r.json").read_text())["tensors"]["changed"]
    assert changed["name"] == "head.weight"
    assert changed["values"]["max_abs"] == 0.5


def test_part_is_chosen_by_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "net.pt", "other.pt", "--only", "structure"]) == 0
    assert run(["diff", "net.pt", "other.pt", "--only", "values"]) == 1
    assert run(["diff", "net.pt", "other.pt", "--only", "value"]) == 2
    assert "did you mean 'values'?" in capsys.readouterr().err


def test_file_that_cannot_be_read_ends_with_three(capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.pt").write_text("hello")

    assert run(["diff", "net.pt", "none.pt"]) == 3
    assert run(["diff", "net.pt", "text.pt"]) == 3
    assert "text.pt: it is a text file that begins 'hello'" in capsys.readouterr().err


def test_wrong_call_ends_with_two() -> None:
    assert run(["diff", "net.pt"]) == 2
    assert run(["diff", "net.pt", "other.pt", "--format", "junit"]) == 2


def test_report_is_not_written_over_a_checkpoint() -> None:
    before = Path("other.pt").read_bytes()

    assert run(["diff", "net.pt", "other.pt", "--report", "other.pt"]) == 3
    assert Path("other.pt").read_bytes() == before


@pytest.mark.ci
@pytest.mark.slow
def test_page_shows_what_the_command_prints() -> None:
    shown = PAGE.read_text(encoding="utf-8")

    assert without_what_varies(page(shown)) == without_what_varies(shown), "`make docs` writes it"
