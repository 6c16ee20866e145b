"""Compare the map that a new module returns with the output of its site."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import ceil
from typing import Any, NamedTuple

from modswap.core.decided.blueprint import Adaptation
from modswap.core.decided.outputs import is_resized
from modswap.core.decided.verdict import structure_fix
from modswap.core.errors import OutputError, ShapeError
from modswap.core.finding import ADAPT, Settings
from modswap.core.seen.site import Call, Extent, Layout, Site, extent
from modswap.core.seen.values import NONE, Group, TensorInfo, Value, tensors
from modswap.nn.fit.inputs import Size

CHANGED = "`output: changed`"  # of a rule whose module gives other sizes on purpose


class _Change(NamedTuple):
    """The steps from a module's map to the output of its site, in one call."""

    needed: Adaptation  # its stride is not yet chosen
    strides: frozenset[tuple[int, int]]  # the pooling windows that suffice


def judge_output(
    site: Site, layout: Layout, given: Sequence[tuple[TensorInfo, Size]], *, adapt: bool
) -> Adaptation | None:
    """Return the adaptation that a module needs to return its site's output; None for none.

    `given` is the map that the module returns, in the site's layout, and its size, in every call.

    Raises:
        ShapeError: If an adaptation is needed and not allowed, or none suffices.
    """
    pairs = list(zip(site.calls, given, strict=True))
    if all(call.output == tensor for call, (tensor, _) in pairs):
        return None
    changes = [_change(site, call, given_map, layout) for call, given_map in pairs]
    if not adapt:
        call, tensor = next((call, tensor) for call, (tensor, _) in pairs if call.output != tensor)
        raise other_output(site, call, tensor, "set `adapt: true` in its rule", ADAPT)
    strides = frozenset.intersection(*(change.strides for change in changes))
    if not strides or len({change.needed for change in changes}) > 1:
        calls = " and ".join(dict.fromkeys(map(str, site.calls)))
        fix = "select a module that changes its map in one way"
        raise ShapeError(f"its calls differ in how they change it: {calls}", site.path, fix)
    return replace(changes[0].needed, stride=min(strides))


def mismatch(call: Call, given: Value) -> str:
    """Return the sentence that names the outputs of a site and of its new module."""
    taken = ", ".join(map(str, call.inputs))
    return f"the site turns {taken} into {call.output}, the new module into {given}"


def other_channels(before: Value, after: Value) -> bool:
    """Return whether two outputs are tensors that differ in the size of one axis at most."""
    if not (isinstance(before, TensorInfo) and isinstance(after, TensorInfo)):
        return False
    if (len(before.shape), before.dtype) != (len(after.shape), after.dtype):
        return False
    return sum(old != new for old, new in zip(before.shape, after.shape, strict=True)) < 2


def other_output(
    site: Site, call: Call, given: Value, fix: str, settings: Settings = ()
) -> OutputError:
    """Return the error for a module that gives another output than its site."""
    error = OutputError(mismatch(call, given), site.path, fix, settings=settings)
    error.resized = is_resized(call.output, given)
    if error.resized and isinstance(call.output, TensorInfo) and isinstance(given, TensorInfo):
        axes = zip(call.output.shape, given.shape, strict=True)
        error.sizes = tuple(new for old, new in axes if old != new)
    return error


def as_head(error: OutputError, *, is_last: bool | None, named: Iterable[Any]) -> OutputError:
    """Return an error that also says how a rule changes the output on purpose, as a head does.

    It stays as it is where the structure differs, or a layer of weights reads the output. Its
    settings stay as well: `--fix` keeps what a model returns.

    Args:
        error: The error.
        is_last: As of the site.
        named: The arguments of the rule. One that is the new size shows what is meant.
    """
    if is_last is False or not error.resized or CHANGED in error.fix:
        return error
    if is_last and any(type(one) is int and one in error.sizes for one in named):
        fix = f"set {CHANGED} in its rule, as for a new head; to keep its output: {error.fix}"
    else:
        fix = f"{error.fix}; or set {CHANGED} in its rule, as for a new head"
    return error.with_fix(fix)


def _change(site: Site, call: Call, given: tuple[TensorInfo, Size], layout: Layout) -> _Change:
    """Return the steps from a module's map to its site's output."""
    module_map, size = given
    tensor, length = map_given(call.output)
    seen = extent(tensor.shape, layout) if tensor else None
    strides = _strides(size, seen)
    kept = (module_map.dtype, module_map.shape[:1])
    if tensor and seen and strides and kept == (tensor.dtype, tensor.shape[:1]):
        container = "tuple" if length else ""
        needed = Adaptation(size.channels, seen.channels, (1, 1), container, length)
        return _Change(needed, strides)
    other = structure_fix(call.output, module_map) or "change `args` or `match`"
    fix = f"no projection or pooling makes up for that: {other}"
    kinds = {one.dtype for value in call.inputs for one in tensors(value)}
    if tensor is not None and tensor.shape == module_map.shape and kinds == {tensor.dtype}:
        fix = f"it gives {module_map.dtype}: end its forward with `.to(x.dtype)`"
    raise other_output(site, call, module_map, fix)


def map_given(output: Value) -> tuple[TensorInfo | None, int]:
    """Return the map that a site returns, and the length of the tuple that holds it, 0 for none."""
    if isinstance(output, TensorInfo):
        return output, 0
    if isinstance(output, Group) and output.kind == "tuple" and output.items:
        first, *rest = output.items
        if isinstance(first, TensorInfo) and all(value == NONE for value in rest):
            return first, len(output.items)
    return None, 0


def _strides(size: Size, seen: Extent | None) -> frozenset[tuple[int, int]]:
    """Return the pooling windows, rounding up, that bring a map to the size of an output."""
    if seen is None:
        return frozenset()
    if seen.height is None or seen.width is None:
        steps = range(1, _most(size) + 1)
        sizes = {step: ceil(size.height / step) * ceil(size.width / step) for step in steps}
        return frozenset((step, step) for step, tokens in sizes.items() if tokens == seen.tokens)
    rows, columns = _steps(size.height, seen.height), _steps(size.width, seen.width)
    return frozenset((row, column) for row in rows for column in columns)


def _most(size: Size) -> int:
    """Return the largest pooling window; tokens that may be no map, of width 1, are not pooled."""
    return max(size.height, size.width) if size.width > 1 else 1


def _steps(length: int, wanted: int) -> list[int]:
    """Return the strides that turn one length into another, rounding up."""
    return [step for step in range(1, length + 1) if ceil(length / step) == wanted]
