"""Notes on placeholders and on sites that became much larger."""

from typing import Any

import pytest

from modswap.core.decided.cost import PassCost, cost_finding
from modswap.core.finding import Finding
from modswap.core.kept.growth import PLACEHOLDER, growth_notes
from modswap.core.kept.outcome import SiteOutcome


def site(path: str, old: int, new: int, cls: str = "net.Gate", rule: str = "swap.yaml:3:5") -> Any:
    args: dict[str, Any] = {}
    return SiteOutcome(path, (), rule, cls, old, "modswap.nn.ECA", new, args, (), "NCHW")


def cost(path: str, before: int, after: int) -> Finding:
    return cost_finding(path, PassCost(1, before, 0, 0, 0), PassCost(1, after, 0, 0, 0))


EMPTY = [site(f"blocks.{i}.gate", 0, 1000, PLACEHOLDER) for i in range(6)]


@pytest.mark.parametrize(
    ("others", "cure"),
    [
        ([], "`exclude` leaves them out"),
        ([site("a", 9, 9)], "`class: Gate` leaves them out"),
        ([site("a", 9, 9), site("b", 9, 9, "Net")], "`class: [Gate, Net]` leaves them out"),
    ],
)
def test_placeholders_of_a_rule_are_one_note_with_the_class_that_leaves_them_out(
    others: list[SiteOutcome], cure: str
) -> None:
    (note,) = growth_notes([*others, *EMPTY], [])

    held = f"6 of {6 + len(others)} sites held nn.Identity, which computes nothing, and get 6,000"
    named = "blocks.0.gate, blocks.1.gate, blocks.2.gate, blocks.3.gate, …"
    assert note == f"swap.yaml:3:5: {held} parameters: {named}; {cure}"


@pytest.mark.parametrize(
    ("old", "new", "before", "after", "grown"),
    [
        (10, 50, 10, 50, ""),
        (10, 51, 10, 50, "parameters 10 → 51"),
        (10, 50, 10, 5100, "FLOPs 10 → 5.1 k"),
        (0, 1, 0, 1, "parameters 0 → 1, FLOPs 0 → 1"),
        (0, 0, 0, 0, ""),
    ],
)
def test_site_of_more_than_five_times_the_cost_is_named(
    old: int, new: int, before: int, after: int, grown: str
) -> None:
    notes = growth_notes([site("a", old, new)], [cost("a", before, after), cost("", 1, 100)])

    what = "swap.yaml:3:5: its site costs more than 5 times as much as before: a"
    assert notes == ((f"{what} ({grown})",) if grown else ())


def test_each_rule_has_its_own_notes() -> None:
    second = [site("b", 1, 6, rule="2"), site("c", 1, 5, rule="2"), site("d", 1, 7, rule="2")]
    skipped = Finding("cost", "b", "skipped", "it cannot run by itself")

    notes = growth_notes([site("a", 0, 8, PLACEHOLDER), *second], [skipped])

    nothing = "which computes nothing, and gets 8 parameters"
    more = "cost more than 5 times as much as before"
    assert notes == (
        f"swap.yaml:3:5: its site held nn.Identity, {nothing}: a; `exclude` leaves them out",
        f"2: 2 of 3 sites {more}: b (parameters 1 → 6), d (parameters 1 → 7)",
    )
