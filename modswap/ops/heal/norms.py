"""Statistics of batch norms behind the sites, estimated again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from modswap.core.healed.agreement import Agreement
from modswap.live_values import module_paths
from modswap.ops.apply import module_at
from modswap.ops.heal import ranks
from modswap.ops.heal.measures.passes import outputs_of
from modswap.ops.heal.passes import Models
from modswap.ops.heal.sites import HealedSite
from modswap.ops.heal.tensors import put_values, values_of


@torch.no_grad()
def norms_behind(
    models: Models, sites: Sequence[HealedSite], chosen: Sequence[int]
) -> tuple[str, ...]:
    """Return the paths of the batch norms that run after the first site, in their order."""
    wanted = {id(site.new) for site in sites}
    paths = {id(place.module): place.path for place in reversed([*module_paths(models.model)])}
    found: list[str] = []
    reached = False

    def note(module: nn.Module, _: object, __: object = None) -> None:
        nonlocal reached
        if id(module) in wanted:
            reached = True
        elif reached and paths[id(module)] not in found:
            found.append(paths[id(module)])

    inside = {id(inner) for site in sites for inner in site.learned.modules()}
    handles = [
        module.register_forward_hook(note)
        for module in models.model.modules()
        if id(module) in wanted or (_has_statistics(module) and id(module) not in inside)
    ]
    try:
        outputs_of(models.model, models.samples.batch(chosen[: models.size]))
    finally:
        for handle in handles:
            handle.remove()
    return tuple(found)


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None


class Estimate(NamedTuple):
    """Statistics of norms, estimated again, and the agreement that they give."""

    agreement: Agreement
    paths: tuple[str, ...]
    values: Mapping[str, Mapping[str, torch.Tensor]]

    def put(self, model: nn.Module) -> None:
        """Put them into the norms of a model."""
        _fill(model, self.values)


def best_estimate(
    models: Models,
    candidates: Sequence[tuple[str, ...]],
    chosen: Sequence[int],
    judge: Callable[[], Agreement],
) -> Estimate | None:
    """Return the best of the estimates for some norms each; the model stays as it is."""
    found = []
    for some in filter(None, dict.fromkeys(candidates)):
        held = _copies(models.model, some)
        try:
            estimate_again(models, some, chosen)
            found.append(Estimate(judge(), some, _copies(models.model, some)))
        finally:
            _fill(models.model, held)
    return max(found, key=lambda one: one.agreement.order, default=None)


def _copies(model: nn.Module, paths: Sequence[str]) -> dict[str, dict[str, torch.Tensor]]:
    return {path: values_of(module_at(model, path)) for path in paths}


def _fill(model: nn.Module, values: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
    for path, tensors in values.items():
        put_values(module_at(model, path), tensors)


@torch.no_grad()
def estimate_again(models: Models, paths: Sequence[str], chosen: Sequence[int]) -> None:
    """Give batch norms the mean and variance of what they are given over the samples."""
    norms = [module_at(models.model, path) for path in paths]
    with _accumulating([norm for norm in norms if isinstance(norm, _BatchNorm)]):
        passes = 0
        for some in ranks.dealt(models.parts(chosen)):
            outputs_of(models.model, models.samples.batch(some))
            passes += 1
        _average([norm for norm in norms if isinstance(norm, _BatchNorm)], passes)


def _average(norms: Sequence[_BatchNorm], passes: int) -> None:
    """Give norms the averages over the passes of all processes."""
    (whole,) = ranks.totals([float(passes)])
    held = [one for norm in norms for one in (norm.running_mean, norm.running_var)]
    own = [one * passes for one in held if one is not None]
    for one, total in zip(held, ranks.summed(own), strict=True):
        if one is not None and total is not None and ranks.world() > 1:
            one.copy_(total / whole)


@contextmanager
def _accumulating(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Let batch norms gather plain averages over all batches of a block."""
    before = []
    for norm in norms:
        seen = norm.num_batches_tracked
        before.append((norm, norm.momentum, norm.training, seen.clone() if seen is not None else 0))
        norm.reset_running_stats()
        norm.momentum = None  # plain averages
        norm.training = True
    try:
        yield
    finally:
        for norm, momentum, training, batches in before:
            norm.momentum = momentum
            norm.training = training
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(torch.as_tensor(batches))
