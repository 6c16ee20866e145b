"""The swaps that were made in models in memory, kept for as long as the models are."""

from typing import NamedTuple
from weakref import WeakKeyDictionary

from torch import nn

from modswap.core.kept.receipt import Receipt


class RememberedSwaps(NamedTuple):
    """The swaps that were made in a model."""

    recipe: str  # of the last of them
    receipt: Receipt  # of all of them
    # the class of each module that they record, by its path
    kinds: dict[str, type[nn.Module] | None]


_swaps: WeakKeyDictionary[nn.Module, RememberedSwaps] = WeakKeyDictionary()


def remember(model: nn.Module, recipe: str, receipt: Receipt) -> None:
    """Keep the swaps of a model, in place of those that are known."""
    _swaps[model] = RememberedSwaps(recipe, receipt, _kinds(model, receipt))


def known_swaps(model: nn.Module) -> RememberedSwaps | None:
    """Return the swaps of a model; None where a module of theirs has been exchanged since."""
    known = _swaps.get(model)
    if known is None or known.kinds != _kinds(model, known.receipt):
        return None
    return known


def _kinds(model: nn.Module, receipt: Receipt) -> dict[str, type[nn.Module] | None]:
    """Return the class of each module that a receipt records, by its path; None for none."""
    there = {path: type(module) for path, module in model.named_modules(remove_duplicate=False)}
    return {path: there.get(path) for site in receipt.sites for path in site.paths}
