"""The table of examinations: a row and a function are all that a new one needs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from modswap.cli.app import run
from modswap.core.errors import RecipeError
from modswap.ops.examine import table
from modswap.ops.recipes import parse_recipe
from tests.ops.examine import verification_page

RECIPE = """\
version: 1
inputs: [{shape: [2, 4]}]
verify: {skip: [%s]}
replace: [{match: "0", with: 'torch.nn:Linear', args: {in_features: 4, out_features: 4}}]
"""
DUMMY = """\
from modswap.core.finding import Finding


def parity(bench):
    for path, old, new in bench.sites:
        yield Finding("parity", path, "failed", "it has an odd number of rows", "take one away")
"""


def test_each_row_has_a_function_in_the_file_of_its_name() -> None:
    folder = Path(table.__file__).parent
    shared = {"__init__", "table", "bench"}

    assert {file.stem for file in folder.glob("*.py")} - shared == set(table.examination_names())
    for row in table.EXAMINATIONS:
        assert row.load().__name__ == row.name


def test_the_table_is_read_without_torch() -> None:
    code = "import sys, modswap.ops.recipes; print('torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


def test_verification_page_describes_every_examination() -> None:
    page = verification_page.PAGE.read_text(encoding="utf-8")

    assert page == verification_page.verification_page(), "`make docs` writes it again"
    assert all(f"\n| `{name}` | " in page for name in table.examination_names())


class Check:
    """A checkpoint, an examination in a file of its own, and a row added to the table."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, skip: str = "", form: str = "table") -> tuple[int, str]:
        Path("swap.yaml").write_text(RECIPE % skip, encoding="utf-8")
        return self.run("check", "net.pt", "-c", "swap.yaml", "--format", form)

    def run(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code of a command and all that it printed on standard output."""
        return run(arguments), self.capsys.readouterr().out


@pytest.fixture
def check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Check:
    (tmp_path / "odd_rows.py").write_text(DUMMY, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    row = table.Examination("parity", "passes", "sites have even rows", "odd_rows:parity")
    monkeypatch.setattr(table, "EXAMINATIONS", (*table.EXAMINATIONS[:2], row))
    torch.save(nn.Sequential(nn.Linear(4, 4)), "net.pt")
    return Check(capsys)


@pytest.mark.parametrize("form", ["table", "json", "junit", "sarif", "github", "html"])
def test_a_new_row_runs_and_is_reported_in_every_form(check: Check, form: str) -> None:
    code, out = check(form=form)

    assert code == 1
    assert "parity" in out
    assert "it has an odd number of rows" in out


@pytest.mark.parametrize("form", ["json", "sarif"])
def test_a_new_row_is_reported_with_its_sentence(check: Check, form: str) -> None:
    _, out = check(form=form)

    assert json.loads(out)
    assert "ites have even rows" in out


def test_a_new_row_is_left_out_by_its_name(check: Check) -> None:
    code, out = check(skip="parity")

    assert code == 0
    assert "parity" not in out


def test_the_schema_lists_a_new_row(check: Check) -> None:
    _, out = check.run("schema")

    names = json.loads(out)["$defs"]["Verify"]["properties"]["skip"]["items"]["enum"]
    assert names == ["matrix", "reached", "parity"]


def test_a_wrong_name_is_refused_with_its_place_and_the_nearest_name(check: Check) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(RECIPE % "party", "swap.yaml", ".")

    assert str(caught.value) == (
        "swap.yaml:3:17: item 1 of 'skip' is 'party', expected matrix, reached or parity; "
        "did you mean 'parity'?"
    )
    assert check(skip="party")[0] == 2
