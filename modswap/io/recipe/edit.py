"""Change a value in the text of a recipe; comments and all other lines stay the same."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from modswap.core.decided.remedies import Edit
from modswap.core.errors import CheckpointError, RecipeError
from modswap.io.raw.atomic import replacing
from modswap.io.recognise.look import unreadable

_BOM = b"\xef\xbb\xbf"


def edited(text: str, edit: Edit) -> str:
    """Return the text of a recipe with a key set to a value; a missing key is added.

    Raises:
        RecipeError: If the text has aliases (`*x`), where one place means several.
    """
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
        raise RecipeError("it has aliases", "", "write it out without `*`")
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert node is not None  # noqa: S101 - it was read as a recipe before
    for depth, key in enumerate(edit.place):
        inner = _child(node, key)
        if inner is None:
            return _added(text, node, _nested(edit.place[depth:], edit.written))  # type: ignore[arg-type] # only a mapping lacks a key
        node = inner
    start, end = node.start_mark.index, _end(text, node)
    # an empty value begins directly after the colon
    blank = " " if start == end and text[start - 1 : start] == ":" else ""
    return f"{text[:start]}{blank}{edit.written}{text[end:]}"


def _child(node: yaml.Node, key: str | int) -> yaml.Node | None:
    """Return the value at a key or position; None if there is none."""
    if isinstance(node, yaml.MappingNode):
        found: yaml.Node | None = next((v for k, v in node.value if k.value == key), None)
        return found
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int):
        item: yaml.Node = node.value[key]
        return item
    return node  # a single name is allowed in place of a list


def _nested(place: Sequence[str | int], written: str) -> str:
    key, *rest = place
    return f"{key}: {{{_nested(rest, written)}}}" if rest else f"{key}: {written}"


def _added(text: str, node: yaml.MappingNode, line: str) -> str:
    """Return the text with a line added to a mapping."""
    if node.flow_style:
        comma = ", " if node.value else ""
        place = _end(text, node.value[-1][1]) if node.value else node.start_mark.index + 1
        return f"{text[:place]}{comma}{line}{text[place:]}"
    first = node.value[0][0]
    place = text.find("\n", _end(text, node.value[-1][1]))
    place = len(text) if place < 0 else place
    newline = "\r\n" if text[:place].endswith("\r") else "\n"
    place -= len(newline) - 1
    return f"{text[:place]}{newline}{' ' * first.start_mark.column}{line}{text[place:]}"


def _end(text: str, node: yaml.Node) -> int:
    """Return the end of a node's text, without the blank lines and comments that YAML includes."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    start, end = node.start_mark.index, node.end_mark.index
    return start + len(text[start:end].rstrip())


def rewrite(file: Path, before: str, after: str) -> None:
    """Replace the text of a recipe; `before` is as it was read, without a byte order mark.

    Raises:
        CheckpointError: If the file has changed since it was read, or cannot be written.
    """
    mark = _mark(file, before)

    def ready() -> None:
        _mark(file, before)

    with replacing(file, force=True, ready=ready) as temporary:
        temporary.write_bytes(mark + after.encode())


def _mark(file: Path, text: str) -> bytes:
    """Return the byte order mark of a file; refuse a file with another text behind it."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise unreadable(file, error) from None
    mark = _BOM if raw.startswith(_BOM) else b""
    if raw != mark + text.encode():
        raise CheckpointError("it was changed meanwhile", str(file), "try again")
    return mark
