"""Comparisons in a rule's `where`."""

import pytest

from modswap.core.asked.conditions import holds


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        (">=128", 128, True),
        (">=128", 127, False),
        ("<= 64", 64, True),
        ("<5", 5, False),
        (">1", 2, True),
        ("==3", 3, True),
        ("!=1", 1, False),
        (128, 128, True),
        ("128", 127, False),
        ("64..256", 256, True),
        ("64..256", 63, False),
        (">=1", None, False),
    ],
)
def test_condition_holds(condition: str | int, value: int | None, expected: bool) -> None:
    assert holds(condition, value) is expected


@pytest.mark.parametrize("condition", ["", "=>3", "many", "3..", "1.5", ">-1", "9" * 40])
def test_what_is_no_comparison_is_refused(condition: str) -> None:
    with pytest.raises(ValueError, match="expected a comparison such as '>=128'"):
        holds(condition, None)
