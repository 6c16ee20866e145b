"""Notes on swaps that put modules where nothing was computed, or that cost many times as much."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from modswap.core.decided.cost import count_text
from modswap.core.finding import Finding
from modswap.core.kept.outcome import SiteOutcome

PLACEHOLDER = "torch.nn.modules.linear.Identity"
MAX_GROWTH = 5  # times the parameters or FLOPs of the old module, without a note
SHOWN = 4  # sites that a note names


def growth_notes(sites: Sequence[SiteOutcome], findings: Iterable[Finding]) -> tuple[str, ...]:
    """Return a note for each rule that replaces placeholders, and for each that costs much more.

    The FLOPs of a site are those that the examination `cost` found.
    """
    costs = {found.path: found.data for found in findings if found.check == "cost" and found.data}
    rules: dict[str, list[SiteOutcome]] = {}
    for site in (site for site in sites if not site.place):
        rules.setdefault(site.rule, []).append(site)
    notes = [
        note
        for rule, own in rules.items()
        for note in (*_placeholders(rule, own), *_grown(rule, own, costs))
    ]
    return tuple(notes)


def _placeholders(rule: str, sites: Sequence[SiteOutcome]) -> Iterator[str]:
    held = [site for site in sites if site.old_class == PLACEHOLDER]
    if not held:
        return
    others = dict.fromkeys(_bare(s.old_class) for s in sites if s.old_class != PLACEHOLDER)
    cure = "`exclude` leaves them out"
    if others:
        names = ", ".join(others)
        cure = f"`class: {f'[{names}]' if len(others) > 1 else names}` leaves them out"
    params = sum(site.new_params for site in held)
    yield (
        f"{rule}: {_count(held, sites)} held nn.Identity, which computes nothing, and "
        f"{'gets' if len(held) == 1 else 'get'} {params:,} parameters: {_named(held)}; {cure}"
    )


def _grown(
    rule: str, sites: Sequence[SiteOutcome], costs: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    others = [site for site in sites if site.old_class != PLACEHOLDER]
    parts = {site.path: ", ".join(_growth(site, costs.get(site.path, {}))) for site in others}
    grown = [site for site in others if parts[site.path]]
    if grown:
        verb = "costs" if len(grown) == 1 else "cost"
        what = f"{_count(grown, sites)} {verb} more than {MAX_GROWTH} times as much as before"
        shown = [f"{site.path} ({parts[site.path]})" for site in grown]
        yield f"{rule}: {what}: {_first(shown)}"


def _growth(site: SiteOutcome, cost: Mapping[str, Any]) -> Iterator[str]:
    """Yield what has grown at a site, with both numbers."""
    if site.new_params > MAX_GROWTH * site.old_params:
        yield f"parameters {site.old_params:,} → {site.new_params:,}"
    before, after = (cost.get(when, {}).get("flops", 0) for when in ("before", "after"))
    if after > MAX_GROWTH * before:
        yield f"FLOPs {count_text(before)} → {count_text(after)}"


def _count(some: Sequence[SiteOutcome], sites: Sequence[SiteOutcome]) -> str:
    if len(sites) == 1:
        return "its site"
    return f"{len(some)} of {len(sites)} sites"


def _named(sites: Sequence[SiteOutcome]) -> str:
    return _first([site.path for site in sites])


def _first(items: Sequence[str]) -> str:
    return ", ".join(items[:SHOWN]) + (", …" if len(items) > SHOWN else "")


def _bare(class_name: str) -> str:
    return class_name.rpartition(".")[2]
