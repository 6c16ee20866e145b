"""Records whose texts are shown as text."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from modswap.core.errors import ShapeError, UnsafeError, together
from modswap.core.finding import Finding
from modswap.core.kept.outcome import Outcome, Written
from modswap.core.seen.tree import Tree, TreeRow, Wanted
from modswap.report import REPORTS, Page
from modswap.report.github import github_summary
from modswap.report.tamed import tamed
from modswap.report.tree import MAX_FOLDED_ROWS, tree_json, tree_table
from tests.report import outcomes

# each begins a command of a CI server, forges a line or hides what follows
WILD = [
    "x\n::error file=a.py::pwned",
    "::stop-commands::t",
    "a\r\n  ::add-mask::b",
    "##[error]x ##vso[task.setvariable]y",
    "\x1b[8mhidden\x1b[0m",
    "\x1b]8;;http://x\x07link",
    "a\u2028::error::b\u2029\x85c",
    "\u202egnp.exe\u2066",
    "half \ud83d and \udcff",
    "\n\n\n\nOK  1 site swapped",
    f"{'long.' * 8}{'x' * 30}::error::y",
]
COMMAND = re.compile(r"^\s*::|##\w*\[", re.MULTILINE)


@pytest.mark.parametrize("text", WILD)
@pytest.mark.parametrize("form", ["table", "json", "junit", "sarif"])
def test_no_report_holds_a_command_or_an_escape(form: str, text: str) -> None:
    finding = Finding("gradients", text, "failed", text, text)
    errors = [ShapeError.of(finding), UnsafeError(text, text, text)]
    outcome = replace(
        outcomes.NASTY,
        checkpoint=text,
        recipe=text,
        notes=(text,),
        sites=(replace(outcomes.site(text), aliases=(text,), old_class=text),),
        error=together(errors),
    )

    for page in (Page(), Page(60, color=True, verbose=True)):
        report = REPORTS[form]([outcome], page)
        plain = re.sub(r"\x1b\[[\d;]*m", "", report) if page.color and form == "table" else report
        lines = plain.split("\n")
        assert all(line.isprintable() for line in lines)
        assert not COMMAND.search(plain)
        assert report.encode()


@pytest.mark.parametrize("text", WILD)
def test_annotations_for_github_stand_on_lines_of_ours(text: str) -> None:
    outcome = Outcome("check", text, text, error=UnsafeError(text, text, text))

    lines = REPORTS["github"]([outcome], Page()).splitlines()

    assert len(lines) == 2
    assert lines[0].startswith("::error ")
    assert lines[1].startswith("FAILED: modswap check ")
    assert all(line.isprintable() for line in (*lines, *github_summary([outcome]).split("\n")))


@pytest.mark.each_once
@pytest.mark.parametrize("count", [1, MAX_FOLDED_ROWS])
@pytest.mark.parametrize("text", WILD)
def test_tree_prints_a_row_for_each_module(text: str, count: int) -> None:
    rows = tuple(TreeRow(text if not n else f"m{n}", text, 1, 4, text) for n in range(count + 1))
    tree = Tree(text, "torch", rows, notes=(text,), wanted=(Wanted(text, "", text),))

    table = tree_table(tree, rows, Page(80))

    assert all(line.isprintable() for line in table.split("\n"))
    assert not COMMAND.search(table)
    assert tree_json(tree, rows).isascii()
    assert not COMMAND.search(tree_json(tree, rows))


def test_colours_of_ours_stay() -> None:
    report = REPORTS["table"]([Outcome("check", "\x1b[31mred", "swap.yaml")], Page(color=True))

    assert report.startswith("\x1b[1;32mOK\x1b[0m")
    outcome = replace(outcomes.FAILED, checkpoint="\x1b[31mred")
    assert r"\x1b[31mred" in REPORTS["table"]([outcome], Page(color=True))


def test_lines_of_advice_stay_and_other_texts_get_escapes() -> None:
    finding = Finding("survival", "a\n", "passed", "b\n", "c\nd\t", {"e\n": ("f\n", 1)})
    written = Written(Path("g\n"), 1, "", "torch")

    changed = tamed(finding)

    assert (changed.path, changed.what, changed.fix) == (r"a\n", r"b\n", "c\nd\\t")
    assert changed.data == {r"e\n": (r"f\n", 1)}
    assert tamed(written).file == Path(r"g\n")
    error = tamed(ShapeError("a\n", fix="c\nd"))
    assert (error.what, error.fix) == (r"a\n", r"c\nd")


def test_records_without_wild_texts_stay_the_same_objects() -> None:
    tree = Tree("net.pt", "torch", (TreeRow("a", "nets.A", 9, 36), TreeRow("b", "nets.B", 4, 16)))

    assert tamed(tree) is tree
    changed = tamed(replace(tree, file="a\nb"))
    assert (changed.file, changed.rows) == ("a\\nb", tree.rows)
    assert changed.rows is tree.rows
