"""Compare shapes in batches, modes, precisions and memory formats beyond the recipe's."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice, product
from typing import Any, NamedTuple

from modswap.core.asked.recipe import Verify
from modswap.core.decided.verdict import Pass, judge, lost_format
from modswap.core.finding import Finding
from modswap.core.seen.values import of_any_precision
from modswap.live_values import dtype_name
from modswap.nn.fake_tensors import needs_values
from modswap.ops.examine.bench import Bench
from modswap.ops.run.forward import half_of
from modswap.ops.run.inputs import Case
from modswap.ops.swap import renamed
from modswap.ops.trace.passes import Trace, trace


def matrix(bench: Bench) -> Iterator[Finding]:
    """Compare the container, shapes and dtypes of every module's outputs in further cases.

    The cases are batches of 1, 2 and 3, training mode (also with one sample), bfloat16, float16,
    autocast and channels_last, each alone (`verify.batches`, `precisions`, `formats`), without
    data. A model that is stored in half precision also runs in it on its own values, where they are
    read and the device can. Cases in which the original does not run are skipped.
    """
    cases = variants(bench.prepared.cases, bench.recipe.verify, thorough=bench.thorough)
    with bench.original():
        before = [(case, *_before(bench, case)) for case in _with_own(bench, cases)]
    runs: list[_Run] = []
    refused: dict[bool, list[str]] = {False: [], True: []}  # by whether it needs values
    for case, old, unreal in before:
        if old.cause is None:
            runs.append(_Run(case, old, _traced(bench, case, unreal=unreal)))
        else:
            refused[needs_values(old.cause)].append(str(case.key))
    keys = [str(run.case.key) for run in runs]
    left, unknown = refused.values()
    data = {"cases": keys, "not run by the original": left, "unknown": unknown}
    yield from _compared(bench, runs, data)
    for keys, why in ((left, "does not run"), (unknown, "needs values to run, and has none,")):
        if keys:
            what = f"the original itself {why} in {_count(keys, 'case')}: {'; '.join(keys[:4])}"
            yield Finding("matrix", "", "skipped", what, data=data)


def _count(items: Sequence[Any], noun: str) -> str:
    """Return a number of items in words: 1 case, 2 cases."""
    return f"1 {noun}" if len(items) == 1 else f"{len(items)} {noun}s"


class _Run(NamedTuple):
    """A case, and its traces of the original and of the swapped model."""

    case: Case
    before: Trace
    after: Trace


def _compared(bench: Bench, runs: Sequence[_Run], data: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield the differences of the runs, or that there are none, and the cases that did not run."""
    known = [run for run in runs if not needs_values(run.after.cause)]
    failures = list(_failures(bench, known))
    yield from failures
    if known and not failures:
        yield Finding("matrix", "", "passed", f"{len(known)} further cases hold", data=data)
    unknown = [run for run in runs if needs_values(run.after.cause)]
    if unknown:
        seen = unknown[0].after.seen
        count = _count(unknown, "case")
        what = f"the new module needs values, and none are computed: {seen.error} (in {count})"
        yield Finding("matrix", seen.raised_in, "skipped", what)
    yield from islice(_slower(bench, runs), 1)


def _failures(bench: Bench, runs: Sequence[_Run]) -> Iterator[Finding]:
    """Yield the differences of each run; cases that differ in the same way are reported once."""
    alike: dict[tuple[str, str], list[list[Finding]]] = {}
    for run in runs:
        found = _differences(bench, run)
        if found:
            alike.setdefault(_way(found[0], run), []).append(found)
    for (first, *others), *more in alike.values():
        again = f", and in the same way in {_count(more, 'further case')}" if more else ""
        yield replace(first, what=first.what + again)
        yield from others


def _way(found: Finding, run: _Run) -> tuple[str, str]:
    """Return the place and the kind of a difference, without its sizes and its case."""
    return found.path, re.sub(r"\d+", "", found.what.removesuffix(_with(run)))


def _with(run: _Run) -> str:
    return f" (with {run.case.key})"


