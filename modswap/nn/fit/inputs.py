"""Judging whether a module that keeps a map's shape can stand at a site; needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, isqrt
from typing import NamedTuple

from modswap.core.decided.blueprint import Adaptation
from modswap.core.decided.verdict import structure_fix
from modswap.core.errors import ShapeError, UnreachedError
from modswap.core.finding import ADAPT
from modswap.core.seen.site import Call, Extent, Layout, Site, extent
from modswap.core.seen.values import NONE, Group, Plain, TensorInfo, Value, tensors

CLASS_TOKENS = 8  # so many tokens more than a square are taken for class or register tokens


class Size(NamedTuple):
    """Channels, height and width of a map, whatever its layout."""

    channels: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a site is given, as a module that takes one map sees it.

    Args:
        layout: How the map lies.
        sizes: Its size in every call.
        maps: The tensor itself in every call.
        ignores: Other inputs, by name or position, that carry nothing the module would need.
        keyword: Keyword that carries the map; empty where it comes by position.
        repeats: Other inputs, likewise, that were the map's very tensor in every call.
    """

    layout: Layout
    sizes: tuple[Size, ...]
    maps: tuple[TensorInfo, ...]
    ignores: tuple[str, ...]
    keyword: str
    repeats: tuple[str, ...] = ()


def read_inputs(site: Site, *, any_length: bool = False) -> Inputs:
    """Return what a site is given in each of its calls.

    Args:
        site: The site.
        any_length: Whether tokens that are no map will do; they count as a map of width 1.

    Raises:
        ShapeError: If it is never called, its layout is unknown, its channels differ between
            calls, its tokens are no map, or it is given what cannot be dropped.
    """
    found = [first_map(site, call) for call in called(site)]
    maps = tuple(tensor for _, tensor in found)
    layout, extents = read_layout(site, maps)
    sizes: list[Size] = []
    ignores: dict[str, None] = {}
    repeats = repeated(site, [name for name, _ in found])
    for call, (name, _), seen in zip(site.calls, found, extents, strict=True):
        size = _size(site, call, seen, any_length=any_length)
        sizes.append(size)
        ignores |= dict.fromkeys(_droppable(site, call, (name, *repeats), size))
    return Inputs(layout, tuple(sizes), maps, tuple(ignores), keyword_of(found), repeats)


def called(site: Site) -> tuple[Call, ...]:
    """Return the calls of a site.

    Raises:
        UnreachedError: If there are none.
    """
    if not site.calls:
        fix = "give an input that reaches it, or take it out of the rule"
        settings = (("exclude", site.path),)
        raise UnreachedError("the dummy forward never calls it", site.path, fix, settings=settings)
    return site.calls


def first_map(site: Site, call: Call) -> tuple[str, TensorInfo]:
    """Return the name and the tensor of the first input that is a tensor.

    Raises:
        ShapeError: If there is none, or tensors come in a container before it.
    """
    for name, value in call.named:
        if isinstance(value, TensorInfo):
            return name, value
        if any(True for _ in tensors(value)):
            break
    what = f"its first input is not a tensor: {call}"
    raise ShapeError(what, site.path, "select a module that is given one map")


def repeated(site: Site, carriers: Sequence[str]) -> tuple[str, ...]:
    """Return the other inputs that were the map's very tensor in every call.

    Args:
        site: The site.
        carriers: Name of the map in each call, or its position as text.
    """
    again = [call.repeats(name) for call, name in zip(site.calls, carriers, strict=True)]
    return tuple(name for name in again[0] if all(name in names for names in again))


def tensor_inputs(site: Site) -> tuple[TensorInfo, ...]:
    """Return the first tensor input of every call.

    Raises:
        ShapeError: If a call has none.
    """
    return tuple(first_map(site, call)[1] for call in site.calls)


def keyword_of(found: Sequence[tuple[str, TensorInfo]]) -> str:
    """Return the keyword by which any call gives its map; empty if all give it by position."""
    return next((name for name, _ in found if not name.isdigit()), "")


def read_layout(site: Site, maps: Sequence[TensorInfo]) -> tuple[Layout, tuple[Extent, ...]]:
    """Return the layout of a site, and the sizes of its maps in that layout.

    Args:
        site: The site.
        maps: Its map in every call; at least one.

    Raises:
        ShapeError: If the layout is unknown or does not fit a map's rank, or calls differ in
            channels.
    """
    told = [_told(site, tensor) for tensor in maps]
    extents = tuple(size for _, size in told)
    for size, call in zip(extents, site.calls, strict=True):
        if size.channels != extents[0].channels:
            what = f"its calls differ in channels: {site.calls[0]} and {call}"
            raise ShapeError(what, site.path, "select a module that has one number of channels")
    return told[0][0], extents


