"""Find the rule of the input sizes that the swapped model takes, beside that of the original."""

from collections.abc import Iterator
from typing import Any

from modswap.core.finding import Finding, Settings
from modswap.core.sizes.probes import span_in_words
from modswap.core.sizes.rule import fit_rule, in_words, size_in_words
from modswap.core.sizes.two_axes import Size
from modswap.ops.build.fit import Built
from modswap.ops.examine.bench import Bench
from modswap.ops.examine.sizing.sweep import NoSweepError, Sweep, sweep
from modswap.ops.run.inputs import Case
from modswap.ops.trace.passes import trace

MAX_ACCEPTED = 64  # sizes in the data of a report
ALLOWED = "say `sizes: narrower` in the recipe's `verify`"


def sizes(bench: Bench) -> Iterator[Finding]:
    """Report the rule of the input sizes that the swapped model takes, and that of the original.

    It fails where the swapped model refuses a size that the original took, rectangles by the
    model's stride among them, unless the recipe says `verify: {sizes: narrower}`. Sizes with a side
    below half of the dummy input's are reported alone, but where one size is left of many.
    """
    try:
        seen = sweep(bench)
    except NoSweepError as error:
        yield Finding("sizes", "", "skipped", f"which sizes it takes is not known: {error}")
        return
    yield _judged(bench, seen)


def _judged(bench: Bench, seen: Sweep) -> Finding:
    then = fit_rule(seen.original)
    now = fit_rule(seen.swapped, then)
    words, before = in_words(now, seen.swapped), in_words(then, seen.original)
    span = f"{len(seen.swapped)} sizes tried, of {span_in_words(seen.swapped)}"
    data = _data(seen, words, before)
    if not seen.refused:
        more = "" if words == before else f"; the original took {before}"
        return Finding("sizes", "", "passed", f"it takes {words}{more} ({span})", data=data)
    first = (seen.lost or seen.refused)[0]
    where, why = _refusal(bench, seen, first)
    at = f"; {size_in_words(first)} is refused{f' in {where!r}' if where else ''}: {why}"
    what = f"it takes {words}; the original took {before} ({span}){at}"
    single = now is not None and now.single and not (then and then.single)
    if bench.recipe.verify.narrower or not (seen.lost or single):
        fix, _ = _fix(bench, where, f"resize inputs to a size that it takes: {words}")
        return Finding("sizes", "", "passed", what, fix, data)
    fix, settings = _fix(
        bench, where, f"resize inputs to a size that it takes ({words}), and {ALLOWED}"
    )
    path = where if _site_of(bench, where) else ""
    return Finding("sizes", path, "failed", what, fix, data, settings)


def _data(seen: Sweep, words: str, before: str) -> dict[str, Any]:
    accepted = sorted(size for size, ok in seen.swapped.items() if ok)[:MAX_ACCEPTED]
    return {
        "rule": words,
        "original": before,
        "probes": len(seen.swapped),
        "stride": seen.stride,
        "accepted": list(map(list, accepted)),
    }


def _refusal(bench: Bench, seen: Sweep, size: Size) -> tuple[str, str]:
    """Return the innermost module that refuses a size, and its message."""
    if size in seen.told:
        return "", seen.told[size]
    first = bench.prepared.cases[0]
    case = Case(seen.way.at(size), first.mode, first.dtype)
    again = trace(bench.model, case, seed=bench.prepared.seed, unreal=True).seen
    return again.raised_in, again.error or "it gives an empty output"


def _fix(bench: Bench, where: str, otherwise: str) -> tuple[str, Settings]:
    """Return the fix for the site that refuses a size, with its settings, or another fix."""
    built = _site_of(bench, where)
    if built and built.blueprint.args.get("auto_pad") is False:
        fix = f"set `auto_pad: true` in the rule at {built.step.where}"
        return fix, (("auto_pad", True),)
    return otherwise, ()


def _site_of(bench: Bench, where: str) -> Built | None:
    """Return the new module of the site that a path is inside; None if there is none."""
    for built in bench.prepared.built:
        if any(f"{where}.".startswith(f"{path}.") for path in built.paths):
            return built
    return None
