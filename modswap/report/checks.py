"""An outcome as a list of checks with places in the recipe: what reports for CI share."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from modswap.core import errors
from modswap.core.decided.verdict import Case, Verdict
from modswap.core.errors import ModswapError
from modswap.core.finding import Status
from modswap.core.kept.outcome import Outcome
from modswap.core.words.printable import tame

MODEL = "the model"
ABOUT: Mapping[str, str] = {  # the sentences of examinations are in their findings
    "pass": "a forward pass of the swapped model gives what it gave before: no exception, every "
    "site reached as often, the same structure, shapes and dtypes",
    "reached": "the dummy input reaches every module that a rule selects",
    "limits": "the limits that the recipe sets are kept",
    "usage": "the command was called as it can be",
    "recipe": "the recipe is one, and its modules can be given what it asks for",
    "match": "every rule selects what it should, and nothing else",
    "input": "the model as it was takes the dummy input",
    "fit": "the new modules fit their sites",
    "checkpoint": "the file can be read, and the output written",
    "safety": "loading the file builds and runs nothing that was not allowed",
    "other": "nothing else went wrong",
}
# the first that fits, so subclasses come before their bases
_KINDS: tuple[tuple[type[ModswapError], str], ...] = (
    (errors.UsageError, "usage"),
    (errors.MatchError, "match"),
    (errors.RecipeError, "recipe"),
    (errors.InputError, "input"),
    (errors.UnreachedError, "reached"),
    (errors.LimitError, "limits"),
    (errors.ShapeError, "fit"),
    (errors.CheckpointError, "checkpoint"),
    (errors.UnsafeError, "safety"),
    (ModswapError, "other"),
)
_PLACE = re.compile(
    r"(?P<file>.+?):(?P<line>[1-9]\d{0,8})(?::(?P<column>[1-9]\d{0,8}))?", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a text file; line and column are counted from 1, and 0 where they are unknown."""

    file: str
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that does not hold.

    Args:
        check: A key of `ABOUT`, or the name of an examination.
        about: Path of the module, or what else it concerns, in words.
        path: Path of the module that it concerns; empty for anything else.
        what: What does not hold, with both sides.
        fix: What the user can do.
        place: Where in the recipe; None if there is none.
    """

    check: str
    about: str
    path: str
    what: str
    fix: str
    place: Place | None

    @property
    def text(self) -> str:
        """Return it in a sentence or two, on lines of their own."""
        return f"{self.about}: {self.what}" + (f"\nfix: {self.fix}" if self.fix else "")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked.

    Args:
        name: A key of `ABOUT`, or the name of an examination.
        subject: What was checked: a pass or a module's path.
        status: `failed` has faults; `skipped` has a reason.
        broken: Whether it is not the swap that failed, but what had to be done before.
        reason: Why nothing is known.
        faults: What does not hold.
    """

    name: str
    subject: str
    status: Status
    broken: bool = False
    reason: str = ""
    faults: tuple[Fault, ...] = ()


def sentences_of(outcomes: Iterable[Outcome]) -> Mapping[str, str]:
    """Return for each name of a check what holds where it passes: a sentence."""
    examined = {
        found.check: found.about or ABOUT.get(found.check, found.check)
        for outcome in outcomes
        if outcome.verdict is not None
        for found in outcome.verdict.findings
    }
    return {**ABOUT, **examined}


def kind_of(error: ModswapError, verdict: Verdict | None) -> str:
    """Return what an error shows not to hold, a key of `ABOUT`.

    Args:
        error: One error, without those reported with it.
        verdict: What the command found; None if it was stopped before.
    """
    said = (error.where, error.what)
    for found in () if verdict is None else verdict.findings:
        if found.status == "failed" and said == (found.path or MODEL, found.what):
            return found.check
    for case in () if verdict is None else verdict.cases:
        if any(said == (problem.path or MODEL, problem.what) for problem in case.problems):
            return "pass"
    return next(kind for cls, kind in _KINDS if isinstance(error, cls))


