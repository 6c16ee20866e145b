"""Sites on a page: those that are alike share an entry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modswap.core.healed.healing import HEALED
from modswap.core.kept.outcome import Outcome, SiteOutcome
from modswap.report.folded_names import folded
from modswap.report.page import bare, change_words, params_words
from modswap.report.web.costs import site_costs

SHOWN_CALLS = 4


@dataclass(frozen=True, slots=True)
class SiteEntry:
    """Sites that are alike: the first of them, the paths of all, their shapes and cost in words."""

    site: SiteOutcome
    paths: tuple[str, ...]
    calls: tuple[str, ...]
    cost: str

    @property
    def name(self) -> str:
        """Return the paths as one text: `blocks.0–11.attn ×12`."""
        return ", ".join(fold.words for fold in folded((path, "") for path in self.paths))

    @property
    def change(self) -> str:
        """Return the old and the new class in words."""
        return change_words(self.site)

    @property
    def params(self) -> str:
        """Return the parameters before and after."""
        return params_words(self.site)

    @property
    def mapped(self) -> tuple[tuple[str, str], ...]:
        """Return where the new weights come from."""
        return mapped_of(self.site)

    @property
    def old(self) -> str:
        """Return the bare name of the old class."""
        return bare(self.site.old_class)

    @property
    def new(self) -> str:
        """Return the bare name of the new class; empty where the module was taken out."""
        return bare(self.site.new_class)


def site_entries(outcome: Outcome) -> tuple[SiteEntry, ...]:
    """Return the sites of an outcome, those that differ in their paths alone as one."""
    cost = site_costs(outcome)
    groups: dict[str, list[SiteOutcome]] = {}
    for site in outcome.sites:
        groups.setdefault(_key(site, cost), []).append(site)
    return tuple(_entry(group, cost) for group in groups.values())


def _key(site: SiteOutcome, cost: Mapping[str, str]) -> str:
    """Return a text that is equal for two sites of which a reader would see no difference."""
    return repr(
        (
            site.rule, site.old_class, site.old_params, site.new_class, site.new_params,
            sorted(site.args.items()), _calls(site), site.layout, site.start, site.place,
            site.choices, site.notes, mapped_of(site), site.fresh, site.aliases, site.shared_with,
            cost.get(site.new_path or site.path),
        )
    )  # fmt: skip


def mapped_of(site: SiteOutcome) -> tuple[tuple[str, str], ...]:
    """Return where the new weights come from; nothing for healed ones, which changed since."""
    return () if site.start == HEALED else site.mapped


def _entry(group: Sequence[SiteOutcome], cost: Mapping[str, str]) -> SiteEntry:
    first = group[0]
    paths = tuple(site.new_path or site.path for site in group)
    return SiteEntry(first, paths, _calls(first), cost.get(paths[0], ""))


def _calls(site: SiteOutcome) -> tuple[str, ...]:
    """Return the shapes of the calls of a site, each once."""
    lines = [f"{', '.join(map(str, call.inputs))} → {call.output}" for call in site.calls]
    each = list(dict.fromkeys(lines))
    rest = len(each) - SHOWN_CALLS
    return (*each[:SHOWN_CALLS], *([f"… {rest} other shapes"] if rest > 0 else []))
