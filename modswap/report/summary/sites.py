"""The swapped sites: equal ones of a list on one line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modswap.core.decided.cost import count_text
from modswap.core.kept.outcome import SiteOutcome
from modswap.core.seen.site import Call
from modswap.core.seen.values import tensors
from modswap.report.folded_names import folded
from modswap.report.page import change_words, params_words


@dataclass(frozen=True, slots=True)
class SiteLine:
    """A site, or several that are equal but for the numbers in their paths."""

    path: str  # `layers.0–11.attn ×12` for several
    site: SiteOutcome  # the first
    count: int = 1

    @property
    def shape(self) -> str:
        """Return the shape of its first call, or input and output: `(1, 64, 14, 14)`."""
        return _shape(self.site, short=False)

    @property
    def short_shape(self) -> str:
        """Return the same without the batch: `64×14×14`."""
        return _shape(self.site, short=True)

    @property
    def params(self) -> str:
        """Return the parameters of both modules."""
        return params_words(self.site)

    @property
    def short_params(self) -> str:
        """Return the parameters of both modules, in few characters."""
        old, new = (count_text(n).replace(" ", "") for n in _numbers(self.site))
        return f"{old} {'+' if self.site.place else '→'} {new}"


def _numbers(site: SiteOutcome) -> tuple[int, int]:
    return site.old_params, site.new_params


def site_lines(sites: Sequence[SiteOutcome], *, fold: bool = True) -> list[SiteLine]:
    """Return a line for each site, or for each run of equal ones."""
    by_path = {site.path: site for site in sites}
    if not fold or len(by_path) < len(sites):  # several modules beside one site
        return [SiteLine(site.path, site) for site in sites]
    keys = ((site.path, (change_words(site), _shape(site), _numbers(site))) for site in sites)
    return [
        SiteLine(one.words, by_path[one.names[0]], len(one.names)) for one in folded(list(keys))
    ]


def _shape(site: SiteOutcome, *, short: bool = False) -> str:
    seen = list(dict.fromkeys(" → ".join(_ends(call, short=short)) for call in site.calls))
    if not seen:
        return ""
    return f"{seen[0]} …" if len(seen) > 1 else seen[0]


def _ends(call: Call, *, short: bool) -> Iterator[str]:
    """Yield the shape of the first tensor that goes in, and of the one that comes out if other."""
    given = next((t.shape for value in call.inputs for t in tensors(value)), None)
    got = next((t.shape for t in tensors(call.output)), None)
    for shape in dict.fromkeys((given, got)):
        if shape is not None:
            yield "×".join(map(str, shape[1:] or shape)) if short else f"({_sizes(shape)})"


def _sizes(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))
