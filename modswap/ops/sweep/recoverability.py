"""The part of the model's outputs that a new module does not recover by its closed form."""

from collections.abc import Callable, Iterator
from math import inf, isfinite
from typing import NamedTuple

import torch

from modswap.ops.heal.closed.fit import fit_closed, inherit_map
from modswap.ops.heal.measures.error import ErrorSum
from modswap.ops.heal.measures.passes import outputs_of
from modswap.ops.heal.passes import Models
from modswap.ops.heal.site_errors import site_error
from modswap.ops.heal.sites import HealedSite
from modswap.ops.sweep.calls import KeptCalls

FRESH = "as it starts"


class Recovered(NamedTuple):
    """The smallest error of the model's outputs, those of the block and of the site then.

    `how` says how the new module got its weights.
    """

    error: float
    at_block: float
    at_site: float
    how: str


def recovered(
    models: KeptCalls,
    site: HealedSite,
    block: HealedSite,
    parts: tuple[tuple[int, ...], tuple[int, ...]],
    inherit: Callable[[HealedSite], bool],
) -> Recovered:
    """Return the error of a model after the closed form of the module in it; weights change.

    Args:
        models: Both models and the samples.
        site: The new module.
        block: The block around it, in both models.
        parts: The samples to learn from, and those that judge.
        inherit: Gives the new module what it inherits; returns whether there is anything.
    """
    learn, held = parts
    best = Recovered(inf, inf, inf, "")
    for how in _forms(models, site, learn, inherit):
        error = _output_error(models, held)
        if isfinite(error) and error < best.error:
            at_block, at_site = (site_error(models, one, held).error for one in (block, site))
            best = Recovered(error, at_block, at_site, how)
    return best


@torch.no_grad()
def _output_error(models: KeptCalls, held: tuple[int, ...]) -> float:
    """Return the error of the model's outputs on samples, as a healing measures it."""
    error = ErrorSum()
    for start in range(0, len(held), models.size):
        chosen = held[start : start + models.size]
        batch = models.samples.batch(chosen)
        error.add(models.original_outputs(chosen), outputs_of(models.model, batch), batch)
    return error.value


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