def plain(text: str) -> str:
    """Return a text of one or more lines that any format can hold: no control characters."""
    lines = re.sub("[\u2028\u2029]", "\n", tame(text))
    return re.sub("[\x1b\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]", "\ufffd", lines)


def on_one_line(text: str) -> str:
    """Return a text on one line, without control characters."""
    return re.sub("\n+", " ", plain(text))


def checks_of(outcome: Outcome) -> tuple[Check, ...]:
    """Return everything that was checked: passes, examinations, then what stopped the command."""
    verdict = outcome.verdict
    found: list[Check] = []
    if verdict is not None:
        found += [_pass(case, outcome) for case in verdict.cases]
        found += [
            Check(
                one.check,
                plain(one.path) or MODEL,
                one.status,
                reason=plain(one.what),
                faults=(_fault(one.check, one.path, one.what, one.fix, outcome),)
                if one.status == "failed"
                else (),
            )
            for one in verdict.findings
        ]
    return (*found, *_stopped(outcome))


def faults_of(outcome: Outcome) -> tuple[Fault, ...]:
    """Return everything that does not hold, each once, in order."""
    return tuple(dict.fromkeys(fault for check in checks_of(outcome) for fault in check.faults))


def counts_of(checks: Sequence[Check]) -> Mapping[Status, int]:
    """Return how many checks there are of each status."""
    statuses: tuple[Status, ...] = ("passed", "failed", "skipped")
    return {status: sum(one.status == status for one in checks) for status in statuses}


def place_of(where: str, outcome: Outcome) -> Place | None:
    """Return the place in the recipe that an error or a module belongs to.

    A place in a file is that place; a swapped module, and what is inside it, has its rule's;
    anything else has that of the only rule, else the recipe, else the checkpoint.

    Args:
        where: As errors and problems have it: `swap.yaml:7:5`, a module's path, anything.
        outcome: What it was found in.
    """
    rules = [site.rule for site in outcome.sites if _inside(where, (site.path, *site.aliases))]
    rules = rules or list(dict.fromkeys(site.rule for site in outcome.sites))
    near = rules[:1] if len(set(rules)) == 1 else []
    for text in (where, *near):
        found = _PLACE.fullmatch(text)
        if found and not _unnamed(found["file"]):
            return Place(found["file"], int(found["line"]), int(found["column"] or 0))
    files = [name for name in (outcome.recipe, outcome.checkpoint) if not _unnamed(name)]
    return Place(files[0]) if files else None


def file_name(place: Place) -> str:
    """Return a place's file as reports write it, with slashes."""
    return on_one_line(PurePath(place.file).as_posix())


def _unnamed(name: str) -> bool:
    return name in {"", "-"} or (name.startswith("<") and name.endswith(">"))


def _inside(path: str, sites: Sequence[str]) -> bool:
    return any(path == site or path.startswith(f"{site}.") for site in sites)


def _pass(case: Case, outcome: Outcome) -> Check:
    faults = tuple(_fault("pass", p.path, p.what, p.fix, outcome) for p in case.problems)
    status: Status = "passed" if case.ok else "failed"
    return Check("pass", plain(str(case.key)), status, faults=faults)


def _fault(check: str, path: str, what: str, fix: str, outcome: Outcome) -> Fault:
    place = place_of(path, outcome)
    return Fault(check, plain(path) or MODEL, plain(path), plain(what), plain(fix), place)


def _stopped(outcome: Outcome) -> Iterator[Check]:
    """Yield the errors that the verdict does not tell of."""
    verdict = outcome.verdict
    told = set() if verdict is None else set(verdict.problems)
    said = {(problem.path or MODEL, problem.what) for problem in told}
    for error in outcome.error.all if outcome.error is not None else ():
        if (error.where, error.what) in said:
            continue
        name = kind_of(error, verdict)
        about = plain(error.where) or plain(outcome.checkpoint) or MODEL
        place = place_of(error.rule or error.where, outcome)
        fault = Fault(name, about, "", plain(error.what), plain(error.fix), place)
        yield Check(name, about, "failed", broken=error.code != 1, faults=(fault,))