def _with_own(bench: Bench, cases: tuple[Case, ...]) -> tuple[Case, ...]:
    """Return cases, with one in the precision in which a model is stored, if that is half."""
    own = half_of(bench.model)
    if own is None:
        return cases
    first = replace(bench.prepared.cases[0], mode="eval", dtype=dtype_name(own))
    known = {str(case.key) for case in (*cases, *bench.prepared.cases)}
    return cases if str(first.key) in known else (*cases, first)


def _before(bench: Bench, case: Case) -> tuple[Trace, bool]:
    """Return the trace of the original, and whether it ran on tensors without data.

    Passes without data do not compare the precisions of all operands, so that a case in the model's
    own half precision runs on real tensors where the weights are read and the device can.
    """
    own = half_of(bench.model)
    if not bench.prepared.unreal and own is not None and case.dtype == dtype_name(own):
        real = _traced(bench, case, unreal=False)
        if real.cause is None:
            return real, False
    return _traced(bench, case), True


def _traced(bench: Bench, case: Case, *, unreal: bool = True) -> Trace:
    return trace(bench.model, case, seed=bench.prepared.seed, unreal=unreal, quick=True)


def _differences(bench: Bench, run: _Run) -> list[Finding]:
    old, new = renamed(run.before.seen, bench.prepared.built), run.after.seen
    called = old.by_path()  # a site may be idle in a mode, before and after
    paths = [path for path in _paths(bench) if path in called]
    if run.case.autocast:  # autocast chooses a dtype for each operation
        old, new = _of_any_precision(old), _of_any_precision(new)
    return [
        replace(problem, check="matrix", what=problem.what + _with(run))
        for problem in judge([old], [new], paths, bench.prepared.changed).problems
    ]


def _slower(bench: Bench, runs: Iterable[_Run]) -> Iterator[Finding]:
    """Yield where channels_last is lost: no error, but later modules copy maps or are slower."""
    paths = set(_paths(bench))
    fix = "end its forward with `.contiguous(memory_format=torch.channels_last)` if its input is so"
    for case, before, after in runs:
        lost = lost_format(renamed(before.seen, bench.prepared.built), after.seen, paths)
        if case.channels_last and lost is not None:
            what = f"channels_last is lost: its output has another memory format (with {case.key})"
            data = {"memory_format": "lost", "case": str(case.key)}
            yield Finding("matrix", lost, "passed", what, fix, data)


def _paths(bench: Bench) -> list[str]:
    return [built.sites[0].path for built in bench.prepared.built]


def _of_any_precision(seen: Pass) -> Pass:
    visits = tuple(
        replace(visit, call=replace(visit.call, output=of_any_precision(visit.call.output)))
        for visit in seen.visits
    )
    output = None if seen.output is None else of_any_precision(seen.output)
    return replace(seen, visits=visits, output=output)


def variants(cases: tuple[Case, ...], verify: Verify, *, thorough: bool) -> tuple[Case, ...]:
    """Return the cases that are run beside those of the recipe.

    They differ from the first of them in a single way each, but for a single sample in training
    mode: a batch norm behind global pooling fails there. If thorough, they are every combination
    for every call.
    """
    asked = {str(case.key) for case in cases}
    bases: dict[str, Case] = {}
    for case in cases:
        bases.setdefault(str(case.call), replace(case, mode="eval", dtype=None))
    firsts = list(bases.values())
    ways = (_product(base, verify) for base in firsts) if thorough else (_alone(firsts[0], verify),)
    named = {str(case.key): case for case in chain.from_iterable(ways)}
    return tuple(case for key, case in named.items() if key not in asked)


def _alone(base: Case, verify: Verify) -> Iterator[Case]:
    """Yield cases that differ from a case in a single way."""
    yield from _batches(base, verify)
    yield base.in_mode("train")
    one = base.call.with_batch(1) if verify.batches else None
    if one is not None:
        yield replace(base.in_mode("train"), call=one)
    yield from (_in_precision(base, precision) for precision in verify.precisions)
    if _in_channels_last(base, verify):
        yield replace(base, channels_last=True)


def _product(base: Case, verify: Verify) -> Iterator[Case]:
    batches = [base, *_batches(base, verify)]
    formats = [False, _in_channels_last(base, verify)]
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


def _in_channels_last(case: Case, verify: Verify) -> bool:
    maps = any(len(tensor.shape) == 4 for tensor in case.call.tensors)
    return maps and "channels_last" in verify.formats