def _told(site: Site, tensor: TensorInfo) -> tuple[Layout, Extent]:
    fits = {4: "`layout: NCHW` or `layout: NHWC`", 3: "`layout: NLC`"}.get(len(tensor.shape))
    if fits is None:
        what = f"it is given {tensor}, expected a map of 4 axes or tokens of 3"
        raise ShapeError(what, site.path, "select a module that is given a map or tokens")
    why = f" ({site.layout_reason})" if site.layout_reason else ""
    if site.layout is None:
        what = f"cannot tell how {tensor} lies{why}"
        raise ShapeError(what, site.path, f"set {fits} in its rule")
    size = extent(tensor.shape, site.layout)
    if size is None:
        what = f"it is given {tensor}, which is not {site.layout}{why}"
        raise ShapeError(what, site.path, f"set {fits} in its rule")
    return site.layout, size


def _size(site: Site, call: Call, seen: Extent, *, any_length: bool) -> Size:
    if seen.height is not None and seen.width is not None:
        return Size(seen.channels, seen.height, seen.width)
    told = given_size(call, seen.tokens)
    if told is None and any_length:
        return Size(seen.channels, *token_row(seen.tokens))
    return Size(seen.channels, *(told or token_grid(site, call, seen.tokens)))


def token_row(tokens: int) -> tuple[int, int]:
    """Return height and width of tokens that need not be a map: a square, or a row of width 1."""
    side = isqrt(tokens)
    return (side, side) if side**2 == tokens else (tokens, 1)


def given_size(call: Call, tokens: int) -> tuple[int, int] | None:
    """Return the height and width that a call says beside its tokens."""
    numbers = [number for _, value in call.named for number in _numbers(value)]
    if len(numbers) == 2 and numbers[0] * numbers[1] == tokens:
        return numbers[0], numbers[1]
    return None


def token_grid(site: Site, call: Call, tokens: int) -> tuple[int, int]:
    """Return height and width of the map that a site's tokens make.

    The call says them, or the map is square, unless the tokens were seen to come from another.

    Args:
        site: The site.
        call: What it is given.
        tokens: How many.

    Raises:
        ShapeError: If they make no map, or not the one that they come from.
    """
    told = given_size(call, tokens)
    side = isqrt(tokens)
    square = (side, side)
    if told is not None or (side**2 == tokens and square in site.grids):
        return told or square
    for height, width in site.grids:
        if height * width == tokens:
            what = f"{tokens} tokens are a map of {height}x{width}, which the call does not say"
            fix = "give an input whose map is square, or select a module that is given H and W"
            raise ShapeError(f"{what}: {call}", site.path, fix)
    for height, width in (*site.grids, square):
        if 0 < tokens - height * width <= CLASS_TOKENS:
            raise _class_tokens(site, tokens, height, width)
    if side**2 != tokens:
        what = f"{tokens} tokens are no square, and the call does not give H and W: {call}"
        raise ShapeError(what, site.path, "select a module that is given a map")
    return square


def _class_tokens(site: Site, tokens: int, height: int, width: int) -> ShapeError:
    more = tokens - height * width
    extra = "a class token" if more == 1 else "class or register tokens"
    what = f"{tokens} tokens are no map: they look like {height}x{width} + {more} ({extra})"
    return ShapeError(what, site.path, "select a module that is given the map's tokens alone")


def _numbers(value: Value) -> list[int]:
    """Return a whole number, or the pair of them that a tuple holds."""
    if isinstance(value, Plain) and value.kind == "int":
        return [int(value.text)]
    if isinstance(value, Group) and value.kind in {"tuple", "list", "Size"}:
        inner = [number for item in value.items for number in _numbers(item)]
        return inner if len(inner) == len(value.items) == 2 else []
    return []


def is_off(value: Value) -> bool:
    """Return whether an input says nothing: None or false."""
    return value == NONE or value == Plain("bool", "False")


def is_request(name: str) -> bool:
    """Return whether an input's name says that it only asks for further outputs.

    Such a flag may be dropped where the site's output, which is compared as a whole, did not have
    them.
    """
    return name.startswith(("output_", "return_"))


def _droppable(site: Site, call: Call, carriers: Sequence[str], size: Size) -> list[str]:
    """Return the names of all inputs but the map, if every one can be dropped."""
    others = [(name, value) for name, value in call.named if name not in carriers]
    numbers = [number for _, value in others for number in _numbers(value)]
    sizes_given = numbers == [size.height, size.width]
    for name, value in others:
        if is_off(value) or (sizes_given and _numbers(value)):
            continue
        if is_request(name) and value == Plain("bool", "True"):
            continue
        which = f"input {name}" if name.isdigit() else f"{name!r}"
        what = f"it is also given {which}, {value}, which the new module does not take: {call}"
        what += told_apart(call, carriers[0], name)
        fix = cache_fix(value) or "select a module that is given the map alone"
        raise ShapeError(what, site.path, fix)
    return [name for name, _ in others]


