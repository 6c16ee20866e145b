"""Run a model before and after a swap at many input sizes, on tensors without data."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice

import torch
from torch import nn

from modswap.core.decided.outputs import is_resized
from modswap.core.errors import ShapeError
from modswap.core.seen.site import Site
from modswap.core.seen.values import Value, difference, tensors
from modswap.core.sizes.probes import few_sizes_to_try, rectangles, sizes_to_try
from modswap.core.sizes.two_axes import Size
from modswap.live_values import describe
from modswap.nn.attention_backend import plain_attention
from modswap.nn.fake_tensors import needs_values
from modswap.nn.fit.inputs import token_grid
from modswap.ops.build.fit import Built
from modswap.ops.examine.bench import Bench
from modswap.ops.examine.sizing.calls import Varied, varied, without_data
from modswap.ops.run.describe import one_line
from modswap.ops.run.forward import pass_dtype
from modswap.ops.run.inputs import Case, DummyCall
from modswap.ops.run.isolation import Snapshot, untouched
from modswap.ops.run.shape_shortcuts import Shortcuts
from modswap.ops.run.stand_ins import KeptStandIns, StandIns, fake_values, meta_values
from modswap.ops.trace.passes import trace
from modswap.ops.trace.sites import sites_of

# calls of modules over all sizes; by a clock a busy machine would try fewer sizes
MAX_CALLS = 20_000
MAX_THOROUGH_CALLS = 30 * MAX_CALLS


@dataclass(frozen=True, slots=True)
class Sweep:
    """The results at every size that was tried."""

    way: Varied  # of varying the call
    swapped: Mapping[Size, bool]  # whether the swapped model took it, with outputs as before
    original: Mapping[Size, bool]  # whether the original took it
    told: Mapping[Size, str]  # the difference, where the outputs differ
    stride: int = 1  # of the model's smallest map, in pixels of its input

    @property
    def refused(self) -> list[Size]:
        """Return the sizes that the original took and the swapped model refuses.

        Those that a user of the model would choose come first: multiples of its stride, near the
        dummy input's.
        """
        lost = [size for size, ok in self.swapped.items() if not ok and self.original[size]]
        return sorted(lost, key=self._unlikely)

    def _unlikely(self, size: Size) -> tuple[bool, int]:
        away = max(abs(side - by) for side, by in zip(size, self.way.first, strict=True))
        return any(side % self.stride for side in size), away

    @property
    def lost(self) -> list[Size]:
        """Return the refused sizes of which no side is below half of the dummy input's."""
        first = self.way.first
        return [
            size
            for size in self.refused
            if all(2 * side >= by for side, by in zip(size, first, strict=True))
        ]


class NoSweepError(Exception):
    """Raised where no sizes can be tried, with the reason."""


def sweep(bench: Bench, budget: int | None = None) -> Sweep:
    """Return which sizes the swapped model and the original take.

    The most informative sizes are tried first, until a rule is known or the budget of calls of
    modules, at all sizes but the first, is used; None for as many as the bench allows.

    Raises:
        NoSweepError: If its input has no size to vary, it cannot run without data, or the model is
            too large to be run twice more.
    """
    case = bench.prepared.cases[0]
    ways = list(varied(case.call))
    if not ways:
        raise NoSweepError("the dummy input has neither a map nor a sequence")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # given once for each size otherwise
        pair = _pair(bench, case)
        # of a map one way is all there is
        way = next((way for way in ways[:-1] if pair.varies(way)), ways[-1])
        allowed = MAX_THOROUGH_CALLS if bench.thorough else MAX_CALLS
        return _swept(pair, way, allowed if budget is None else budget)


class _Side:
    """The model as it is before the swap, or after it, for run after run on stand-ins of a kind."""

    def __init__(self, model: nn.Module, case: Case, values: StandIns) -> None:
        self.model = model
        self.training = case.mode == "train"
        self.dtype = pass_dtype(model, case)
        self.device = "meta" if values is meta_values else "cpu"
        self.values: StandIns = KeptStandIns() if values is meta_values else values
        self.snapshot = Snapshot(model)

    def run(self, call: DummyCall) -> Value | BaseException:
        """Return the output of the model, or its exception."""
        snapshot = self.snapshot
        with (
            untouched(self.model, training=self.training, unreal=True, snapshot=snapshot),
            torch.no_grad(),
        ):
            try:
                with plain_attention(), self.values(self.model, self.dtype) as (named, moved):
                    made = without_data(call, self.dtype, self.device)
                    args, kwargs = tuple(moved(made.args)), moved(made.kwargs)
                    with Shortcuts():
                        out = torch.func.functional_call(
                            self.model, named, args, kwargs, tie_weights=False
                        )
                    return describe(out)
            except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
                return error


