"""Predict whether a dummy pass fits into memory, before it allocates any."""

from collections.abc import Iterator, Sequence
from math import prod
from operator import itemgetter
from typing import NamedTuple

from torch import nn

from modswap.core.asked.job import Job
from modswap.core.decided.cost import parse_size, size_text, too_much
from modswap.core.errors import InputError, LimitError
from modswap.core.seen.values import tensors
from modswap.ops.apply import temporarily
from modswap.ops.measure.cost import costs_of, peak_of
from modswap.ops.run.inputs import Case
from modswap.ops.run.process_memory import available, total
from modswap.ops.swap import Prepared
from modswap.ops.trace.passes import trace

MAX_READ_BYTES = 256 << 20  # of the weights that a pass reads; larger models run on shapes alone
FREE = "the memory free on this machine"
MACHINE = "the memory of this machine"
_MAX_ELEMENTS = 1 << 26  # of inputs
LARGE = "a pass that many machines can make"
LARGE_BYTES = 16 << 30  # beside the weights


class Bound(NamedTuple):
    """A bound to the memory of a dummy pass."""

    nbytes: int
    source: str  # the option, the recipe's key or the machine that sets it
    # whether the weights are left out, which a pass without data does not read
    beside: bool = False
    warns: bool = False  # whether a pass beyond it is noted and not refused


def bounds_of(job: Job, *, unreal: bool) -> tuple[Bound, ...]:
    """Return the bounds to the memory of the dummy passes of a job, the option first.

    The machine sets one too, unless the option asks for more. Passes that are `unreal` allocate
    nothing: of those, large ones are noted.
    """
    limit, asked = job.recipe.verify.limits.max_memory, job.max_memory
    given = [] if asked is None else [Bound(asked, "--max-memory")]
    given += [] if limit is None else [Bound(parse_size(limit), "verify.limits.max_memory")]
    machine = total() if unreal else available()
    if machine is not None and (asked is None or asked < machine):
        given.append(Bound(machine, MACHINE if unreal else FREE, beside=unreal))
    if unreal and asked is None:
        given.append(Bound(LARGE_BYTES, LARGE, beside=True, warns=not job.strict))
    return tuple(given)


def check_memory(
    model: nn.Module, cases: Sequence[Case], bounds: Sequence[Bound], *, seed: int = 0
) -> None:
    """Refuse a dummy pass of the original model that would take too much; nothing is allocated.

    A pass that cannot run without data is accepted: its memory is unknown.

    Raises:
        InputError: If a pass would take more than the machine has.
        LimitError: If a pass would take more than was allowed.
    """
    for case, what, bound in _beyond(model, cases, bounds, seed):
        if bound.source in {FREE, MACHINE}:
            why = f"the input cannot be made: {what}{_largest(model, case, seed)}"
            raise InputError(why, "inputs", _fix(bound))
        if not bound.beside:
            raise LimitError(f"{what}, before anything is swapped", "inputs", _fix(bound))


def check_swapped_memory(
    model: nn.Module, prepared: Prepared, bounds: Sequence[Bound]
) -> tuple[str, ...]:
    """Refuse a dummy pass of the swapped model that would take too much; return warnings.

    Raises:
        LimitError: If a pass would; the error names the site that takes most by itself.
    """
    warnings = []
    with temporarily(model, prepared.placements):
        for case, what, bound in _beyond(model, prepared.cases, bounds, prepared.seed):
            watched = {s.path: b.module for b in prepared.built for s in b.sites}
            sites = costs_of(model, case, watched, seed=prepared.seed).sites
            shares = {"the model": 0} | {path: cost.peak_inference for path, cost in sites.items()}
            path, share = max(shares.items(), key=itemgetter(1))
            most = f", this site alone {size_text(share)}" if share else ""
            if not bound.warns:
                fix = f"choose cheaper `args` for it, {_fix(bound)}"
                raise LimitError(what + most, path, fix)
            warnings.append(
                f"warning: {what}{most.replace('this site', path)}; --strict refuses it"
            )
    return tuple(warnings)


def _fix(bound: Bound) -> str:
    if bound.source == FREE:
        return "give a smaller input, or run `modswap check`, which allocates nothing"
    raised = "allow it by --max-memory" if bound.beside else f"raise {bound.source}"
    return f"give a smaller input, or {raised}"


def _beyond(
    model: nn.Module, cases: Sequence[Case], bounds: Sequence[Bound], seed: int
) -> Iterator[tuple[Case, str, Bound]]:
    """Yield the passes that take too much, in words, with the bound."""
    for case in _judged(cases, bounds):
        try:
            peak = peak_of(model, case, seed=seed)
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            del error  # the pass itself reports it
            continue
        for bound in bounds:
            nbytes = peak.beside if bound.beside else peak.nbytes
            if nbytes > bound.nbytes:
                yield case, too_much(nbytes, bound.nbytes, bound.source, str(case.key)), bound
                break


def _judged(cases: Sequence[Case], bounds: Sequence[Bound]) -> Sequence[Case]:
    """Return the cases that bounds are about: the largest where only the machine sets one."""
    if not bounds:
        return ()
    largest = sorted(cases, key=_elements)[-1:]
    return largest if all(bound.beside for bound in bounds) else cases


def _elements(case: Case) -> int:
    return sum(prod(tensor.shape) for tensor in case.call.tensors)


def _largest(model: nn.Module, case: Case, seed: int) -> str:
    """Return in words the largest output of a module in a pass; empty if it is not known.

    A pass on shapes makes its inputs nevertheless, so large inputs are the cause themselves.
    """
    small = _elements(case) <= _MAX_ELEMENTS
    visits = trace(model, case, seed=seed, unreal=True).seen.visits if small else ()
    outputs = [(prod(o.shape), v.path, o) for v in visits if v.path for o in tensors(v.call.output)]
    if not outputs:
        return ""
    _, path, output = max(outputs, key=itemgetter(0))
    return f"; the largest output of a module is {output}, of {path!r:.200}"