def cache_fix(value: Value) -> str:
    """Return how a model is kept from giving a cache of keys and values; empty for others."""
    if isinstance(value, TensorInfo) or "Cache" not in value.kind:
        return ""
    return "add `{use_cache: false}` to the kwargs of the dummy input, under `inputs` of the recipe"


def told_apart(call: Call, carrier: str, name: str) -> str:
    """Return in words why an input is not dropped as the map's very tensor; empty if no map.

    Args:
        call: A call of the site.
        carrier: Name of its map, or its position as text.
        name: Name of the other input, likewise.
    """
    named = dict(call.named)
    first, other = named[carrier], named[name]
    if not isinstance(first, TensorInfo) or not isinstance(other, TensorInfo):
        return ""
    if name in call.repeats(carrier):
        return "; it is the same tensor as the first here, and not in every call"
    if len(first.shape) != len(other.shape) or first.dtype != other.dtype:
        return ""
    return "; it is another tensor than the first, as in cross-attention"


class Change(NamedTuple):
    """What lies between the map that a module gives in one call and the output of its site.

    Args:
        needed: What has to be added behind the module; its stride is not yet chosen.
        strides: The pooling windows that would do.
    """

    needed: Adaptation
    strides: frozenset[tuple[int, int]]


def judge_output(
    site: Site, layout: Layout, given: Sequence[tuple[TensorInfo, Size]], *, adapt: bool
) -> Adaptation | None:
    """Return what has to be added behind a module for its site to give what it gave; None: nothing.

    Args:
        site: The site.
        layout: How its map lies.
        given: The map that the module gives, in the site's layout, and its size, in every call.
        adapt: Whether something may be added.

    Raises:
        ShapeError: If something had to be added and may not be, or nothing suffices.
    """
    pairs = list(zip(site.calls, given, strict=True))
    if all(call.output == tensor for call, (tensor, _) in pairs):
        return None
    changes: list[Change] = []
    for call, (tensor, size) in pairs:
        change = _change(call.output, tensor, size, layout)
        if change is None:
            other = structure_fix(call.output, tensor) or "change `args` or `match`"
            fix = f"no projection or pooling makes up for that: {other}"
            raise ShapeError(mismatch(call, tensor), site.path, fix)
        changes.append(change)
    if not adapt:
        what = next(mismatch(call, tensor) for call, (tensor, _) in pairs if call.output != tensor)
        raise ShapeError(what, site.path, "set `adapt: true` in its rule", settings=ADAPT)
    strides = frozenset.intersection(*(change.strides for change in changes))
    if not strides or len({change.needed for change in changes}) > 1:
        calls = " and ".join(dict.fromkeys(map(str, site.calls)))
        fix = "select a module that changes its map in one way"
        raise ShapeError(f"its calls differ in how they change it: {calls}", site.path, fix)
    return replace(changes[0].needed, stride=min(strides))


def mismatch(call: Call, given: Value) -> str:
    """Return the sentence that names what a site gives and what the new module gives."""
    taken = ", ".join(map(str, call.inputs))
    return f"the site turns {taken} into {call.output}, the new module into {given}"


def _change(output: Value, given: TensorInfo, size: Size, layout: Layout) -> Change | None:
    """Return what lies between a module's map and its site's output; None if too much."""
    tensor, length = map_given(output)
    if tensor is None or tensor.dtype != given.dtype or tensor.shape[:1] != given.shape[:1]:
        return None
    seen = extent(tensor.shape, layout)
    strides = _strides(size, tensor, layout)
    if seen is None or not strides:
        return None
    container = "tuple" if length else ""
    needed = Adaptation(size.channels, seen.channels, (1, 1), container, length)
    return Change(needed, frozenset(strides))


def map_given(output: Value) -> tuple[TensorInfo | None, int]:
    """Return the map that a site gives, and the length of the tuple it comes in, 0 for none."""
    if isinstance(output, TensorInfo):
        return output, 0
    if isinstance(output, Group) and output.kind == "tuple" and output.items:
        first, *rest = output.items
        if isinstance(first, TensorInfo) and all(value == NONE for value in rest):
            return first, len(output.items)
    return None, 0


def _strides(size: Size, output: TensorInfo, layout: Layout) -> set[tuple[int, int]]:
    """Return the pooling windows, rounding up, that bring a map to the size of an output."""
    seen = extent(output.shape, layout)
    if seen is None:
        return set()
    if seen.height is None or seen.width is None:
        steps = range(1, max(size.height, size.width) + 1)
        sizes = {step: ceil(size.height / step) * ceil(size.width / step) for step in steps}
        return {(step, step) for step, tokens in sizes.items() if tokens == seen.tokens}
    rows = [s for s in range(1, size.height + 1) if ceil(size.height / s) == seen.height]
    columns = [s for s in range(1, size.width + 1) if ceil(size.width / s) == seen.width]
    return {(row, column) for row in rows for column in columns}
