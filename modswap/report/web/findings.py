"""Findings on a page: those that need attention first, those that hold counted."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modswap.core.finding import THE_MODEL, Finding
from modswap.core.kept.outcome import Outcome
from modswap.report.checks import ABOUT
from modswap.report.folded_names import folded

FAILED, WARNED, SKIPPED, HELD = "failed", "warning", "skipped", "holds"
MARKS = {FAILED: "\N{BALLOT X}", WARNED: "!", SKIPPED: "\N{EN DASH}", HELD: "\N{CHECK MARK}"}
MAX_EVIDENCE = 4000  # characters of the numbers behind a finding


@dataclass(frozen=True, slots=True)
class FindingRow:
    """Findings of one examination that say the same of several places."""

    kind: str  # failed, warning, skipped or holds
    check: str
    about: str  # the fact that holds where the examination passes
    where: tuple[str, ...]  # places; long lists are folded
    what: str
    fix: str
    evidence: str  # the numbers behind it, as JSON; of one place only

    @property
    def mark(self) -> str:
        """Return the sign before it."""
        return MARKS[self.kind]


def finding_rows(outcome: Outcome) -> tuple[FindingRow, ...]:
    """Return all findings of an outcome: failures, warnings, what was skipped, what holds."""
    groups: dict[tuple[str, str, str, str], list[Finding]] = {}
    for one in _findings(outcome):
        groups.setdefault((_kind(one), one.check, one.what, one.fix), []).append(one)
    rows = [_row(kind, group) for (kind, *_), group in groups.items()]
    order = list(MARKS)
    return tuple(sorted(rows, key=lambda row: order.index(row.kind)))


def _findings(outcome: Outcome) -> Iterator[Finding]:
    """Yield every pass and finding, and each error that repeats none of them."""
    verdict = outcome.verdict
    known: Sequence[Finding] = ()
    if verdict is not None:
        for case in verdict.cases:
            if case.ok:
                yield Finding("pass", str(case.key), "passed", f"model output {case.after}")
            yield from case.problems
        yield from verdict.findings
        known = verdict.problems
    for error in outcome.error.all if outcome.error is not None else ():
        if error.finding not in known:
            where = error.where or outcome.checkpoint
            yield Finding(error.check, where, "failed", error.what, error.fix)


def _kind(found: Finding) -> str:
    if found.status == "passed":
        return WARNED if found.fix else HELD
    return FAILED if found.status == "failed" else SKIPPED


def _row(kind: str, group: Sequence[Finding]) -> FindingRow:
    first = group[0]
    places = [fold.words for fold in folded((one.path or THE_MODEL, "") for one in group)]
    about = first.about or ABOUT.get(first.check, "")
    data = dict(first.data) if len(group) == 1 else {}
    evidence = json.dumps(data, ensure_ascii=False, default=str) if data else ""
    if len(evidence) > MAX_EVIDENCE:
        evidence = f"{evidence[:MAX_EVIDENCE]}…"
    return FindingRow(kind, first.check, about, tuple(places), first.what, first.fix, evidence)
