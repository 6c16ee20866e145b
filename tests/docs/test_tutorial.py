"""The tutorial: its outputs are those of its commands, which are the same in both languages."""

import re
from pathlib import Path

import pytest

from tests.docs.tutorial_page import CHINESE, PAGE, followed_lines, followed_tutorial, with_outputs

STEPS = 60  # of the training; the page was written with 360


def without_what_varies(page: str) -> str:
    """Return a page without numbers and the widths of columns, which depend on the training."""
    text = re.sub(r"[0-9a-f]{12}(?=…)", "…", page)
    return re.sub(r"[\d.]+(e[+-]\d+)?|\s+|─+", " ", text).replace("  ", " ")


def test_both_tutorials_have_the_same_commands() -> None:
    english, chinese = (page.read_text(encoding="utf-8") for page in (PAGE, CHINESE))

    assert followed_lines(english) == followed_lines(chinese)
    assert chinese == with_outputs(chinese, english)
    assert english.count("\n#") == chinese.count("\n#")  # headings
    links = [re.findall(r"\]\(([^)]+)\)", page) for page in (english, chinese)]
    assert links[0][1:] == links[1][1:]  # the first leads to the other language
    assert len(followed_lines(english)) > 10


@pytest.mark.slow
@pytest.mark.ci
def test_outputs_are_those_of_the_commands(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra: demo)")

    made = followed_tutorial(tmp_path, STEPS)

    page = PAGE.read_text(encoding="utf-8")
    assert without_what_varies(made) == without_what_varies(page), "`make docs` writes it anew"
