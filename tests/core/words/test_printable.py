"""Text from files, made safe to print."""

import pytest

from modswap.core.words.printable import tame


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layer.0.attn → (1, 64)\n", "layer.0.attn → (1, 64)\n"),
        ("\x1b[1;31merror\x1b[0m", "\x1b[1;31merror\x1b[0m"),
        ("\x1b[2Jgone", "�[2Jgone"),
        ("\x1b]0;title\x07", "�]0;title�"),
        ("a\rb\x08c\x9b1m", "a�b�c�1m"),
        ("\u202etxt.tp\u200b", "�txt.tp�"),
    ],
)
def test_nothing_reaches_the_terminal_but_text_and_colours(text: str, expected: str) -> None:
    assert tame(text) == expected
