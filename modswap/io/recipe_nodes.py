"""YAML as plain data with the place of every key, within bounds that no bomb can pass."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from modswap.core.errors import RecipeError
from modswap.core.recipe import Place

MOST_BYTES = 256 * 1024
MOST_NODES = 20_000
MOST_DEPTH = 32
EXAMPLE = "see docs/recipe.md for an example"
_SCALARS = frozenset(("null", "bool", "int", "float", "str", "timestamp", "value"))


@dataclass(slots=True)
class Document:
    """A YAML document as it was read.

    Args:
        data: Plain data.
        lines: Line and column, counted from 1, of every key and list item.
        errors: What is wrong with it as YAML, place by place.
    """

    data: Any = None
    lines: dict[Place, tuple[int, int]] = field(default_factory=dict)
    errors: list[RecipeError] = field(default_factory=list)


def read_document(text: str, name: str) -> Document:
    """Return the one document of a YAML text.

    Args:
        text: The text.
        name: Name of the file, for errors.

    Raises:
        RecipeError: If it is no YAML, holds several documents, or is out of bounds.
    """
    if len(text) > MOST_BYTES:
        what = f"it has {len(text):,} characters, over the {MOST_BYTES:,} that a recipe may have"
        raise RecipeError(what, name, "is this the recipe?")
    try:
        _check_bounds(text, name)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise _explained(error, text, name) from None
    if root is None:
        raise RecipeError("it is empty", name, EXAMPLE)
    reading = _Reading(name)
    reading.document.lines[()] = _position(root)
    reading.document.data = reading.value(root, ())
    return reading.document


def _check_bounds(text: str, name: str) -> None:
    """Refuse several documents, deep nesting and too many nodes before anything is built."""
    depth = documents = 0
    for nodes, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        mark = event.start_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        if documents > 1:
            what = "a second document begins here"
            raise RecipeError(what, place, "keep one recipe in a file: take `---` out")
        if depth > MOST_DEPTH:
            raise RecipeError(f"over {MOST_DEPTH} levels deep", place, "is this the recipe?")
        if nodes > MOST_NODES:
            raise RecipeError(f"over {MOST_NODES:,} values", place, "is this the recipe?")


def _explained(error: yaml.YAMLError, text: str, name: str) -> RecipeError:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        position = getattr(error, "position", None)
        number = text.count("\n", 0, position) + 1 if isinstance(position, int) else 1
        what = "it holds a character that YAML does not allow"
        return RecipeError(what, f"{name}:{number}:1", "take it out")
    place = f"{name}:{mark.line + 1}:{mark.column + 1}"
    line = text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else ""
    if "\t" in line[: mark.column + 1]:
        return RecipeError("a tab where YAML takes spaces", place, "indent with spaces")
    said = " ".join(part for part in (error.context, error.problem) if part)  # type: ignore[attr-defined] # marked errors have both
    return RecipeError(f"it is no YAML: {said}", place, "check quotes, colons and indentation")


def _position(node: yaml.Node) -> tuple[int, int]:
    return (node.start_mark.line + 1, node.start_mark.column + 1)


class _Reading:
    """Composed nodes on their way to plain data."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.document = Document()
        self._count = 0
        self._constructor = SafeConstructor()

    def value(self, node: yaml.Node, place: Place) -> Any:
        """Return the plain data of a node; what is wrong goes into the document's errors."""
        self._count += 1
        if self._count > MOST_NODES or len(place) > MOST_DEPTH:
            where = self._where(node)
            raise RecipeError("its aliases repeat too much", where, "write it out without `*`")
        if isinstance(node, yaml.MappingNode):
            return dict(self._items(node, place))
        if isinstance(node, yaml.SequenceNode):
            return [self._item(item, (*place, i)) for i, item in enumerate(node.value)]
        return self._scalar(node)

    def _item(self, node: yaml.Node, place: Place) -> Any:
        self.document.lines[place] = _position(node)
        return self.value(node, place)

    def _items(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, Any]]:
        seen: dict[str, tuple[int, int]] = {}
        for key_node, value_node in node.value:
            where = self._where(key_node)
            if key_node.tag == "tag:yaml.org,2002:merge":
                fix = "write the keys out"
                self._fail("merge keys (`<<`) are not read", where, fix)
                continue
            key = self._key(key_node)
            if key is None:
                continue
            if key in seen:
                what = f"the key {key!r} is repeated; it stands at line {seen[key][0]} already"
                self._fail(what, where, "keep one of them")
                continue
            seen[key] = _position(key_node)
            self.document.lines[(*place, key)] = seen[key]
            yield key, self.value(value_node, (*place, key))

    def _key(self, node: yaml.Node) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str":
            return str(node.value)
        shown = repr(node.value[:40]) if isinstance(node, yaml.ScalarNode) else "that begins here"
        self._fail(f"the key {shown} is no text", self._where(node), "quote it")
        return None

    def _scalar(self, node: yaml.Node) -> Any:
        kind = node.tag.rpartition(":")[2]
        if not isinstance(node, yaml.ScalarNode) or kind not in _SCALARS:
            self._fail(f"the tag {node.tag!r} is not read", self._where(node), "take it out")
            return None
        if kind == "null":
            return None
        if kind in {"str", "timestamp", "value"}:
            return node.value
        try:
            return getattr(self._constructor, f"construct_yaml_{kind}")(node)
        except (ValueError, OverflowError):
            self._fail(f"{node.value[:20]!r}… is no number", self._where(node), "correct it")
            return None

    def _where(self, node: yaml.Node) -> str:
        line, column = _position(node)
        return f"{self.name}:{line}:{column}"

    def _fail(self, what: str, where: str, fix: str) -> None:
        self.document.errors.append(RecipeError(what, where, fix))
