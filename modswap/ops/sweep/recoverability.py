"""The part of a block's output that a new module does not recover by its closed form."""

from collections.abc import Callable, Iterator
from math import inf, isfinite
from typing import NamedTuple

import torch

from modswap.ops.heal.closed.fit import fit_closed, inherit_map
from modswap.ops.heal.passes import Models
from modswap.ops.heal.site_errors import site_error
from modswap.ops.heal.sites import HealedSite

FRESH = "as it starts"


class Recovered(NamedTuple):
    """The smallest error of a block, the site's own error there, and how it was reached."""

    error: float
    at_site: float
    how: str


def recovered(
    models: Models,
    site: HealedSite,
    block: HealedSite,
    parts: tuple[tuple[int, ...], tuple[int, ...]],
    inherit: Callable[[HealedSite], bool],
) -> Recovered:
    """Return the error of a block after the closed form of the module in it; weights change.

    Args:
        models: Both models and the samples.
        site: The new module.
        block: The block around it, in both models.
        parts: The samples to learn from, and those that judge.
        inherit: Gives the new module what it inherits; returns whether there is anything.
    """
    learn, held = parts
    best = Recovered(inf, inf, "")
    for how in _forms(models, site, learn, inherit):
        error = site_error(models, block, held).error
        if isfinite(error) and error < best.error:
            at_site = error if block is site else site_error(models, site, held).error
            best = Recovered(error, at_site, how)
    return best


def _forms(
    models: Models,
    site: HealedSite,
    learn: tuple[int, ...],
    inherit: Callable[[HealedSite], bool],
) -> Iterator[str]:
    """Give a module one set of weights after another; yield how it got them."""
    yield FRESH
    if inherit(site):
        yield "inherited"
    if _closed(models, site, learn, inherited=False):
        yield "closed"
    if inherit_map(site, 1.0):
        fitted = _closed(models, site, learn, inherited=True)
        yield "inherited and closed" if fitted else "inherited"


def _closed(models: Models, site: HealedSite, learn: tuple[int, ...], *, inherited: bool) -> bool:
    """Give a module the weights of a closed form; return whether it has one."""
    with torch.enable_grad():
        found = fit_closed(models, site, learn, 1.0, inherited=inherited)
    return found.residual is not None or bool(found.layer)
