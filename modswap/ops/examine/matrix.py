"""Passes beyond those that were asked for: other batches, modes, precisions, memory formats."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Any, NamedTuple

from modswap.core.asked.recipe import Verify
from modswap.core.decided.verdict import Pass, judge, lost_format
from modswap.core.finding import Finding
from modswap.core.seen.values import of_any_precision
from modswap.nn.fake_tensors import needs_values
from modswap.ops.examine.bench import Bench
from modswap.ops.run.inputs import Case
from modswap.ops.swap import renamed
from modswap.ops.trace.passes import Trace, trace


def matrix(bench: Bench) -> Iterator[Finding]:
    """Compare every module's shapes in every case, on tensors without data.

    A case in which the original itself does not run says nothing, and is passed over.

    Args:
        bench: The swap.
    """
    cases = variants(bench.prepared.cases, bench.recipe.verify, thorough=bench.thorough)
    with bench.original():
        before = [_shown(bench, case) for case in cases]
    pairs = [(case, old) for case, old in zip(cases, before, strict=True) if old.cause is None]
    failed = [(str(case.key), old.cause) for case, old in zip(cases, before, strict=True)]
    left = [key for key, cause in failed if cause is not None and not needs_values(cause)]
    unknown = [key for key, cause in failed if needs_values(cause)]
    data = {
        "cases": [str(case.key) for case, _ in pairs],
        "not run by the original": left,
        "unknown": unknown,
    }
    runs = [_Run(case, old, _shown(bench, case)) for case, old in pairs]
    yield from _judged(bench, runs, data)
    for keys, why in ((left, "does not run"), (unknown, "needs values to run, and has none,")):
        if keys:
            count = "1 case" if len(keys) == 1 else f"{len(keys)} cases"
            what = f"the original itself {why} in {count}: {'; '.join(keys[:4])}"
            yield Finding("matrix", "", "skipped", what, data=data)


class _Run(NamedTuple):
    """One case, and what the original and the swapped model showed in it."""

    case: Case
    before: Trace
    after: Trace


def _judged(bench: Bench, runs: Sequence[_Run], data: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what the runs show; cases that fail alike are told once."""
    alike: dict[tuple[str, str], list[list[Finding]]] = {}
    shown = [run for run in runs if not needs_values(run.after.cause)]
    for run in shown:
        found = _compared(bench, run)
        if found:
            words = re.sub(r"\d+", "", found[0].what.rpartition(" (with ")[0])  # sizes apart
            alike.setdefault((found[0].path, words), []).append(found)
    for (first, *others), *more in alike.values():
        count = "1 further case" if len(more) == 1 else f"{len(more)} further cases"
        again = f", and likewise in {count}" if more else ""
        yield replace(first, what=first.what + again)
        yield from others
    if shown and not alike:
        yield Finding("matrix", "", "passed", f"{len(shown)} further cases hold", data=data)
    unseen = [run for run in runs if needs_values(run.after.cause)]
    if unseen:
        seen = unseen[0].after.seen
        count = "1 case" if len(unseen) == 1 else f"{len(unseen)} cases"
        what = f"what went in needs values, and none are computed: {seen.error} (in {count})"
        yield Finding("matrix", seen.raised_in, "skipped", what)
    yield from islice(_slower(bench, runs), 1)


def _shown(bench: Bench, case: Case) -> Trace:
    return trace(bench.model, case, seed=bench.prepared.seed, unreal=True, quick=True)


def _compared(bench: Bench, run: _Run) -> list[Finding]:
    old, new = renamed(run.before, bench.prepared.built).seen, run.after.seen
    called = old.by_path()  # in one mode a site may lie idle, before as after
    sites = (built.sites[0].path for built in bench.prepared.built)
    paths = [path for path in sites if path in called]
    if run.case.autocast:  # which chooses dtypes operation by operation
        old, new = _of_any_precision(old), _of_any_precision(new)
    return [
        Finding("matrix", one.path, "failed", f"{one.what} (with {run.case.key})", one.fix)
        for one in judge([old], [new], paths).problems
    ]


def _slower(bench: Bench, runs: Iterable[_Run]) -> Iterator[Finding]:
    """Yield where channels_last is lost: no error, but what follows has to copy or is slower."""
    paths = {built.sites[0].path for built in bench.prepared.built}
    fix = "end its forward with `.contiguous(memory_format=torch.channels_last)` if that went in"
    for case, before, after in runs:
        lost = lost_format(renamed(before, bench.prepared.built).seen, after.seen, paths)
        if case.channels_last and lost is not None:
            what = f"channels_last is lost: what it gives is laid out anew (with {case.key})"
            data = {"memory_format": "lost", "case": str(case.key)}
            yield Finding("matrix", lost, "passed", what, fix, data)


def _of_any_precision(seen: Pass) -> Pass:
    visits = tuple(
        replace(visit, call=replace(visit.call, output=of_any_precision(visit.call.output)))
        for visit in seen.visits
    )
    output = None if seen.output is None else of_any_precision(seen.output)
    return replace(seen, visits=visits, output=output)


def variants(cases: tuple[Case, ...], verify: Verify, *, thorough: bool) -> tuple[Case, ...]:
    """Return the cases that are run beside those asked for: each axis alone, or their product.

    Args:
        cases: Those asked for.
        verify: What the recipe chooses.
        thorough: Whether every combination is run.
    """
    asked = {str(case.key) for case in cases}
    calls = dict.fromkeys(str(case.call) for case in cases)
    firsts = [next(case for case in cases if str(case.call) == call) for call in calls]
    bases = [replace(case, mode="eval", dtype=None) for case in firsts]
    found = (
        case
        for base in (bases if thorough else bases[:1])
        for case in (_product(base, verify) if thorough else _alone(base, verify))
    )
    named = {str(case.key): case for case in found}
    return tuple(case for key, case in named.items() if key not in asked)


def _alone(base: Case, verify: Verify) -> Iterator[Case]:
    """Yield cases that differ from one in a single way."""
    yield from _batches(base, verify)
    yield base.in_mode("train")
    for precision in verify.precisions:
        yield _in_precision(base, precision)
    if "channels_last" in verify.formats and _has_maps(base):
        yield replace(base, channels_last=True)


def _product(base: Case, verify: Verify) -> Iterator[Case]:
    batches = [base, *_batches(base, verify)]
    formats = [False, "channels_last" in verify.formats and _has_maps(base)]
    for case, mode, precision, last in product(
        batches, ("eval", "train"), verify.precisions, formats
    ):
        yield replace(_in_precision(case, precision), mode=mode, channels_last=last)


def _batches(base: Case, verify: Verify) -> Iterator[Case]:
    for size in verify.batches:
        call = base.call.with_batch(size)
        if call is not None:
            yield replace(base, call=call)


def _in_precision(case: Case, precision: str) -> Case:
    if precision == "autocast":
        return replace(case, autocast=True)
    return case if precision == "float32" else replace(case, dtype=precision)


def _has_maps(case: Case) -> bool:
    return any(len(tensor.shape) == 4 for tensor in case.call.tensors)
