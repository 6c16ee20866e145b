"""Read YAML as plain data with the line and column of every key, within fixed bounds."""

import math
import re
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from modswap.core.asked.source import Place
from modswap.core.errors import RecipeError

MAX_CHARACTERS = 256 * 1024  # of a recipe
_MAX_VALUES = 20_000
_MAX_DEPTH = 32
_MAX_DIGITS = 400  # of a number; no float has more
EXAMPLE = "see docs/recipe.md for an example"
EXPONENT = re.compile(r"[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+")
_TAG = "tag:yaml.org,2002:"
_SCALARS = frozenset(("null", "bool", "int", "float", "str", "timestamp", "value"))


@dataclass(slots=True)
class Document:
    """A YAML document as plain data."""

    data: Any = None
    # line and column, counted from 1, of every key and list item
    lines: dict[Place, tuple[int, int]] = field(default_factory=dict)
    # the errors in the YAML, by the place of the key, or by the line where it has none
    errors: dict[Place, RecipeError] = field(default_factory=dict)


def shown(value: Any) -> str:
    """Return a value as an error message shows it, shortened before it is formatted."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 80
    short.maxlevel, short.maxlist, short.maxdict = 3, 10, 10
    # `Repr` would drop the middle of a text; this drops its end
    text = short.repr(value if not isinstance(value, str) else value[:70])
    return text if len(text) <= 60 else f"{text[:59]}…"


def with_point(number: str) -> str:
    """Return a number with an exponent in the form of YAML 1.1: `1e-6` as `1.0e-6`."""
    mantissa, _, exponent = number.lower().partition("e")
    point = mantissa if "." in mantissa else f"{mantissa}.0"
    return f"{point}e{exponent if exponent[0] in '+-' else f'+{exponent}'}"


def read_document(text: str, name: str) -> Document:
    """Return the document of a YAML text; errors have the name of its file.

    Raises:
        RecipeError: If it is not YAML, holds several documents, or exceeds a bound.
    """
    if len(text) > MAX_CHARACTERS:
        bound = f"over the {MAX_CHARACTERS:,} that a recipe may have"
        what = f"it has {len(text):,} characters, {bound}"
        raise RecipeError(what, f"{name}:1:1", "is this the recipe?")
    try:
        root = _Composer(text, name).root()
    except yaml.YAMLError as error:
        raise _explained(error, text, name) from None
    if root is None:
        raise RecipeError("it is empty", f"{name}:1:1", EXAMPLE)
    reading = _Reading(name, text)
    reading.document.lines[()] = _position(root)
    reading.document.data = reading.value(root, ())
    return reading.document


class _Composer(yaml.SafeLoader):
    """The composer of PyYAML with bounds: it stops at the first value beyond one."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self._file = name
        self._documents = self._depth = self._nodes = 0

    def root(self) -> yaml.Node | None:
        """Return the top node of the document; None if there is no document."""
        try:
            return self.get_single_node()
        except (ValueError, OverflowError):
            # raised for escapes beyond Unicode, and for versions of thousands of digits
            where, what = _placed(self.get_mark(), self._file), "a number is too large"
            raise RecipeError(f"it is not YAML: {what}", where, "correct it") from None

    def get_event(self) -> Any:
        """Return the next event; refuse several documents, deep nesting and too many nodes."""
        event: Any = super().get_event()  # type: ignore[no-untyped-call] # PyYAML has no types here
        self._nodes += 1
        self._documents += isinstance(event, yaml.DocumentStartEvent)
        self._depth += isinstance(event, yaml.CollectionStartEvent)
        self._depth -= isinstance(event, yaml.CollectionEndEvent)
        if self._documents > 1:
            what, fix = "a second document begins here", "keep one recipe in a file: take `---` out"
        elif self._depth > _MAX_DEPTH:
            what, fix = f"over {_MAX_DEPTH} levels deep", "is this the recipe?"
        elif self._nodes > _MAX_VALUES:
            what, fix = f"over {_MAX_VALUES:,} values", "is this the recipe?"
        else:
            return event
        raise RecipeError(what, _placed(event.start_mark, self._file), fix)


def _placed(mark: Any, name: str) -> str:
    return f"{name}:{mark.line + 1}:{mark.column + 1}"


def _explained(error: yaml.YAMLError, text: str, name: str) -> RecipeError:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        position = getattr(error, "position", None)
        number = text.count("\n", 0, position) + 1 if isinstance(position, int) else 1
        what = "it holds a character that YAML does not allow"
        return RecipeError(what, f"{name}:{number}:1", "take it out")
    place = _placed(mark, name)
    line = "".join(text.splitlines()[mark.line : mark.line + 1])
    if "\t" in line[: mark.column + 1]:
        return RecipeError("a tab where YAML takes spaces", place, "indent with spaces")
    said = " ".join(part for part in (error.context, error.problem) if part)  # type: ignore[attr-defined] # errors with a mark have both
    fix = "check quotes, colons and indentation"
    return RecipeError(f"it is not YAML: {said:.160}", place, fix)


