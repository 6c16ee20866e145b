"""Find the smallest edit of a recipe with which its check passes, by running the check."""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from modswap.core.asked.job import Job
from modswap.core.asked.recipe import Recipe
from modswap.core.asked.source import COMMAND_LINE
from modswap.core.decided.remedies import MENDED, Edit, candidates
from modswap.core.errors import ModswapError, RecipeError
from modswap.core.kept.outcome import Outcome
from modswap.core.progress import Progress
from modswap.io.recipe.edit import edited, rewrite
from modswap.ops.examine.table import examination_names
from modswap.ops.jobs.replace import check_file
from modswap.ops.recipes import parse_recipe, read_recipe

MAX_EDITS = 3
QUESTION = "did you mean "
PATIENCE_SECONDS = 2.0  # of a search, after which the error is said before an edit is found
Say = Callable[[ModswapError], None]


@dataclass(frozen=True, slots=True)
class Budget:
    """Bounds on the search for a remedy."""

    # wall time; a check that would exceed it, if it took as long as the last one, is not run
    seconds: float
    tries: int  # number of checks


OFFER_BUDGET, FIX_BUDGET = Budget(5.0, 20), Budget(120.0, 100)


@dataclass(frozen=True, slots=True)
class Remedy:
    """An edit of a recipe that was checked to pass."""

    words: str  # the keys that are set, and their lines: `adapt: true (swap.yaml:7)`
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class Failed:
    """A check that failed."""

    error: ModswapError
    seconds: float  # wall time of the check
    # examinations that failed. The other examinations run only on candidates that pass these
    broken: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Attempt:
    recipe: Recipe
    edits: tuple[Edit, ...]
    error: ModswapError


class Impatience:
    """Says an error once, before a step that would end too late.

    Args:
        error: The error.
        say: Receives it.
        started: When the work began, as `time.monotonic` counts.
    """

    def __init__(self, error: ModswapError, say: Say, started: float) -> None:
        self.error = error
        self.say = say
        self.started = started
        self.said = False

    def before(self, seconds: float) -> None:
        """Say the error if a step of so many seconds would end too late."""
        late = time.monotonic() - self.started + seconds > PATIENCE_SECONDS
        if late and not self.said:
            self.said = True
            self.say(self.error)


def find_remedy(
    job: Job, failed: Failed, budget: Budget, impatience: Impatience | None = None
) -> Remedy | None:
    """Return the smallest edit of a failed job's recipe that was checked to pass, or None."""
    if not isinstance(failed.error, MENDED):
        return None
    started = time.monotonic()
    seconds = failed.seconds
    waiting = deque([_Attempt(job.recipe, (), failed.error)])
    seen: set[frozenset[Edit]] = set()
    tries = count(1)
    while waiting:
        for attempt in _edited(waiting.popleft(), seen):
            begun = time.monotonic()
            if begun - started + seconds > budget.seconds or next(tries) > budget.tries:
                return None
            if impatience is not None:
                impatience.before(seconds)
            candidate = replace(job, recipe=attempt.recipe)
            error = _error_of(_limited(candidate, failed.broken)) or _error_of(candidate)
            if error is None:
                return Remedy(_words(attempt), attempt.recipe)
            seconds = time.monotonic() - begun
            if len(attempt.edits) < MAX_EDITS and isinstance(error, MENDED):
                waiting.append(replace(attempt, error=error))
    return None


def _edited(attempt: _Attempt, seen: set[frozenset[Edit]]) -> list[_Attempt]:
    """Return an attempt with each further edit that could remove its error."""
    done = {edit.place for edit in attempt.edits}
    source = attempt.recipe.source
    attempts = []
    for edit in candidates(attempt.error, attempt.recipe):
        edits = (*attempt.edits, edit)
        if edit.place in done or frozenset(edits) in seen:
            continue
        seen.add(frozenset(edits))
        try:
            recipe = parse_recipe(edited(source.text, edit), source.name, source.folder)
        except RecipeError:
            continue
        attempts.append(_Attempt(recipe, edits, attempt.error))
    return attempts


