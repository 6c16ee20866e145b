"""Outcomes as a page of HTML: verdict, cost, change and next step, then all details."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from modswap.core.kept.model_view import ModelView
from modswap.core.kept.outcome import Outcome
from modswap.report.checks import checks_of, counts_of
from modswap.report.explained.labels import label
from modswap.report.explained.routed import DrawnRouting, drawn_routing
from modswap.report.page import Page, bare, human_bytes
from modswap.report.summary.findings import counted
from modswap.report.summary.verdict import headline_of
from modswap.report.tamed import tamed
from modswap.report.web.again import Again, again, routing_line
from modswap.report.web.costs import Cost, costs
from modswap.report.web.drawn import DrawnCurve, DrawnFlow, drawn_curve, drawn_flow
from modswap.report.web.findings import SKIPPED, FindingRow, finding_rows
from modswap.report.web.frame import framed
from modswap.report.web.next_steps import NextStep, next_steps
from modswap.report.web.paste import as_latex, as_markdown
from modswap.report.web.sites import SiteEntry, site_entries
from modswap.report.web.trees import TreeItem, tree_items

ROUTED = "BiLevelRoutingAttention"  # the module that attends to chosen windows
LANGUAGE = "en"
SHOWN_REASONS = 3  # of skipped checks, at the top


@dataclass(frozen=True, slots=True)
class OutcomeView:
    """All that the page shows of an outcome.

    Args:
        outcome: The outcome, its texts with visible escapes.
        prefix: The beginning of all names to link to, of a page with several outcomes.
        costs: Numbers before and after.
        sites: The sites, those that are alike together.
        flows: The drawing of the flow around the first site of each entry, by its path.
        routed: The drawings of the windows that attend to one another, by the path of their site.
        tree: The lines of the module trees.
        curve: The drawing of the healing; None where nothing was healed.
        findings: The findings, failures first.
        steps: The next steps.
        again: The commands that print the numbers again.
        tensors: The rows of the ledger: name, number, size, remark, names.
        markdown: A paragraph and tables.
        latex: The same.
        args: The words of the command that was typed.
    """

    outcome: Outcome
    prefix: str
    costs: tuple[Cost, ...]
    sites: tuple[SiteEntry, ...]
    flows: Mapping[str, DrawnFlow]
    routed: Mapping[str, DrawnRouting]
    tree: tuple[TreeItem, ...]
    curve: DrawnCurve | None
    findings: tuple[FindingRow, ...]
    steps: tuple[NextStep, ...]
    again: tuple[Again, ...]
    tensors: tuple[tuple[str, str, str, str, tuple[str, ...]], ...]
    markdown: str
    latex: str
    args: tuple[str, ...]

    @property
    def title(self) -> str:
        """Return the subject of the page in words."""
        names = [name for name in (self.outcome.checkpoint, self.outcome.recipe) if name]
        return ", ".join(names)

    @property
    def verdict(self) -> str:
        """Return the verdict in a sentence."""
        outcome = self.outcome
        if not outcome.ok:
            count = len(outcome.sites)
            sites = f" of {count} site{'s' if count != 1 else ''}" if count else ""
            return f"The swap{sites} does not hold"
        text = headline_of(replace(outcome, seconds=0.0)).text
        file = f"; written to {outcome.written.file}" if outcome.written else ""
        return f"{text[:1].upper()}{text[1:]}{file}"

    @property
    def heals(self) -> bool:
        """Return whether the command was a healing of a swapped file."""
        return self.outcome.command == "heal"

    @property
    def answer(self) -> tuple[str, bool]:
        """Return the answer to the first question, and whether it is good."""
        healing = self.outcome.healing
        if self.outcome.ok and self.heals and healing is not None:
            reached = healing.after.value >= healing.goal
            return ("Yes" if reached else "Not yet"), reached
        return ("Yes" if self.outcome.ok else "No"), self.outcome.ok

    @property
    def untrained(self) -> bool:
        """Return whether new modules hold random weights that nothing has trained."""
        fresh = any(site.start == "fresh" for site in self.outcome.sites)
        ledger = self.outcome.ledger
        new = fresh and ledger is not None and ledger.fresh.tensors > 0
        return self.outcome.ok and new and self.outcome.healing is None

    @property
    def counted(self) -> str:
        """Return how many checks hold, fail and were skipped, in words."""
        return counted(self.outcome)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Return why checks were skipped, in few words; the first reasons of many."""
        reasons: dict[str, list[str]] = {}
        for row in self.findings:
            if row.kind == SKIPPED:
                reasons.setdefault(row.what.partition(": ")[0], []).append(row.check)
        said = [f"{', '.join(dict.fromkeys(names))}: {what}" for what, names in reasons.items()]
        more = f"and {len(said) - SHOWN_REASONS} more reasons, below"
        return (*said[:SHOWN_REASONS], *([more] if len(said) > SHOWN_REASONS else []))

    def routing(self, entry: SiteEntry) -> str:
        """Return the command that shows the routing of a site; empty where there is none."""
        return routing_line(self.outcome, entry.paths[0], self.args) if entry.new == ROUTED else ""

    @property
    def holding(self) -> int:
        """Return how many checks hold."""
        return counts_of(checks_of(self.outcome))["passed"]

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
    return framed(
        "outcome.html",
        title=f"modswap {first.command}: {title}",
        views=views,
        label=lambda name: label(name, LANGUAGE),
    )


def _view(outcome: Outcome, page: Page, prefix: str) -> OutcomeView:
    findings = finding_rows(outcome)
    sites = site_entries(outcome)
    model = outcome.view if outcome.view is not None else ModelView()
    return OutcomeView(
        outcome=outcome,
        prefix=prefix,
        costs=costs(outcome),
        sites=sites,
        flows=_flows(sites, model),
        routed={
            one.path: drawn_routing(one.windows, one.picture, LANGUAGE) for one in model.routings
        },
        tree=tree_items(model),
        curve=None if outcome.healing is None else drawn_curve(outcome.healing),
        findings=findings,
        steps=next_steps(outcome, page.args),
        again=again(outcome, page.args),
        tensors=tuple(_tensors(outcome)),
        markdown=as_markdown(outcome),
        latex=as_latex(outcome),
        args=tuple(page.args),
    )


def _flows(entries: Sequence[SiteEntry], model: ModelView) -> Mapping[str, DrawnFlow]:
    known = {flow.path: flow for flow in model.flows}
    classes = {row.path: bare(row.class_name) for row in model.after}
    firsts = [(entry.paths[0], entry.site) for entry in entries]
    return {path: drawn_flow(known[path], site, classes) for path, site in firsts if path in known}


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
