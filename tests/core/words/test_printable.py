"""Text from files, made safe to print."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modswap.core.words.printable import (
    SHOWN_CHARACTERS,
    quoted,
    shown,
    tame,
    tame_lines,
    without_commands,
)
from modswap.io.pickled.data import Instance, Name, Storage

ANY_TEXT = st.text(st.characters(exclude_categories=[]))  # halves of characters included


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layer.0.attn → (1, 64) é 中", "layer.0.attn → (1, 64) é 中"),
        ("a\nb\r\n\tc", r"a\nb\r\n\tc"),
        ("\x1b[1;31merror\x1b[0m", r"\x1b[1;31merror\x1b[0m"),
        ("\x1b[8mhidden", r"\x1b[8mhidden"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\x08\x9b1m\x00\x7f", r"a\x08\x9b1m\x00\x7f"),
        ("\u202etxt.tp\u200b\u2066", r"\u202etxt.tp\u200b\u2066"),
        ("a\u2028b\u2029\x85", r"a\u2028b\u2029\x85"),
        ("ga\ud800te\udcff", r"ga\ud800te\udcff"),
        ("\U000e0001\ue000\U0010ffff\ufffe", r"\U000e0001\ue000\U0010ffff\ufffe"),
        ("\ufeffa\u00adb\u00a0c\u3000", r"\ufeffa\xadb\xa0c\u3000"),
        ("\u3164\u115f\ufe0f\u2800\u034f", r"\u3164\u115f\ufe0f\u2800\u034f"),
    ],
)
def test_what_is_not_seen_as_it_is_becomes_an_escape(text: str, expected: str) -> None:
    assert tame(text) == expected


@given(ANY_TEXT)
def test_every_text_becomes_one_printable_line(text: str) -> None:
    tamed = tame(text)

    assert tamed.isprintable()
    assert tamed.encode("utf-8").decode() == tamed
    assert tame(tamed) == tamed


@given(ANY_TEXT)
def test_line_breaks_of_our_own_texts_stay(text: str) -> None:
    assert tame_lines(text).split("\n") == [tame(line) for line in text.split("\n")]


@given(ANY_TEXT)
def test_quoted_text_is_read_back_by_yaml(text: str) -> None:
    assert yaml.safe_load(quoted(text)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("::error::x\n  ::stop-commands::t", "\\x3a:error::x\n  \\x3a:stop-commands::t"),
        ("\x1b[1m::error::x\x1b[0m", "\x1b[1m\\x3a:error::x\x1b[0m"),
        ("a::b\n#[x] # [y] ##", "a::b\n#[x] # [y] ##"),
        ("a ##[error]b", "a \\x23#[error]b"),
        ("##vso[task] ###teamcity[", "\\x23#vso[task] #\\x23#teamcity["),
    ],
)
def test_no_line_of_a_log_is_a_command(text: str, expected: str) -> None:
    assert without_commands(text) == expected


@dataclass
class Strange:
    """An object whose text is not to be asked for."""

    held: int = 0

    def __repr__(self) -> str:
        raise AssertionError


TENSOR = Instance("called", Name("a.b", "f"), (Storage(Name("torch", "Half"), "0", 10**5000),))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\nb", r"'a\nb'"),
        (b"\x00", r"b'\x00'"),
        ({"a": [1, (2,), ()], None: 1.5}, "{'a': [1, (2,), ()], None: 1.5}"),
        ({7}, "{7}"),
        (frozenset(), "{}"),
        (True, "True"),
        ([-(10**5000)], "[a number of 16,610 bits]"),
        (Name("a", "b"), "Name('a', 'b')"),
        (Strange(), "<Strange>"),
        (type("O\nK", (), {})(), r"<O\nK>"),
    ],
)
def test_values_are_shown_in_words_of_python(value: object, expected: str) -> None:
    assert shown(value) == expected


def laughing(levels: int) -> Any:
    held: Any = "ha"
    for _ in range(levels):
        held = (held, held)
    return held


def deep(levels: int) -> Any:
    held: Any = []
    for _ in range(levels):
        held = {"k": [held]}
    return held


def ring() -> Any:
    held: list[Any] = []
    held.append(held)
    return held


LARGE: dict[str, Callable[[], Any]] = {
    "text": lambda: "x" * 10**7,
    "line breaks": lambda: "\n" * 10**6,
    "bytes": lambda: b"x" * 10**7,
    "laughs": lambda: laughing(64),
    "deep": lambda: deep(100_000),
    "ring": ring,
    "wide": lambda: list(range(10**6)),
    "instance": lambda: Instance("new", Name("a", "b"), laughing(64)),
    "storage": lambda: TENSOR,
}


@pytest.mark.parametrize("name", LARGE)
def test_no_more_of_a_value_is_looked_at_than_is_shown(name: str) -> None:
    value = LARGE[name]()
    text = shown(value)

    assert len(text) <= SHOWN_CHARACTERS
    assert text.isprintable()
    assert len(shown(value, 20)) <= 20
