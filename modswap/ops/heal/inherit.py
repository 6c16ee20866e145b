"""Weights that new modules inherit from the old ones, given after the swap."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from modswap.core.errors import ShapeError
from modswap.nn.inherit.respelling import tensors_of
from modswap.ops.build.starts.inherit import heir_of
from modswap.ops.heal.sites import HealedSite
from modswap.ops.heal.tensors import put_values
from modswap.ops.run.inputs import Case
from modswap.ops.run.random_weights import placeholders
from modswap.ops.trace.passes import trace
from modswap.ops.trace.sites import sites_of

if TYPE_CHECKING:
    from modswap.core.seen.site import Site


def inheriting(original: nn.Module, case: Case) -> Callable[[HealedSite], bool]:
    """Return a function that gives a site's new module what it inherits from the old one.

    It returns whether there was anything; the original is traced once, at the first call.
    """
    known: dict[str, Site] = {}

    def give(site: HealedSite) -> bool:
        if not known:
            known.update({one.path: one for one in sites_of(original, [trace(original, case)])})
        if not site.replaces or site.path not in known:
            return False
        state = {name: tensor.detach() for name, tensor in tensors_of(site.old).items()}
        try:
            heir = heir_of(site.old, known[site.path], type(site.inner), placeholders(original))
            given = heir.give(site.learned, state)
        except ShapeError:
            return False
        put_values(site.learned, given.values)
        return True

    return give
