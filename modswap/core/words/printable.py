"""Text from files, shown as text: the one owner of what may reach a terminal, a log or a report."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from itertools import chain

SHOWN_CHARACTERS = 200  # of a value in a message
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# printable characters that take no room, or are blank: fillers, joiners, variation selectors
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
# beginnings of commands that CI servers obey: GitHub at the start of a line, others anywhere
_COMMANDS = (
    (re.compile(r"^((?:\x1b\[[\d;]*m|[ ])*):(?=:)", re.MULTILINE), r"\1\\x3a"),
    (re.compile(r"#(?=#\w*\[)"), r"\\x23"),
)
_MAX_DIGITS = 100  # of a whole number; Python refuses to print those of thousands


def tame(text: str) -> str:
    r"""Return a text from a file on one line, with a visible escape for each unprintable character.

    Escaped are line breaks, control characters, escape sequences (colours too), marks that turn
    text around, characters without width or without a meaning, and halves of characters: `\n`,
    `\x1b`, `\u202e`. The result can be encoded in UTF-8.
    """
    if text.isprintable() and (text.isascii() or not _UNSEEN.search(text)):
        return text
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character.isprintable() and not _UNSEEN.match(character):
        return character
    code = ord(character)
    width, letter = (2, "x") if code < 0x100 else (4, "u") if code < 0x10000 else (8, "U")
    return _NAMED.get(character) or f"\\{letter}{code:0{width}x}"


def tame_lines(text: str) -> str:
    """Return a text of several lines that is ours, and may hold values from files.

    Its line breaks stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "\n".join(map(tame, text.split("\n")))


def without_commands(text: str) -> str:
    r"""Return a text for a log in which no CI server finds a command, such as `::error::`.

    Colours of ours stay. A command of GitHub begins a line; `##[…]` and `##vso[…]` are read
    anywhere.
    """
    for pattern, escaped in _COMMANDS:
        text = pattern.sub(escaped, text)
    return text


def quoted(text: str) -> str:
    """Return a text in double quotes, as YAML reads it back."""
    escaped = tame(text.replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{escaped}"'


def shown(value: object, most: int = SHOWN_CHARACTERS) -> str:
    """Return a value from a file for a message: on one line, of at most `most` characters.

    No more of the value is looked at than is shown, however large, deep or shared it is, and no
    code of its own runs.
    """
    text = ""
    # pieces of what was entered wait on a stack, so that deep values do not nest in Python
    waiting: list[Iterator[object]] = [iter((value,))]
    while waiting and len(text) <= most:
        part = next(waiting[-1], _END)
        if part is _END:
            waiting.pop()
        elif type(part) is _Piece:
            text += part
        else:
            waiting.append(_pieces(part, most))
    return text if len(text) <= most else f"{text[: most - 1]}…"


class _Piece(str):
    """A text of `shown`, where other texts are values."""

    __slots__ = ()


_END = object()
_BRACKETS: dict[type, tuple[str, str]] = {
    tuple: ("(", ")"), list: ("[", "]"), set: ("{", "}"), frozenset: ("{", "}"), dict: ("{", "}"),
}  # fmt: skip


def _pieces(value: object, most: int) -> Iterator[object]:
    """Yield the texts and values of which a value is shown."""
    kind = type(value)
    if isinstance(value, (tuple, list, set, frozenset, dict)) and kind in _BRACKETS:
        opening, closing = _BRACKETS[kind]
        yield _Piece(opening)
        yield from _joined(_pairs(value) if isinstance(value, dict) else ((v,) for v in value))
        yield _Piece("," + closing if kind is tuple and len(value) == 1 else closing)
    elif kind.__module__.startswith("modswap.") and is_dataclass(value):
        held = fields(value)
        yield _Piece(f"{kind.__name__}(")
        yield from _joined((getattr(value, field.name),) for field in held)
        yield _Piece(")")
    else:
        yield _Piece(_atom(value, kind, most))


def _atom(value: object, kind: type, most: int) -> str:
    """Return the text of a value that holds no others."""
    if isinstance(value, (str, bytes)) and kind in (str, bytes):
        return tame(repr(value[:most])) + ("…" if len(value) > most else "")
    if isinstance(value, int) and kind is int:
        return _number(value)
    plain = value is None or kind in (bool, float, complex)
    return repr(value) if plain else f"<{tame(kind.__name__)}>"


def _number(value: int) -> str:
    # a digit is over 3 bits
    if value.bit_length() > 3 * _MAX_DIGITS:
        return f"a number of {value.bit_length():,} bits"
    return str(value)


def _pairs(value: dict[object, object]) -> Iterator[tuple[object, ...]]:
    return ((key, _Piece(": "), item) for key, item in value.items())


def _joined(groups: Iterator[tuple[object, ...]]) -> Iterator[object]:
    """Yield the parts of groups, with commas between the groups."""
    first = next(groups, ())
    return chain(first, (part for group in groups for part in (_Piece(", "), *group)))
