"""The model of an outcome for pages: its modules before and after, and the flow around sites."""

from dataclasses import dataclass

from modswap.core.decided.flow import Flow
from modswap.core.explained.routing import SiteRouting
from modswap.core.seen.tree import TreeRow


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model before and after a swap.

    Args:
        before: A row for each module before.
        after: The same after the swap.
        edges_before: Pairs of innermost modules, the second of which took a tensor of the first.
        edges_after: The same after the swap.
        flows: The tensors that enter and leave each new module, and where from and where to.
        milliseconds: The time of a pass before and after; None where it was not measured.
        spread: By how much most passes differ from that time, before and after, in milliseconds:
            half of the distance between the quartiles.
        routings: The windows that attend to one another in new modules, over the model's picture.
        untimed: The reason why it was not measured; empty where it was.
    """

    before: tuple[TreeRow, ...] = ()
    after: tuple[TreeRow, ...] = ()
    edges_before: tuple[tuple[str, str], ...] = ()
    edges_after: tuple[tuple[str, str], ...] = ()
    flows: tuple[Flow, ...] = ()
    milliseconds: tuple[float, float] | None = None
    spread: tuple[float, float] = (0.0, 0.0)
    routings: tuple[SiteRouting, ...] = ()
    untimed: str = ""
