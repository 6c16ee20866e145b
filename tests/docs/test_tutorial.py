"""The tutorial: its outputs are those of its commands, which are the same in both languages."""

import re
from pathlib import Path

import pytest

from tests.docs.console import blocks
from tests.docs.tutorial_page import CHINESE, PAGE, followed_lines, followed_tutorial, with_outputs

STEPS = 60  # of the training; the page was written with 360


# commands whose outputs depend on the training, and the lines that may be others then
VARYING = ("$ modswap replace", "$ modswap heal", "$ modswap code", "$ python")
FINDINGS = ("!", "–", " ", "healing")


def without_what_varies(page: str) -> list[list[str]]:
    """Return the lines of each console; of some, without findings and numbers."""
    return [
        [masked(line) for line in code.splitlines() if not line.startswith(FINDINGS)]
        if code.startswith(VARYING)
        else code.splitlines()
        for kind, code in blocks(page)
        if kind == "console"
    ]


def masked(line: str) -> str:
    """Return a line without numbers, digests and the widths of columns."""
    text = re.sub(r"[0-9a-f]{12}(?=…)", "…", line)
    return " ".join(re.sub(r"[\d.,]+(e[+-]\d+)?|─+", " ", text).split())


def test_both_tutorials_have_the_same_commands() -> None:
    english, chinese = (page.read_text(encoding="utf-8") for page in (PAGE, CHINESE))

    assert followed_lines(english) == followed_lines(chinese)
    assert chinese == with_outputs(chinese, english)
    assert english.count("\n#") == chinese.count("\n#")  # headings
    links = [re.findall(r"\]\(([^)]+)\)", page) for page in (english, chinese)]
    assert links[0][1:] == links[1][1:]  # the first leads to the other language
    assert len(followed_lines(english)) > 10


@pytest.mark.slow  # about two minutes of one core
def test_outputs_are_those_of_the_commands(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra: demo)")

    made = followed_tutorial(tmp_path, STEPS)

    shown = without_what_varies(PAGE.read_text(encoding="utf-8"))
    for lines, expected in zip(without_what_varies(made), shown, strict=True):
        assert lines == expected, "`make docs` writes it anew"
    assert len(shown) > 6
