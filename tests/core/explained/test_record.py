"""Words and records of an explained pass.

Covers: record, words.
"""

import pytest

from modswap.core.explained.record import Followed, Line, Numbers, SetValue, Shape
from modswap.core.explained.words import ModuleText, Words

MAP = Shape((1, 8, 4), ("N", "C", "4"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (SetValue("x", (MAP,)), "x (N, C, 4)"),
        (SetValue("", (MAP,)), "→ (N, C, 4)"),
        (SetValue("x", (MAP, "None"), more=True), "x (N, C, 4) | None | …"),
        (SetValue("H", ("56",)), "H = 56"),
        (SetValue("parts", ("((N, C, 4), 3)",)), "parts ((N, C, 4), 3)"),
        (SetValue("i", (Shape((9,), ("9",), "int64"),)), "i (9,) int64"),
    ],
)
def test_value_is_shown_with_its_name(value: SetValue, expected: str) -> None:
    assert str(value) == expected


def test_statement_of_several_rows_is_one_line() -> None:
    line = Line(3, 5, ("    y = f(", "        x", "    )"))

    assert (line.text, line.indent) == ("y = f(x)", 4)
    assert Line(1, 1, ()).indent == 0


def test_walk_yields_the_lines_of_called_functions_behind_the_line() -> None:
    inner = Followed("g", "f.py", 9, 1, Numbers(), lines=(Line(10, 10, ("return 1",)),))
    outer = Followed(
        "f", "f.py", 1, 1, Numbers(), lines=(Line(2, 2, ("g()",), calls=(inner,)), Line(3, 3, ()))
    )

    assert [line.first for line in outer.walk()] == [2, 10, 3]


def test_texts_are_in_two_languages() -> None:
    text = ModuleText(Words("a", "甲"), (), {}, {}, {"f": {"x": Words("b", "乙")}})

    assert [text.summary.into(language) for language in ("en", "zh")] == ["a", "甲"]
    assert text.step("f", "x") == Words("b", "乙")
    assert text.step("f", "y") is None
    assert text.step("g", "x") is None
