"""Values of a checkpoint that are no tensors, as text to compare."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from modswap.core.words.printable import shown, tame

MAX_TEXT = 160  # characters of a value that stand in a report; longer ones have a digest
_DIGEST_DIGITS = 12


@dataclass(frozen=True, slots=True)
class PlainEntry:
    """A value that is no tensor, as text, with what it belongs to.

    Entries of the kind `container` are what a format records for itself, those of `version` what
    torch records of layers: they are compared where both sides have such entries.
    """

    text: str
    kind: str = "metadata"


def text_of(value: Any) -> str:
    """Return a plain value as text; that of a long one begins alike and ends in a digest."""
    text = repr(value)
    return tame(text) if len(text) <= MAX_TEXT else _cut(shown(value, MAX_TEXT // 2), text)


def in_short(text: str) -> str:
    """Return a text of several lines or more, such as a recipe; the first line of a long one."""
    first = text[: MAX_TEXT // 2].partition("\n")[0]
    return tame(text) if len(text) <= MAX_TEXT else _cut(f"{tame(first)}…", text)


def _cut(beginning: str, text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_DIGITS]
    return f"{beginning} ({len(text):,} characters, sha256 {digest}…)"


def file_text(nbytes: int, sha256: str) -> str:
    """Return the text of a file, or of bytes, that are compared as a whole."""
    return f"{nbytes:,} bytes, sha256 {sha256[:_DIGEST_DIGITS]}…"


def flat(name: str, value: Any, kind: str = "metadata") -> Iterator[tuple[str, PlainEntry]]:
    """Yield the values inside JSON by dotted names; a list without containers is one value."""
    stack = [(name, value)]
    while stack:
        path, held = stack.pop()
        inside = list(_inside(held))
        if not inside:
            yield path, PlainEntry(text_of(held), kind)
        end = "" if path.endswith(":") else "."
        stack += [(f"{path}{end}{key}", item) for key, item in reversed(inside)]


def _inside(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, dict):
        return value.items()
    nested = isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value)
    return enumerate(value) if nested else ()


def is_optimizer(key: object) -> bool:
    """Return whether a key of a checkpoint is one under which optimizers are kept."""
    return str(key).startswith("optim")


def name_of(keys: Sequence[Any]) -> str:
    """Return the name of what these keys lead to, outside of the model."""
    first, *others = map(str, keys)
    return f"{first}:{'.'.join(others)}" if others else first
