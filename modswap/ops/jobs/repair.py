"""Finding the smallest change to a recipe with which a check passes, by checking it."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from modswap.core.asked.job import Job
from modswap.core.asked.recipe import Recipe
from modswap.core.decided.remedies import MENDED, Edit, candidates
from modswap.core.errors import ModswapError, RecipeError
from modswap.core.kept.outcome import Outcome
from modswap.core.progress import Progress
from modswap.io.recipe.edit import edited, rewrite
from modswap.ops.examine.table import examination_names
from modswap.ops.jobs.replace import check_file
from modswap.ops.recipes import parse_recipe, read_recipe

MOST_EDITS = 3


@dataclass(frozen=True, slots=True)
class Budget:
    """What finding a remedy may cost.

    Args:
        seconds: Wall time; a check that would go beyond it, by what the last one took, is not made.
        tries: Number of checks.
    """

    seconds: float
    tries: int


OFFER, FIX = Budget(5.0, 20), Budget(120.0, 100)


@dataclass(frozen=True, slots=True)
class Remedy:
    """A change to a recipe that was checked.

    Args:
        words: What is set, and where: `adapt: true (swap.yaml:7)`.
        recipe: The recipe with it.
    """

    words: str
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class _Attempt:
    recipe: Recipe
    edits: tuple[Edit, ...]
    error: ModswapError


def find_remedy(
    job: Job, error: ModswapError, cost: float, budget: Budget, broken: Sequence[str] = ()
) -> Remedy | None:
    """Return the smallest change that was found to pass, or None.

    Args:
        job: The check that failed.
        error: How.
        cost: Seconds that it took.
        budget: What this may take.
        broken: Examinations that failed. The others are made only of what passes without them.
    """
    if not isinstance(error, MENDED):
        return None
    started = time.monotonic()
    waiting = deque([_Attempt(job.recipe, (), error)])
    seen: set[frozenset[Edit]] = set()
    tries = count(1)
    while waiting:
        for attempt in _next(waiting.popleft(), seen):
            begun = time.monotonic()
            if begun - started + cost > budget.seconds or next(tries) > budget.tries:
                return None
            tried = replace(job, recipe=attempt.recipe)
            failed = _failure(_only(tried, broken)) or _failure(tried)
            if failed is None:
                return Remedy(_words(attempt), attempt.recipe)
            cost = time.monotonic() - begun
            if len(attempt.edits) < MOST_EDITS and isinstance(failed, MENDED):
                waiting.append(replace(attempt, error=failed))
    return None


def _next(attempt: _Attempt, seen: set[frozenset[Edit]]) -> list[_Attempt]:
    """Return an attempt with each further edit that could mend its error."""
    done = {edit.place for edit in attempt.edits}
    found = []
    for edit in candidates(attempt.error, attempt.recipe):
        edits = (*attempt.edits, edit)
        if edit.place in done or frozenset(edits) in seen:
            continue
        seen.add(frozenset(edits))
        source = attempt.recipe.source
        try:
            recipe = parse_recipe(edited(source.text, edit), source.name, source.folder)
        except RecipeError:
            continue
        found.append(_Attempt(recipe, edits, attempt.error))
    return found


def _only(job: Job, wanted: Sequence[str]) -> Job:
    """Return a check with few examinations."""
    skip = tuple(name for name in examination_names() if name not in wanted)
    verify = job.recipe.verify
    verify = verify.model_copy(update={"skip": (*verify.skip, *skip), "thorough": False})
    return replace(job, recipe=job.recipe.model_copy(update={"verify": verify}), thorough=False)


def _failure(job: Job) -> ModswapError | None:
    try:
        return check_file(job).error
    except ModswapError as error:
        return error


def _words(attempt: _Attempt) -> str:
    source = attempt.recipe.source
    told = [f"{one.words} ({source.name}:{source.line(*one.place)[0]})" for one in attempt.edits]
    return ", ".join(told)


def check_and_mend(job: Job, progress: Progress, *, fix: bool) -> Outcome:
    """Check a recipe; where it fails, say which small change would pass, or make it.

    Args:
        job: What to check.
        progress: Told what is being done.
        fix: Whether to change the recipe's file, and to check it again.

    Raises:
        ModswapError: As `check_file`; or if the recipe's file cannot be written.
    """
    started = time.monotonic()
    try:
        outcome = check_file(job, progress)
    except ModswapError as error:
        cost = time.monotonic() - started
        remedy = _sought(job, error, cost, progress, fix=fix)
        if fix and remedy is not None:
            return _mended(job, remedy, progress)
        raise _offered(error, remedy, fix=fix) from error
    if outcome.error is None:
        return outcome
    findings = () if outcome.verdict is None else outcome.verdict.findings
    broken = tuple(found.check for found in findings if found.status == "failed")
    cost = outcome.seconds if broken else 0.0  # without examinations it is quick
    remedy = _sought(job, outcome.error, cost, progress, fix=fix, broken=broken)
    if fix and remedy is not None:
        return _mended(job, remedy, progress)
    return replace(outcome, error=_offered(outcome.error, remedy, fix=fix))


def _sought(
    job: Job,
    error: ModswapError,
    cost: float,
    progress: Progress,
    *,
    fix: bool,
    broken: Sequence[str] = (),
) -> Remedy | None:
    budget = FIX if fix else OFFER
    if isinstance(error, MENDED) and cost <= budget.seconds:
        progress("looking for a change to the recipe that would pass")
    return find_remedy(job, error, cost, budget, broken)


def _mended(job: Job, remedy: Remedy, progress: Progress) -> Outcome:
    source = job.recipe.source
    rewrite(Path(source.name), source.text, remedy.recipe.source.text)
    again = replace(job, recipe=read_recipe(source.name))
    return replace(check_file(again, progress), fixed=remedy.words)


def _offered(error: ModswapError, remedy: Remedy | None, *, fix: bool) -> ModswapError:
    """Return an error whose advice names the change that would pass."""
    if remedy is None and not (fix and isinstance(error, MENDED)):
        return error
    told = f"would pass with: {remedy.words}" if remedy else "no small change was found to pass"
    advised = error.fix if error.fix.endswith("?") else f"{error.fix};"
    advice = f"{advised} {told}" if error.fix else told
    return error.with_fix(advice)
