"""Outcomes as a page of HTML: verdict, cost, change and next step, then all details."""

from collections.abc import Sequence
from dataclasses import dataclass

from modswap.core.kept.outcome import Outcome
from modswap.report.page import Page, human_bytes
from modswap.report.tamed import tamed
from modswap.report.web.again import Again, again
from modswap.report.web.costs import Cost, costs
from modswap.report.web.findings import FAILED, SKIPPED, WARNED, FindingRow, counted, finding_rows
from modswap.report.web.frame import framed
from modswap.report.web.next_steps import NextStep, next_steps
from modswap.report.web.paste import as_latex, as_markdown
from modswap.report.web.sites import SiteEntry, site_entries


@dataclass(frozen=True, slots=True)
class OutcomeView:
    """All that the page shows of an outcome.

    Args:
        outcome: The outcome, its texts with visible escapes.
        prefix: The beginning of all names to link to, of a page with several outcomes.
        costs: Numbers before and after.
        sites: The sites, those that are alike together.
        findings: The findings, failures first.
        counts: How many examinations failed, warn, were skipped, hold.
        steps: The next steps.
        again: The commands that print the numbers again.
        tensors: The rows of the ledger: name, number, size, remark, names.
        markdown: A paragraph and tables.
        latex: The same.
    """

    outcome: Outcome
    prefix: str
    costs: tuple[Cost, ...]
    sites: tuple[SiteEntry, ...]
    findings: tuple[FindingRow, ...]
    counts: dict[str, int]
    steps: tuple[NextStep, ...]
    again: tuple[Again, ...]
    tensors: tuple[tuple[str, str, str, str, tuple[str, ...]], ...]
    markdown: str
    latex: str

    @property
    def title(self) -> str:
        """Return the subject of the page in words."""
        names = [name for name in (self.outcome.checkpoint, self.outcome.recipe) if name]
        return ", ".join(names)

    @property
    def verdict(self) -> str:
        """Return the verdict in a sentence."""
        count = len(self.outcome.sites)
        sites = f"the swap of {count} site{'s' if count != 1 else ''}" if count else "the swap"
        if not self.outcome.ok:
            return f"{sites[0].upper()}{sites[1:]} does not hold"
        end = f"; written to {self.outcome.written.file}" if self.outcome.written else ""
        return f"{sites[0].upper()}{sites[1:]} holds{end or '; nothing was written'}"

    @property
    def counted(self) -> str:
        """Return how many checks failed, warn, were skipped and hold, in words."""
        return ", ".join(_count(kind, count) for kind, count in self.counts.items() if count)

    @property
    def recipe(self) -> str:
        """Return the text of the recipe, as it was read."""
        return self.outcome.recipe_text


def outcome_page(outcomes: Sequence[Outcome], page: Page) -> str:
    """Return outcomes as one page."""
    several = len(outcomes) > 1
    views = [
        _view(tamed(outcome), page, f"{number}-" if several else "")
        for number, outcome in enumerate(outcomes, 1)
    ]
    first = outcomes[0]
    title = f"{len(outcomes)} outcomes" if several else f"{first.checkpoint}"
    return framed("outcome.html", title=f"modswap {first.command}: {title}", views=views)


def _count(kind: str, count: int) -> str:
    checks = f"{count} check{'s' if count != 1 else ''}"
    said = {FAILED: "failed", WARNED: "with advice", SKIPPED: "skipped in part or whole"}
    return f"{checks} {said.get(kind, 'hold' if count != 1 else 'holds')}"


def _view(outcome: Outcome, page: Page, prefix: str) -> OutcomeView:
    findings = finding_rows(outcome)
    return OutcomeView(
        outcome=outcome,
        prefix=prefix,
        costs=costs(outcome),
        sites=site_entries(outcome),
        findings=findings,
        counts=counted(findings),
        steps=next_steps(outcome, page.args),
        again=again(outcome, page.args),
        tensors=tuple(_tensors(outcome)),
        markdown=as_markdown(outcome),
        latex=as_latex(outcome),
    )


def _tensors(outcome: Outcome) -> Sequence[tuple[str, str, str, str, tuple[str, ...]]]:
    ledger = outcome.ledger
    if ledger is None:
        return ()
    proved = "compared with the written file: equal bit for bit"
    rows = (
        ("kept", ledger.kept, proved if ledger.proved else "not compared: nothing was written", ()),
        ("mapped", ledger.mapped, "made of old ones", ledger.mapped.names),
        ("fresh", ledger.fresh, "new", ledger.fresh.names),
        ("dropped", ledger.dropped, "no longer there", ledger.dropped.names),
    )
    return [
        (name, f"{amount.tensors:,}", human_bytes(amount.nbytes), remark, tuple(names))
        for name, amount, remark, names in rows
        if amount.tensors or name != "mapped"
    ]
