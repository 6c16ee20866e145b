"""Read the map and the other inputs of a site from its recorded calls."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import NamedTuple

from modswap.core.errors import ShapeError, UnreachedError
from modswap.core.seen.site import BY_RULE, Call, Extent, Grid, Layout, Site, extent
from modswap.core.seen.values import NONE, Group, Plain, TensorInfo, Value, tensors
from modswap.nn.fit.further_inputs import further_fix, shown_input

MAX_CLASS_TOKENS = 8  # tokens beyond a map, up to so many, count as class or register tokens
_WHOLE = (
    "select a module around it that is given whole maps or tokens; if these are maps, set the "
    "`layout` of its rule"
)
_LENGTH_FIRST = "(length, batch, channels)"
_TOKENS_FIX = "choose a module that takes tokens, such as MultiHeadSelfAttention"


class Size(NamedTuple):
    """Channels, height and width of a map in any layout."""

    channels: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


@dataclass(frozen=True, slots=True)
class MapInputs:
    """The inputs of a site, as a module that takes a single map needs them."""

    layout: Layout  # of the map
    sizes: tuple[Size, ...]  # of the map in each call
    maps: tuple[TensorInfo, ...]  # the map's tensor in each call
    # names (or positions as text) of inputs that the module can do without
    ignores: tuple[str, ...]
    keyword: str  # empty where the map comes by position
    # names (or positions as text) of inputs that were the map's tensor itself in every call
    repeats: tuple[str, ...] = ()
    # names (or positions as text) of inputs that are not passed on, of any value
    drops: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """Return the channels of the map, the same in every call."""
        return self.sizes[0].channels

    @property
    def map_layout(self) -> Layout:
        """Return the layout for a module that takes maps only: tokens become NHWC maps."""
        return "NHWC" if self.layout == "NLC" else self.layout

    @property
    def sized_maps(self) -> list[tuple[TensorInfo, Size]]:
        """Return the tensor and the size of the map in each call."""
        return list(zip(self.maps, self.sizes, strict=True))


def read_inputs(site: Site, *, any_length: bool = False) -> MapInputs:
    """Return the inputs of a site over all its calls.

    Args:
        site: The site.
        any_length: Accept tokens that are not known to be a map; they count as one of width 1.

    Raises:
        ShapeError: If the site is never called, its layout is unknown, its channels differ between
            calls, its tokens are no map, or it takes an input that cannot be dropped.
    """
    found = [first_map(site, call) for call in called(site)]
    maps = tuple(tensor for _, tensor in found)
    layout, extents = read_layout(site, maps)
    sizes: list[Size] = []
    ignores: dict[str, None] = {}
    repeats = repeated(site, [name for name, _ in found])
    drops = dropped(site)
    for call, (name, tensor), seen in zip(site.calls, found, extents, strict=True):
        if name in call.windows and site.layout_reason != BY_RULE:
            what = f"it is given {tensor}: windows of a map, as the pass shows, and no map"
            raise ShapeError(what, site.path, _WHOLE)
        size = _size(site, call, seen, any_length=any_length)
        sizes.append(size)
        ignores |= dict.fromkeys(_droppable(site, call, (name, *repeats, *drops), size))
    return MapInputs(layout, tuple(sizes), maps, tuple(ignores), keyword_of(found), repeats, drops)


def dropped(site: Site) -> tuple[str, ...]:
    """Return the inputs that are not passed on.

    They are all but the map where the rule picks that, else those that the old module ignores.
    """
    if not site.carrier:
        return site.unused
    others = [
        name
        for call in site.calls
        for name, value in call.named
        if name != first_map(site, call)[0] and not is_off(value)
    ]
    return tuple(dict.fromkeys(others))


def called(site: Site) -> tuple[Call, ...]:
    """Return the calls of a site; refuse a site without any."""
    if not site.calls:
        fix = "give an input that reaches it, or take it out of the rule"
        settings = (("exclude", site.path),)
        raise UnreachedError("the dummy forward never calls it", site.path, fix, settings=settings)
    return site.calls


def first_map(site: Site, call: Call) -> tuple[str, TensorInfo]:
    """Return the name and the tensor of the input that is a call's map.

    That is the input which the rule picks, or else the first tensor that the old module uses.

    Raises:
        ShapeError: If no input is a tensor, a container of tensors comes first, or there is no
            such tensor as the rule picks.
    """
    if site.carrier:
        return _picked(site, call)
    for name, value in call.named:
        if name in site.unused:
            continue
        if isinstance(value, TensorInfo):
            return name, value
        if any(True for _ in tensors(value)):
            break
    what = f"its first input is not a tensor: {call}"
    raise ShapeError(
        what,
        site.path,
        "select a module that is given one map, or name a class of yours that takes these inputs",
    )


def of_its_map(site: Site) -> Site:
    """Return a site with the layout of the input that is its map, where that is not the first."""
    if not site.calls or not (site.carrier or site.unused):
        return site
    name, _ = first_map(site, site.calls[0])
    found = next((entry for entry in site.layouts if entry[0] == name), None)
    return site if found is None else replace(site, layout=found[1], layout_reason=found[2])


def _picked(site: Site, call: Call) -> tuple[str, TensorInfo]:
    """Return the input that the rule picks by its position or name."""
    names = dict(enumerate(site.names))
    positions = {name: str(position) for position, name in names.items()}
    other = names.get(int(site.carrier)) if site.carrier.isdigit() else positions.get(site.carrier)
    named = dict(call.named)
    for name in (site.carrier, other):
        value = named.get(name) if name is not None else None
        if isinstance(value, TensorInfo):
            return str(name), value
    what = f"its rule says `input: {site.carrier}`, which is no tensor of its call: {call}"
    tensors_of = [name for name, value in call.named if isinstance(value, TensorInfo)]
    fix = f"set `input` to one of {', '.join(tensors_of)}" if tensors_of else "take `input` out"
    raise ShapeError(what, site.path, fix)


def repeated(site: Site, carriers: Sequence[str]) -> tuple[str, ...]:
    """Return the other inputs that were the same tensor object as the map in every call."""
    again = [call.repeats(name) for call, name in zip(site.calls, carriers, strict=True)]
    return tuple(name for name in again[0] if all(name in names for names in again))


def tensor_inputs(site: Site) -> tuple[TensorInfo, ...]:
    """Return the first tensor input of every call; refuse a call without any."""
    return tuple(first_map(site, call)[1] for call in site.calls)


def keyword_of(found: Sequence[tuple[str, TensorInfo]]) -> str:
    """Return the keyword that carries the map in some call; empty if all calls use positions."""
    return next((name for name, _ in found if not name.isdigit()), "")


def read_layout(site: Site, maps: Sequence[TensorInfo]) -> tuple[Layout, tuple[Extent, ...]]:
    """Return the layout of a site, and the sizes of its maps, at least one, in that layout.

    Raises:
        ShapeError: If the layout is unknown or does not fit a map's rank, or calls differ in
            channels.
    """
    read = [_layout_and_extent(site, tensor) for tensor in maps]
    extents = tuple(size for _, size in read)
    for size, call in zip(extents, site.calls, strict=True):
        if size.channels != extents[0].channels:
            what = f"its calls differ in channels: {site.calls[0]} and {call}"
            raise ShapeError(what, site.path, "select a module that has one number of channels")
    return read[0][0], extents


def _layout_and_extent(site: Site, tensor: TensorInfo) -> tuple[Layout, Extent]:
    fits = {4: "`layout: NCHW` or `layout: NHWC`", 3: "`layout: NLC`"}.get(len(tensor.shape))
    if fits is None:
        what = f"it is given {tensor}, expected a map of 4 axes or tokens of 3"
        raise ShapeError(what, site.path, "select a module that is given a map or tokens")
    why = f" ({site.layout_reason})" if site.layout_reason else ""
    if site.layout is None:
        what = f"the layout of {tensor} is unknown{why}"
        raise ShapeError(what, site.path, _layout_fix(site, fits))
    size = extent(tensor.shape, site.layout)
    if size is None:
        what = f"it is given {tensor}, which is not {site.layout}{why}"
        raise ShapeError(what, site.path, f"set {fits} in its rule")
    return site.layout, size


def _layout_fix(site: Site, fits: str) -> str:
    """Return the fix where no layout is known: none of a rule is right for some tensors."""
    if site.other_layout == "LNC":
        fix = "modules of the catalogue take the batch first: build the model with "
        return f"{fix}`batch_first=True`, or swap in a class of yours that takes {_LENGTH_FIRST}"
    if site.other_layout == "NCL":
        return "swap in a class that takes (batch, channels, length), such as `torch.nn:Conv1d`"
    return f"set {fits} in its rule"


def _size(site: Site, call: Call, seen: Extent, *, any_length: bool) -> Size:
    if seen.height is not None and seen.width is not None:
        if site.grid is not None:
            what = f"its rule says `grid`, and it is given maps of {seen.height}x{seen.width}"
            raise ShapeError(what, site.path, "take `grid` out", settings=(("grid", None),))
        return Size(seen.channels, seen.height, seen.width)
    if not any_length:
        return Size(seen.channels, *token_grid(site, call, seen.tokens))
    grid = site.grid or given_size(call, seen.tokens) or call.grid(first_map(site, call)[0])
    return Size(seen.channels, *(grid or (seen.tokens, 1)))


def given_size(call: Call, tokens: int) -> tuple[int, int] | None:
    """Return the height and width that a call passes beside its tokens."""
    numbers = [number for _, value in call.named for number in _numbers(value)]
    if len(numbers) == 2 and numbers[0] * numbers[1] == tokens:
        return numbers[0], numbers[1]
    return None


def token_grid(site: Site, call: Call, tokens: int) -> Grid:
    """Return height and width of the map that a site's tokens make.

    The rule says them, the call passes them, or the pass showed a square map that was flattened
    into these tokens. That their number is a square says nothing.

    Raises:
        ShapeError: If the tokens are not known to be a map, or are one that is not square, as
            nothing shows the shape that it has for another input.
    """
    if site.grid is not None:
        return _ruled_grid(site, site.grid, tokens)
    stated = given_size(call, tokens)
    if stated is not None:
        return stated
    seen = call.grid(first_map(site, call)[0])
    if seen is None:
        raise _no_map(site, call, tokens)
    height, width = seen
    if height != width:
        what = f"{tokens} tokens are a map of {height}x{width}, which the call does not say: {call}"
        fix = f"set `grid: [{height}, {width}]` in its rule, which then takes this size alone, "
        fix += "or give an input whose map is square"
        raise ShapeError(what, site.path, fix, settings=(("grid", [height, width]),))
    return seen


def _ruled_grid(site: Site, grid: Grid, tokens: int) -> Grid:
    height, width = grid
    if height * width != tokens:
        what = f"`grid` is {height}x{width}, and the site is given {tokens} tokens"
        raise ShapeError(what, site.path, "correct `grid`")
    return grid


def _no_map(site: Site, call: Call, tokens: int) -> ShapeError:
    """Return the error of tokens that no pass showed to come from a map."""
    side = isqrt(tokens)
    square = ((side, side),) if side**2 != tokens else ()
    for height, width in (*site.grids, *square):
        more = tokens - height * width
        if 0 < more <= MAX_CLASS_TOKENS:
            extra = "a class token" if more == 1 else "class or register tokens"
            what = f"{tokens} tokens are no map: they look like {height}x{width} + {more} ({extra})"
            return ShapeError(what, site.path, f"{_TOKENS_FIX}, or select one that is given a map")
    what = f"{tokens} tokens do not come from a map that was flattened, as far as the pass shows"
    fix = f"{_TOKENS_FIX}; if they are a map, set `grid: [H, W]` in its rule"
    return ShapeError(f"{what}, and the call does not give H and W: {call}", site.path, fix)


def _numbers(value: Value) -> list[int]:
    """Return a whole number, or the two whole numbers of a pair, as a list."""
    if isinstance(value, Plain) and value.kind == "int":
        return [int(value.text)]
    if isinstance(value, Group) and value.kind in {"tuple", "list", "Size"}:
        inner = [number for item in value.items for number in _numbers(item)]
        return inner if len(inner) == len(value.items) == 2 else []
    return []


def is_off(value: Value) -> bool:
    """Return whether an input is None or false, and so carries no information."""
    return value == NONE or value == Plain("bool", "False")


def is_request(name: str) -> bool:
    """Return whether an input's name only asks for further outputs.

    Such a flag may be dropped: the site's output is compared as a whole, so a missing output is
    seen.
    """
    return name.startswith(("output_", "return_"))


def _droppable(site: Site, call: Call, carriers: Sequence[str], size: Size) -> list[str]:
    """Return the names of all inputs except the map; refuse inputs that the module would need."""
    others = [(name, value) for name, value in call.named if name not in carriers]
    for name, value in _needed(others, size):
        which = shown_input(site, name)
        what = f"it is also given {which}, {value}, which the new module does not take: {call}"
        what += difference_note(call, carriers[0], name)
        fix = further_fix(site, call, name, value)
        if isinstance(value, TensorInfo):
            fix += f"; `input: {carriers[0]}` in the rule uses that one alone"
        fix += ", and `exclude` leaves the site out"
        raise ShapeError(what, site.path, fix)
    return [name for name, _ in others]


def _needed(others: Sequence[tuple[str, Value]], size: Size) -> Iterator[tuple[str, Value]]:
    """Yield the inputs except None, false, the map's size and requests for outputs."""
    numbers = [number for _, value in others for number in _numbers(value)]
    sizes_given = numbers == [size.height, size.width]
    for name, value in others:
        asks = is_request(name) and value == Plain("bool", "True")
        if not (is_off(value) or asks or (sizes_given and _numbers(value))):
            yield name, value


def difference_note(call: Call, carrier: str, name: str) -> str:
    """Return in words how another map differs from the first; empty if it does not."""
    named = dict(call.named)
    first, other = named[carrier], named[name]
    if not isinstance(first, TensorInfo) or not isinstance(other, TensorInfo):
        return ""
    if name in call.repeats(carrier):
        return "; it is the same tensor as the first here, and not in every call"
    if len(first.shape) != len(other.shape) or first.dtype != other.dtype:
        return ""
    return "; it is another tensor than the first, as in cross-attention"
