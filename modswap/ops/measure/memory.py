"""Predict whether a dummy pass fits into memory, before it allocates any."""

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from torch import nn

from modswap.core.asked.job import Job
from modswap.core.decided.cost import parse_size, size_text, too_much
from modswap.core.errors import InputError, LimitError
from modswap.ops.apply import temporarily
from modswap.ops.measure.cost import costs_of, peak_of
from modswap.ops.run.inputs import Case
from modswap.ops.swap import Prepared

MAX_READ_BYTES = 256 << 20  # of the weights that a pass reads; larger models run on shapes alone
FREE = "the memory free on this machine"
GROUP = Path("/sys/fs/cgroup")


class Bound(NamedTuple):
    """A bound to the memory of a dummy pass."""

    nbytes: int
    source: str  # the option, the recipe's key or the machine that sets it


def bounds_of(job: Job, *, unreal: bool) -> tuple[Bound, ...]:
    """Return the bounds to the memory of the dummy passes of a job, the option first.

    The machine sets one too, unless the passes are `unreal`, which allocate nothing.
    """
    limit = job.recipe.verify.limits.max_memory
    given = (
        ("--max-memory", job.max_memory),
        ("verify.limits.max_memory", None if limit is None else parse_size(limit)),
        (FREE, None if unreal else available()),
    )
    return tuple(Bound(nbytes, source) for source, nbytes in given if nbytes is not None)


def check_memory(
    model: nn.Module, cases: Sequence[Case], bounds: Sequence[Bound], *, seed: int = 0
) -> None:
    """Refuse a dummy pass of the original model that would take too much; nothing is allocated.

    A pass that cannot run without data is accepted: its memory is unknown.

    Raises:
        InputError: If a pass would take more than the machine has.
        LimitError: If a pass would take more than was allowed.
    """
    for _, what, source in _beyond(model, cases, bounds, seed):
        if source == FREE:
            raise InputError(f"the input cannot be made: {what}", "inputs", _fix(source))
        raise LimitError(f"{what}, before anything is swapped", "inputs", _fix(source))


def check_swapped_memory(model: nn.Module, prepared: Prepared, bounds: Sequence[Bound]) -> None:
    """Refuse a dummy pass of the swapped model that would take too much memory.

    Raises:
        LimitError: If a pass would; the error names the site that takes most by itself.
    """
    if not bounds:
        return
    with temporarily(model, prepared.placements):
        for case, what, source in _beyond(model, prepared.cases, bounds, prepared.seed):
            watched = {s.path: b.module for b in prepared.built for s in b.sites}
            sites = costs_of(model, case, watched, seed=prepared.seed).sites
            shares = {"the model": 0} | {path: cost.peak_inference for path, cost in sites.items()}
            path, share = max(shares.items(), key=itemgetter(1))
            most = f", this site alone {size_text(share)}" if share else ""
            raise LimitError(what + most, path, f"choose cheaper `args` for it, {_fix(source)}")


def _fix(source: str) -> str:
    if source == FREE:
        return "give a smaller input, or run `modswap check`, which allocates nothing"
    return f"give a smaller input, or raise {source}"


def _beyond(
    model: nn.Module, cases: Sequence[Case], bounds: Sequence[Bound], seed: int
) -> Iterator[tuple[Case, str, str]]:
    """Yield the passes that take too much, in words, with the source of the bound."""
    for case in cases if bounds else ():
        try:
            peak = peak_of(model, case, seed=seed)
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            del error  # the pass itself reports it
            continue
        for bound in bounds:
            if peak > bound.nbytes:
                yield case, too_much(peak, bound.nbytes, bound.source, str(case.key)), bound.source


def available(group: Path = GROUP, meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return the free bytes of the control group or the system, the smaller number, or None."""
    found = [nbytes for nbytes in (_free_in(group), _free_of(meminfo)) if nbytes is not None]
    return min(found, default=None)


def _free_in(group: Path) -> int | None:
    """Return the free bytes of a control group of either version."""
    names = (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    )
    for limit, usage, stat, cached in names:
        most, used = _number(group / limit), _number(group / usage)
        if most is not None and used is not None:
            # cached files make room when memory is needed
            return most - used + (_number(group / stat, cached) or 0)
    return None


def _free_of(meminfo: Path) -> int | None:
    free = _number(meminfo, "MemAvailable:")
    if free is not None:
        return free * 1024
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # not every system has these names
        return None


def _number(file: Path, name: str = "") -> int | None:
    """Return the number in a file, or the number behind a name in one of its lines."""
    try:
        lines = [line.split() for line in file.read_text(encoding="ascii").splitlines()]
    except OSError:
        return None
    words = [line[1:] for line in lines if line[:1] == [name]] if name else lines
    number = next(chain.from_iterable(words), "")
    return int(number) if number.isdigit() else None
