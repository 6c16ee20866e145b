"""Sentences as they are broken into lines."""

import pytest
from rich.cells import cell_len
from rich.text import Text

from modswap.nn.texts import LESSONS
from modswap.report.explained.sentence import lines, sentence
from modswap.report.page import Page

CBAM = "两个门依次作用：第一个问“是什么”，给通道加权；（第二个）问“在哪里”，ACmix 给像素加权。"


@pytest.mark.parametrize("width", range(8, 60))
def test_no_line_begins_with_a_mark_that_closes_or_ends_with_one_that_opens(width: int) -> None:
    found = list(lines(CBAM, width))

    assert "".join(found).replace(" ", "") == CBAM.replace(" ", "")
    assert all(cell_len(one) <= width for one in found)
    assert not [one for one in found if one[0] in "，。；：”）" or one[-1] in "（“"]
    assert sum("ACmix" in one for one in found) == 1


def test_lines_are_filled_and_a_word_too_long_has_its_own() -> None:
    assert list(lines("一二三四五六", 5)) == ["一二", "三四", "五六"]
    assert list(lines("用 torch.nn.functional 来", 8)) == ["用", "torch.nn.functional", "来"]


def test_texts_of_other_scripts_are_left_to_the_page() -> None:
    assert isinstance(sentence("a plain text"), Text)
    assert Page(24).render([sentence("两个门依次作用：给通道加权；")]) == (
        "两个门依次作用：给通道加\n权；\n"
    )


@pytest.mark.parametrize("name", LESSONS)
def test_lessons_lose_nothing(name: str) -> None:
    text = LESSONS[name].text.summary.into("zh")

    assert "".join(lines(text, 40)).replace(" ", "") == text.replace(" ", "")