def _limited(job: Job, wanted: Sequence[str]) -> Job:
    """Return a check that runs only some examinations."""
    skip = tuple(name for name in examination_names() if name not in wanted)
    verify = job.recipe.verify
    verify = verify.model_copy(update={"skip": (*verify.skip, *skip), "thorough": False})
    return replace(job, recipe=job.recipe.model_copy(update={"verify": verify}), thorough=False)


def _error_of(job: Job) -> ModswapError | None:
    try:
        return check_file(job).error
    except ModswapError as error:
        return error


def _words(attempt: _Attempt) -> str:
    source = attempt.recipe.source
    if source.name == COMMAND_LINE:
        keys = [f"`{edit.words}`" for edit in attempt.edits if not edit.option]
        options = [f"`{edit.option}`" for edit in attempt.edits if edit.option]
        recipe = [f"{' and '.join(keys)} in the recipe that `--save-recipe FILE` writes"]
        return ", ".join([*options, *(recipe if keys else [])])
    return ", ".join(f"{e.words} ({source.name}:{source.line(*e.place)[0]})" for e in attempt.edits)


def check_and_repair(
    job: Job, progress: Progress, *, fix: bool, say: Say = lambda _: None
) -> Outcome:
    """Check a recipe; if it fails, look for a small edit that would pass, and suggest it.

    `fix` makes the edit in the recipe's file and checks it again. `say` receives the error before a
    search, with `fix` before one that takes long.

    Raises:
        ModswapError: As `check_file`; or if the recipe's file cannot be written.
    """
    started = time.monotonic()
    try:
        outcome = check_file(job, progress)
    except ModswapError as error:
        failed = Failed(error, time.monotonic() - started)
        impatience = Impatience(error, say, started)
        repaired = _repair(job, failed, progress, impatience, fix=fix)
        if isinstance(repaired, ModswapError):
            raise repaired from error
        return repaired
    if outcome.error is None:
        return outcome
    findings = () if outcome.verdict is None else outcome.verdict.findings
    broken = tuple(finding.check for finding in findings if finding.status == "failed")
    seconds = outcome.seconds if broken else 0.0  # a check without examinations is quick
    impatience = Impatience(outcome.error, say, started)
    repaired = _repair(job, Failed(outcome.error, seconds, broken), progress, impatience, fix=fix)
    return replace(outcome, error=repaired) if isinstance(repaired, ModswapError) else repaired


def _repair(
    job: Job, failed: Failed, progress: Progress, impatience: Impatience, *, fix: bool
) -> Outcome | ModswapError:
    """Return the outcome of the edited recipe, or the error with advice."""
    budget = FIX_BUDGET if fix else OFFER_BUDGET
    if isinstance(failed.error, MENDED) and failed.seconds <= budget.seconds:
        progress("looking for an edit of the recipe that would pass")
        if not fix:  # the error stays, and what the search finds is printed below it
            impatience.before(math.inf)
    remedy = find_remedy(job, failed, budget, impatience)
    if not (fix and remedy):
        return _with_advice(failed.error, remedy, fix=fix)
    source = job.recipe.source
    rewrite(Path(source.name), source.text, remedy.recipe.source.text)
    again = replace(job, recipe=read_recipe(source.name))
    return replace(check_file(again, progress), fixed=remedy.words)


def _with_advice(error: ModswapError, remedy: Remedy | None, *, fix: bool) -> ModswapError:
    """Return an error whose advice names the edit that would pass."""
    if remedy is None and not (fix and isinstance(error, MENDED)):
        return error
    advice = f"would pass with: {remedy.words}" if remedy else "no small change was found to pass"
    if error.fix and not (remedy and error.fix.startswith(QUESTION)):  # it answers the question
        advice = f"{error.fix}{'' if error.fix.endswith('?') else ';'} {advice}"
    return error.with_fix(advice)
