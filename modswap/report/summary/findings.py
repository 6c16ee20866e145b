"""Everything in an outcome that is not plain success, with its fix, and the number of the rest."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from modswap.core.errors import ModswapError
from modswap.core.finding import THE_MODEL, Finding, Status
from modswap.core.kept.outcome import Outcome
from modswap.report.checks import checks_of, counts_of
from modswap.report.folded_names import folded, pattern_of

FAILS, WARNS, SKIPS = "✗", "!", "–"
SHAPES_ALONE = "only shapes were computed"
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]\d+)?")
SHOWN_PLACES = 4  # that a remark names


@dataclass(frozen=True, slots=True)
class Remark:
    """A finding for people that is not plain success; several alike are one.

    Args:
        mark: `FAILS`, `WARNS` or `SKIPS`.
        about: The module, file, place in the recipe or check; empty for none.
        what: The observation.
        fix: A step that the user can take, of one or several lines; empty for none.
        check: The check that says it; empty where `about` names it, or none does.
    """

    mark: str
    about: str
    what: str
    fix: str = ""
    check: str = ""

    @property
    def text(self) -> str:
        """Return the remark in a sentence, without its fix."""
        check = f" ({self.check})" if self.check not in {"", "pass"} else ""
        return f"{self.about}: {self.what}{check}" if self.about else f"{self.what}{check}"


def remarks_of(outcome: Outcome) -> tuple[Remark, ...]:
    """Return the failures, then the warnings, then what was skipped."""
    findings = outcome.verdict.findings if outcome.verdict is not None else ()
    advice = (found for found in findings if found.status == "passed" and found.fix)
    return (
        *_alike(FAILS, _failures(outcome)),
        *_alike(WARNS, map(_row, advice)),
        *_noted(outcome),
        *_skipped(findings),
    )


_VERBS: tuple[tuple[Status, str, str], ...] = (
    ("failed", "fails", "fail"),
    ("passed", "holds", "hold"),
    ("skipped", "was skipped", "were skipped"),
)


def counted(outcome: Outcome) -> str:
    """Return how many checks hold, fail and were skipped; empty where none was made."""
    if outcome.verdict is None:
        return ""
    counts = counts_of(checks_of(outcome))
    parts: list[str] = []
    for status, one, many in _VERBS:
        if counts[status]:
            single = counts[status] == 1
            noun = "" if parts else " check" if single else " checks"
            parts.append(f"{counts[status]:,}{noun} {one if single else many}")
    alone = [SHAPES_ALONE] if outcome.verdict.finite is None else []
    return "; ".join(filter(None, (", ".join(parts), *alone)))


Row = tuple[str, str, str, str]  # check, about, what, fix


def _failures(outcome: Outcome) -> Iterator[Row]:
    """Yield all errors, and the failures that none of them repeats."""
    errors = outcome.error.all if outcome.error is not None else ()
    yield from map(_error, errors)
    repeated = [error.finding for error in errors]
    for found in outcome.verdict.problems if outcome.verdict is not None else ():
        if found not in repeated:
            yield _row(found)


def _error(error: ModswapError) -> Row:
    return (error.check if error.finding else "", error.where, error.what, error.fix)


def _row(found: Finding) -> Row:
    return (found.check, found.path or THE_MODEL, found.what, found.fix)


def _alike(mark: str, rows: Iterable[Row]) -> Iterator[Remark]:
    """Yield a remark for all rows that differ in their places alone."""
    groups: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        check, about, what, fix = row
        line = about if ":" in about else ""  # of a recipe
        groups.setdefault((check, pattern_of(what), fix, line), []).append(row)
    for (check, _, fix, _), group in groups.items():
        yield Remark(mark, places([about for _, about, _, _ in group]), group[0][2], fix, check)


def places(names: Sequence[str]) -> str:
    """Return names in few words: those of a list folded, the first ones of many."""
    found = all_places(names)
    more = f" and {len(found) - SHOWN_PLACES} more" if len(found) > SHOWN_PLACES else ""
    return ", ".join(found[:SHOWN_PLACES]) + more


def all_places(names: Sequence[str]) -> list[str]:
    """Return names, each once, those of a list folded."""
    return [one.words for one in folded((name, "") for name in dict.fromkeys(names) if name)]


def _noted(outcome: Outcome) -> Iterator[Remark]:
    """Yield the notes on the model, then those on sites, each once with all its sites."""
    healing = outcome.healing
    for note in dict.fromkeys((*outcome.notes, *(healing.notes if healing is not None else ()))):
        yield Remark(WARNS, "", note)
    notes = [(s.new_path or s.path, note) for s in outcome.sites for note in s.notes]
    notes += [(s.path, note) for s in (healing.sites if healing else ()) for note in s.notes]
    groups: dict[str, list[tuple[str, str]]] = {}
    for path, note in notes:
        groups.setdefault(_NUMBER.sub("#", note), []).append((path, note))
    for group in groups.values():
        paths, said = zip(*group, strict=True)
        yield Remark(WARNS, places(paths), _spanned(said))


def _spanned(texts: Sequence[str]) -> str:
    """Return texts that differ in numbers alone as one, with the range of each number."""
    columns = zip(*map(_NUMBER.findall, texts), strict=True)
    ranges = iter([_range(column) for column in columns])
    return _NUMBER.sub(lambda _: next(ranges), texts[0])


def _range(numbers: Sequence[str]) -> str:
    least, most = min(numbers, key=float), max(numbers, key=float)
    return least if least == most else f"{least} to {most}"


def _skipped(findings: Sequence[Finding]) -> Iterator[Remark]:
    """Yield what was skipped; checks with one reason at the same places are one remark."""
    reasons: dict[tuple[str, bool], dict[str, list[str]]] = {}
    for found in findings:
        if found.status == "skipped":
            key = (found.what, bool(found.path))
            reasons.setdefault(key, {}).setdefault(found.check, []).append(found.path)
    for (reason, of_sites), checks in reasons.items():
        for names, where in _by_places(checks).items():
            at = f" at {places(where)}" if of_sites else ""
            yield Remark(SKIPS, f"{names}{at}", reason or "not examined")


def _by_places(checks: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """Return the paths of checks, by the names of all checks that have the same paths."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for check, paths in checks.items():
        groups.setdefault(tuple(paths), []).append(check)
    return {", ".join(names): paths for paths, names in groups.items()}