class _Models:
    """The model before and after the swap, run on the same stand-ins."""

    def __init__(self, bench: Bench, case: Case, values: StandIns) -> None:
        self.bench = bench
        self.case = case
        self._after = _Side(bench.model, case, values)
        with bench.original() as model:
            self._before = _Side(model, case, values)

    def after(self, call: DummyCall) -> Value | BaseException:
        """Return the output of the swapped model, or its exception."""
        return self._after.run(call)

    def before(self, call: DummyCall) -> Value | BaseException:
        """Return the output of the original, or its exception."""
        with self.bench.original():
            return self._before.run(call)

    def varies(self, way: Varied) -> bool:
        """Return whether the original takes another size as well."""
        (side, *_) = way.first
        others = (side + 1, side - 1, 2 * side, 3 * side)
        calls = (way.at((other, *way.first[1:])) for other in others if other)
        return any(not isinstance(self.before(call), BaseException) for call in calls)

    def differ(
        self, call: DummyCall, before: Value | BaseException, after: Value | BaseException
    ) -> str | None:
        """Return the difference of two outputs of a call; None if either is an exception."""
        if isinstance(before, BaseException) or isinstance(after, BaseException):
            return None
        resized = self.bench.prepared.changed and is_resized(before, after)
        return (None if resized else difference(before, after)) or self.misplaced(call)

    def misplaced(self, call: DummyCall) -> str | None:
        """Return the site whose tokens become a map of another shape than their own map."""
        first = call.tensors[0].shape
        if len(first) != 4 or first[2] == first[3]:
            return None
        laid = [
            (site, one.blueprint.grid)
            for one in self.bench.prepared.built
            if _lays_out(one)
            for site in one.sites
        ]
        if not laid:
            return None
        with self.bench.original() as model:
            again = Case(call, self.case.mode, self.case.dtype)
            seed = self.bench.prepared.seed
            seen = trace(model, again, seed=seed, unreal=True, quick=True, grids=True)
            sites = {site.path: site for site in sites_of(model, (seen,))}
        found = (replace(sites[site.path], grid=grid) for site, grid in laid)
        return next(filter(None, map(_misplaced, found)), None)


def _pair(bench: Bench, case: Case) -> _Models:
    """Return the pair on stand-ins of a kind on which both run at the first size."""
    error: BaseException | None = None
    for values in (meta_values, fake_values):
        pair = _Models(bench, case, values)
        outputs = (pair.before(case.call), pair.after(case.call))
        error = next((one for one in outputs if isinstance(one, BaseException)), None)
        if error is None:
            return pair
    why = "its shapes depend on values" if needs_values(error) else "it needs data to run"
    raise NoSweepError(f"{why}: {one_line(error or RuntimeError(), 120)}")


def _swept(pair: _Models, way: Varied, budget: int) -> Sweep:
    swapped, original = {way.first: True}, {way.first: True}
    told: dict[Size, str] = {}
    stride = _stride(pair.bench, way.first)
    most = budget // (2 * sum(1 for _ in pair.bench.model.modules()))
    for size in chain(
        islice(sizes_to_try(way.first, swapped, thorough=pair.bench.thorough), most),
        islice(few_sizes_to_try(way.first, original), most // 4),  # its rule may be another
        islice(rectangles(way.first, stride, swapped), most),
    ):
        call = way.at(size)
        before, after = pair.before(call), pair.after(call)
        if _unsettled(before) or _unsettled(after):
            continue
        original[size], swapped[size] = _taken(before), _taken(after)
        differs = pair.differ(call, before, after) if original[size] else None
        if differs is not None:
            swapped[size] = False
            told[size] = differs
    if len(swapped) == 1:
        raise NoSweepError("the model is large; `--thorough` tries other sizes")
    return Sweep(way, swapped, original, told, stride)


def _stride(bench: Bench, first: Size) -> int:
    """Return the step from place to place of the model's smallest map, in pixels of its input.

    A map of a single place, as behind global pooling, has none.
    """
    visits = bench.prepared.before[0].seen.visits if len(first) == 2 else ()
    outputs = (tensor.shape for visit in visits for tensor in tensors(visit.call.output))
    return max((_step(first, shape[2:]) for shape in outputs), default=1)


def _step(first: Size, sides: Size) -> int:
    """Return the step of both sides of a map; 1 where it is no map or the steps differ."""
    if len(sides) != 2 or min(sides) < 2:
        return 1
    down, across = (a // b for a, b in zip(first, sides, strict=True))
    return max(down, 1) if down == across else 1


def _lays_out(built: Built) -> bool:
    """Return whether an adapter turns tokens into a map for a module."""
    return built.blueprint.layout == "NLC" and built.blueprint.wants in {"NCHW", "NHWC"}


def _misplaced(site: Site) -> str | None:
    for call in site.calls:
        tokens = site.input.shape[1] if site.input is not None else 0
        try:
            token_grid(site, call, tokens)
        except ShapeError as error:
            return f"{site.path}: {error.what}"
    return None


def _unsettled(output: Value | BaseException) -> bool:
    """Return whether a pass failed because it needs values, and not because of its size."""
    if not isinstance(output, BaseException):
        return False
    return needs_values(output) or re.search(r"\bmeta\b", str(output)) is not None


def _taken(output: Value | BaseException) -> bool:
    """Return whether a pass gave outputs, none empty, as kernels refuse most empty maps."""
    if isinstance(output, BaseException):
        return False
    return all(0 not in tensor.shape for tensor in tensors(output))