def _position(node: yaml.Node) -> tuple[int, int]:
    return (node.start_mark.line + 1, node.start_mark.column + 1)


class _Reading:
    """Turn composed nodes into plain data."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.document = Document()
        self._text = text
        self._count = self._size = 0
        self._constructor = SafeConstructor()

    def value(self, node: yaml.Node, place: Place) -> Any:
        """Return the plain data of a node; add mistakes to the errors of the document."""
        self._spend(node)
        if len(place) > _MAX_DEPTH:
            raise self._bomb(node)
        kind = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return dict(self._items(node, place))
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            spots = {(*place, index): item for index, item in enumerate(node.value)}
            self.document.lines |= {spot: _position(item) for spot, item in spots.items()}
            return [self.value(item, spot) for spot, item in spots.items()]
        if isinstance(node, yaml.ScalarNode) and kind in _SCALARS:
            return self._scalar(node, kind, place)
        self._fail(f"the tag {shown(node.tag)} is not read", node, "take it out", place)
        return None

    def _spend(self, node: yaml.Node) -> None:
        """Count a node and its text, once for each alias that repeats it."""
        self._count += 1
        self._size += len(node.value) if isinstance(node, yaml.ScalarNode) else 0
        if self._count > _MAX_VALUES or self._size > MAX_CHARACTERS:
            raise self._bomb(node)

    def _bomb(self, node: yaml.Node) -> RecipeError:
        what = "its aliases repeat too much"
        return RecipeError(what, self._where(node), "write it out without `*`")

    def _items(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, Any]]:
        seen: dict[str, tuple[int, int]] = {}
        for key_node, value_node in node.value:
            self._spend(key_node)
            if key_node.tag == f"{_TAG}merge":
                self._fail("merge keys (`<<`) are not read", key_node, "write the keys out")
                continue
            key = self._key(key_node)
            if key is None:
                continue
            if key in seen:
                line = seen[key][0]
                what = f"the key {shown(key)} is repeated; it is at line {line} already"
                self._fail(what, key_node, "keep one of them")
                continue
            seen[key] = _position(key_node)
            self.document.lines[(*place, key)] = seen[key]
            yield key, self.value(value_node, (*place, key))

    def _key(self, node: yaml.Node) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}str":
            return self._characters(node, ())
        what = shown(node.value) if isinstance(node, yaml.ScalarNode) else "that begins here"
        self._fail(f"the key {what} is not text", node, "quote it")
        return None

    def _scalar(self, node: yaml.ScalarNode, kind: str, place: Place) -> Any:
        match kind:
            case "null":
                return None
            case "bool" | "int" | "float":
                return self._constructed(node, kind, place)
        number = EXPONENT.fullmatch(node.value)
        if number and self._is_plain(node) and {"args", "kwargs"} & set(place):
            what = f"YAML reads {shown(node.value)} as text"
            fix = f"write {with_point(node.value):.80}, or quote it if text is meant"
            self._fail(what, node, fix, place)
            return None
        return self._characters(node, place)

    def _is_plain(self, node: yaml.ScalarNode) -> bool:
        """Return whether a scalar has neither quotes nor a tag."""
        written = self._text[node.start_mark.index : node.end_mark.index]
        return node.style is None and "!" not in written

    def _constructed(self, node: yaml.ScalarNode, kind: str, place: Place) -> Any:
        """Return a truth value, or a number that a float can hold."""
        if len(node.value) <= _MAX_DIGITS:
            try:
                value = getattr(self._constructor, f"construct_yaml_{kind}")(node)
                if not math.isinf(value) or "inf" in node.value.lower():
                    return value
            except OverflowError:
                pass
            except (ValueError, IndexError, KeyError):
                what = "truth value" if kind == "bool" else "number"
                self._fail(f"{shown(node.value)} is not a {what}", node, "correct it", place)
                return None
        self._fail(f"{shown(node.value)} is too large a number", node, "correct it", place)
        return None

    def _characters(self, node: yaml.ScalarNode, place: Place) -> str | None:
        """Return a text; two halves of a character, as JSON escapes them, become one character."""
        try:
            return str(node.value.encode("utf-16", "surrogatepass").decode("utf-16"))
        except UnicodeDecodeError:
            what = f"{shown(node.value)} holds half a character"
            self._fail(what, node, "take it out", place)
            return None

    def _where(self, node: yaml.Node) -> str:
        return _placed(node.start_mark, self.name)

    def _fail(self, what: str, node: yaml.Node, fix: str, place: Place = ()) -> None:
        where = self._where(node)
        self.document.errors.setdefault(place or (where,), RecipeError(what, where, fix))
