"""The sizes of an exported program in words."""

from types import SimpleNamespace

import pytest

from modswap.io.formats.exported.program import size_in_words


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("s77", "[1, …]"),
        ("s7", "[2, 64]"),
        ("2*s77 + s7", "2*[1, …] + [2, 64]"),
        ("s770", "s770"),
    ],
)
def test_a_symbol_is_replaced_by_its_own_range(expression: str, words: str) -> None:
    ranges = {"s7": "VR[2, 64]", "s77": "VR[1, int_oo]"}
    size = SimpleNamespace(node=SimpleNamespace(expr=expression))

    assert size_in_words(size, ranges) == words
