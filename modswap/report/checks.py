"""An outcome as a list of checks with places in the recipe, for all reports for CI."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from modswap.core.decided.verdict import CaseVerdict
from modswap.core.finding import THE_MODEL, Finding, Status
from modswap.core.kept.outcome import Outcome, SiteOutcome
from modswap.core.words.printable import tame

ABOUT: Mapping[str, str] = {  # the sentences of examinations are in their findings
    "pass": "a forward pass of the swapped model returns the same as before: no exception, every "
    "site reached as often, the same structure, shapes and dtypes",
    "reached": "the dummy input reaches every module that a rule selects",
    "limits": "the limits that the recipe sets are kept",
    "usage": "the command's options and arguments are valid",
    "recipe": "the recipe is valid, and its modules can be made with its arguments",
    "match": "every rule selects the modules that it should, and no others",
    "input": "the original model takes the dummy input",
    "fit": "the new modules fit their sites",
    "checkpoint": "the file can be read, and the output written",
    "safety": "loading the file builds and runs nothing that was not allowed",
    "lock": "recipe, file, versions and sites are those of the lock file",
    "ranks": "the processes that do the work together all go on to its end",
    "explain": "the forward of the module has lines that can be run one by one",
    "code": "the model's own source can be changed as the swap changes the model",
    "other": "no error of another kind",
}
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
    """A failed finding as reports for CI show it."""

    finding: Finding
    about: str  # path of the module, or another subject in words
    place: Place | None  # its place in the recipe; None if there is none

    @property
    def text(self) -> str:
        """Return the fault in a sentence or two, on lines of their own."""
        fix = f"\nfix: {self.finding.fix}" if self.finding.fix else ""
        return f"{self.about}: {self.finding.what}{fix}"


@dataclass(frozen=True, slots=True)
class Check:
    """A line of a report for CI: a pass, an examination at a place, or an error."""

    name: str  # a key of `ABOUT`, or the name of an examination
    subject: str  # the pass, or the path of the module
    status: Status  # `failed` has faults; `skipped` has a reason
    broken: bool = False  # whether a step before the verification failed, and not the swap itself
    reason: str = ""  # why nothing is known
    faults: tuple[Fault, ...] = ()  # the faults of a check that failed


def sentences_of(outcomes: Iterable[Outcome]) -> Mapping[str, str]:
    """Return for each name of a check a sentence that holds where the check passes."""
    findings = [
        found for outcome in outcomes for found in (*_errors_findings(outcome), *_findings(outcome))
    ]
    named = {found.check: found.about or ABOUT.get(found.check, found.check) for found in findings}
    return {**ABOUT, **named}


def _findings(outcome: Outcome) -> tuple[Finding, ...]:
    return () if outcome.verdict is None else outcome.verdict.findings


def _errors_findings(outcome: Outcome) -> Iterator[Finding]:
    """Yield the findings that errors repeat; a verdict may be missing."""
    for error in () if outcome.error is None else outcome.error.all:
        if error.finding is not None:
            yield error.finding


def checks_of(outcome: Outcome) -> tuple[Check, ...]:
    """Return all passes and examinations, then the errors that stopped the command."""
    cases = () if outcome.verdict is None else outcome.verdict.cases
    return (
        *(_pass(case, outcome) for case in cases),
        *(_examination(found, outcome) for found in _findings(outcome)),
        *_stopped(outcome),
    )


def faults_of(outcome: Outcome) -> tuple[Fault, ...]:
    """Return everything that does not hold, each once, in order."""
    return tuple(dict.fromkeys(fault for check in checks_of(outcome) for fault in check.faults))


def counts_of(checks: Sequence[Check]) -> Mapping[Status, int]:
    """Return how many checks there are of each status."""
    statuses: tuple[Status, ...] = ("passed", "failed", "skipped")
    return {status: sum(one.status == status for one in checks) for status in statuses}


def place_of(where: str, outcome: Outcome) -> Place | None:
    """Return the place in the recipe that an error or a module belongs to.

    A place in a file (`swap.yaml:7:5`) is that place; a swapped module, and each module inside it,
    has the place of its rule; any other subject has that of the only rule, else the recipe, else
    the checkpoint.
    """
    rules = [site.rule for site in outcome.sites if _inside(where, _own_paths(site))]
    rules = rules or list(dict.fromkeys(site.rule for site in outcome.sites))
    near = rules[:1] if len(set(rules)) == 1 else []
    for text in (where, *near):
        found = _PLACE.fullmatch(text)
        if found and not _unnamed(found["file"]):
            return Place(found["file"], int(found["line"]), int(found["column"] or 0))
    files = [name for name in (outcome.recipe, outcome.checkpoint) if not _unnamed(name)]
    return Place(files[0]) if files else None


def _own_paths(site: SiteOutcome) -> Sequence[str]:
    """Return the paths of a new module."""
    return (site.new_path,) if site.place else (site.path, *site.aliases)


def file_name(place: Place) -> str:
    """Return a place's file as reports write it, with slashes."""
    return tame(PurePath(place.file).as_posix())


def _unnamed(name: str) -> bool:
    return name in {"", "-"} or (name.startswith("<") and name.endswith(">"))


def _inside(path: str, sites: Sequence[str]) -> bool:
    return any(path == site or path.startswith(f"{site}.") for site in sites)


def _pass(case: CaseVerdict, outcome: Outcome) -> Check:
    faults = tuple(_fault(found, outcome) for found in case.problems)
    return Check("pass", tame(str(case.key)), "failed" if faults else "passed", faults=faults)


def _examination(found: Finding, outcome: Outcome) -> Check:
    subject = tame(found.path) or THE_MODEL
    faults = (_fault(found, outcome),) if found.status == "failed" else ()
    return Check(found.check, subject, found.status, reason=tame(found.what), faults=faults)


def _fault(found: Finding, outcome: Outcome) -> Fault:
    shown = Finding(found.check, tame(found.path), found.status, tame(found.what), tame(found.fix))
    return Fault(shown, shown.path or THE_MODEL, place_of(found.path, outcome))


def _stopped(outcome: Outcome) -> Iterator[Check]:
    """Yield the errors that repeat no finding of the verdict."""
    known = set() if outcome.verdict is None else set(outcome.verdict.problems)
    for error in outcome.error.all if outcome.error is not None else ():
        if error.finding not in known:
            about = tame(error.where) or tame(outcome.checkpoint) or THE_MODEL
            finding = Finding(error.check, "", "failed", tame(error.what), tame(error.fix))
            fault = Fault(finding, about, place_of(error.rule or error.where, outcome))
            yield Check(error.check, about, "failed", broken=error.code != 1, faults=(fault,))
