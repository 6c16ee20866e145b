"""What every replacement has to know of its site before it can be made; needs no torch."""

from dataclasses import dataclass, replace
from math import isqrt

from modswap.core.blueprint import Adaptation
from modswap.core.errors import ShapeError
from modswap.core.site import Call, Extent, Layout, Site, extent
from modswap.core.values import NONE, Group, Plain, TensorInfo, Value

CHOOSE = "choose another module for this site, or exclude it"


@dataclass(frozen=True, slots=True)
class Ground:
    """What a site gives to a replacement that takes one map.

    Args:
        layout: How the map lies at the site.
        extents: Its sizes in every call; tokens that fill a grid have a height and a width.
        ignores: Other inputs, all None or the grid's sizes, by name or position.
        named: The keyword by which the map comes; empty if by position.
    """

    layout: Layout
    extents: tuple[Extent, ...]
    ignores: tuple[str, ...] = ()
    named: str = ""

    @property
    def channels(self) -> int:
        """Return the number of channels, the same in every call."""
        return self.extents[0].channels

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Return height and width of every call that has them, each once."""
        pairs = ((e.height, e.width) for e in self.extents)
        return tuple(dict.fromkeys((h, w) for h, w in pairs if h is not None and w is not None))


def ground_of(site: Site) -> Ground:
    """Return what a site gives to a replacement that takes one map.

    Raises:
        ShapeError: If the site was never called, its layout is unknown, its channels change, or it
            is given what a replacement of one map cannot take.
    """
    require_calls(site)
    layout = require_layout(site)
    seen = tuple(_one_call(site, call, layout) for call in site.calls)
    first = seen[0]
    for one, call in zip(seen[1:], site.calls[1:], strict=True):
        if one.channels != first.channels:
            what = f"its calls have other channels: {site.calls[0]} and {call}"
            raise ShapeError(what, site.path, CHOOSE)
        if (one.ignores, one.named) != (first.ignores, first.named):
            merged = tuple(dict.fromkeys((*first.ignores, *one.ignores)))
            first = replace(first, ignores=merged, named=first.named or one.named)
    return replace(first, extents=tuple(one.extents[0] for one in seen))


def require_calls(site: Site) -> None:
    """Refuse a site that the pass never reached.

    Raises:
        ShapeError: If there are no calls.
    """
    if not site.calls:
        what = "the dummy forward never calls it, and what is not seen cannot be verified"
        fix = "give `inputs` that reach it, or exclude it"
        raise ShapeError(what, site.path, fix)


def require_layout(site: Site) -> Layout:
    """Return the layout of a site.

    Raises:
        ShapeError: If it is unknown.
    """
    if site.layout is not None:
        return site.layout
    shape = site.input.shape if site.input else ()
    what = f"how its input {shape} lies cannot be told: {site.layout_reason}"
    raise ShapeError(what, site.path, "set `layout: NCHW`, `NHWC` or `NLC` on its rule")


def _one_call(site: Site, call: Call, layout: Layout) -> Ground:
    named = [(str(i), value) for i, value in enumerate(call.args)] + list(call.kwargs)
    maps = [(name, value) for name, value in named if isinstance(value, TensorInfo)]
    if not maps:
        raise ShapeError(f"it is given no tensor: {call}", site.path, CHOOSE)
    name, first = maps[0]
    others = [(other, value) for other, value in named if other != name]
    sizes = extent(first.shape, layout)
    if sizes is None:
        what = f"layout {layout} does not fit its input {first}"
        raise ShapeError(what, site.path, "correct `layout` on its rule")
    grid = _grid(others)
    if any(value != NONE for _, value in others) and not _is_grid(others, grid, sizes):
        what = f"it is called as {call}, and the new module takes one map only"
        raise ShapeError(what, site.path, CHOOSE)
    if layout == "NLC":
        sizes = _on_grid(site, sizes, grid)
    keyword = "" if name.isdigit() else name
    return Ground(layout, (sizes,), tuple(other for other, _ in others), keyword)


def _grid(others: list[tuple[str, Value]]) -> tuple[int, int] | None:
    """Return (H, W) if two whole numbers are given beside the map."""
    numbers = [int(v.text) for _, v in others if isinstance(v, Plain) and v.kind == "int"]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def _is_grid(
    others: list[tuple[str, Value]], grid: tuple[int, int] | None, sizes: Extent
) -> bool:
    """Return whether the other inputs are the grid's height and width, and None."""
    plain = all(isinstance(v, Plain) and v.kind in {"int", "NoneType"} for _, v in others)
    return plain and grid is not None and grid[0] * grid[1] == sizes.tokens


def _on_grid(site: Site, sizes: Extent, grid: tuple[int, int] | None) -> Extent:
    side = isqrt(sizes.tokens)
    if grid is None and side * side != sizes.tokens:
        what = f"its {sizes.tokens} tokens fill no square grid"
        extra = sizes.tokens - side * side
        if 1 <= extra <= 5:
            what += f" ({side}x{side} and {extra} class or register tokens)"
        raise ShapeError(what, site.path, CHOOSE)
    height, width = grid or (side, side)
    return replace(sizes, height=height, width=width)


def adaptation_for(site: Site, ground: Ground, *, adapt: bool) -> Adaptation | None:
    """Return what must follow a module that keeps its input's shape, or None for nothing.

    Args:
        site: The site.
        ground: What it gives.
        adapt: Whether the rule lets a projection or pooling be added.

    Raises:
        ShapeError: If the site's output cannot be given.
    """
    wanted = {_adaptation(site, call, sizes, ground)
              for call, sizes in zip(site.calls, ground.extents, strict=True)}  # fmt: skip
    if len(wanted) > 1:
        raise ShapeError("its calls change their input in different ways", site.path, CHOOSE)
    found = wanted.pop()
    if found is not None and not adapt:
        call = site.calls[0]
        what = f"the site turns {call.inputs[0]} into {call.output}, the new module keeps its input"
        raise ShapeError(what, site.path, "set `adapt: true` on its rule, or exclude it")
    return found


def _adaptation(site: Site, call: Call, sizes: Extent, ground: Ground) -> Adaptation | None:
    output, container, length = call.output, "", 0
    if isinstance(output, Group) and output.kind in {"tuple", "list"} and output.items:
        first, *rest = output.items
        if all(value == NONE for value in rest):
            output, container, length = first, output.kind, len(rest) + 1
    given = next(value for value in call.inputs if isinstance(value, TensorInfo))
    impossible = ShapeError(
        f"the site turns {given} into {call.output}, which the new module cannot give",
        site.path,
        CHOOSE,
    )
    if not isinstance(output, TensorInfo) or output.dtype != given.dtype:
        raise impossible
    if output.shape == given.shape and not container:
        return None
    after = extent(output.shape, ground.layout)
    if after is None or output.shape[0] != given.shape[0]:
        raise impossible
    stride = _stride(sizes, after)
    if stride is None:
        raise impossible
    return Adaptation(sizes.channels, after.channels, stride, container, length)


def _stride(before: Extent, after: Extent) -> tuple[int, int] | None:
    """Return the pooling window that turns one size into the other, or None."""
    if before.tokens == after.tokens:
        return (1, 1)
    if before.height is None or before.width is None or after.height is None or not after.width:
        return None
    strides = []
    for old, new in ((before.height, after.height), (before.width, after.width)):
        stride = -(-old // new)
        if -(-old // stride) != new:
            return None
        strides.append(stride)
    return (strides[0], strides[1])
