"""The part of the model's outputs that a new module does not recover by its closed form."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf, isfinite
from typing import Any, NamedTuple

import torch
from torch import nn

from modswap.ops.heal.closed.fit import fit_closed, inherit_map
from modswap.ops.heal.measures.error import ErrorSum
from modswap.ops.heal.measures.passes import outputs_of
from modswap.ops.heal.passes import Models, cloned
from modswap.ops.heal.site_errors import SiteErrorSum
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
        error, (at_block, at_site) = _errors(models, (block, site), held)
        if isfinite(error) and error < best.error:
            best = Recovered(error, at_block, at_site, how)
    return best


@torch.no_grad()
def _errors(
    models: KeptCalls, places: Sequence[HealedSite], held: tuple[int, ...]
) -> tuple[float, list[float]]:
    """Return the error of the model's outputs, and those at modules in it, of the same passes."""
    error, at_places = ErrorSum(), [SiteErrorSum() for _ in places]
    for chosen in models.parts(held):
        batch = models.samples.batch(chosen)
        with _outputs_noted(places) as noted:
            outputs = outputs_of(models.model, batch)
        error.add(models.original_outputs(chosen), outputs, batch)
        for place, given, found in zip(places, noted, at_places, strict=True):
            targets = [call.target for call in models.observed(place, chosen)]
            found.add(targets, given)
    return error.value, [one.value for one in at_places]


@contextmanager
def _outputs_noted(places: Sequence[HealedSite]) -> Iterator[list[list[Any]]]:
    """Yield for each module of the swapped model a list, which gets its outputs in the block."""
    noted: list[list[Any]] = [[] for _ in places]
    handles = []
    for place, found in zip(places, noted, strict=True):

        def note(_: nn.Module, __: Any, output: Any, found: list[Any] = found) -> None:
            found.append(cloned(output))

        handles.append(place.new.register_forward_hook(note))
    try:
        yield noted
    finally:
        for handle in handles:
            handle.remove()


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
