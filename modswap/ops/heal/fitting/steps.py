"""The loss of a step and its gradient, by one process or by several that share the samples."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from modswap.ops.heal import ranks
from modswap.ops.heal.fitting.sharded import is_sharded

Scales = dict[str, float]
Share = Callable[[Sequence[int]], Sequence[int]]


class Term(NamedTuple):
    """A part of a loss: the mean over some values, and their number."""

    mean: torch.Tensor
    number: int


Terms = Callable[[Sequence[int], Scales], Sequence[Term]]


def whole(chosen: Sequence[int]) -> Sequence[int]:
    """Return all samples of a step."""
    return chosen


def sliced(chosen: Sequence[int]) -> Sequence[int]:
    """Return the part of the samples of a step that this process learns from."""
    begin, end = (len(chosen) * part // ranks.world() for part in (ranks.rank(), ranks.rank() + 1))
    return chosen[begin:end]


def owned(indices: Sequence[int]) -> Share:
    """Return what gives the samples of a step that are this process's own, the same in each round.

    So it needs those alone, and keeps them.
    """
    own = set(ranks.dealt(indices))
    return lambda chosen: [number for number in chosen if number in own]


def looks_at_all(learning: Sequence[nn.Module]) -> bool:
    """Return whether modules in training see the whole batch, or draw: they need all samples."""
    return any(
        isinstance(module, _BatchNorm) or (isinstance(module, _DropoutNd) and module.p > 0)
        for one in learning
        for module in one.modules()
    )


class _Terms(nn.Module):
    """A model with the terms of its loss as its output."""

    def __init__(self, model: nn.Module, terms: Terms) -> None:
        super().__init__()
        self.model, self.terms = model, terms

    def forward(self, chosen: Sequence[int], scales: Scales) -> list[Term]:
        return list(self.terms(chosen, scales))


class StepLoss:
    """The loss of the samples of a step: the mean of its terms over all processes.

    Args:
        model: The model, whose parameters that learn are known by now.
        terms: Returns the terms for some samples.
        share: Returns those of a step that this process learns from.
        indices: All samples.
    """

    def __init__(
        self, model: nn.Module, terms: Terms, share: Share, indices: Sequence[int]
    ) -> None:
        whole_model = _Terms(model, terms)
        self.terms = whole_model if is_sharded(model) else ranks.averaged(whole_model)
        self.share = share
        self.stand_in = [*share(indices), indices[0]][:1]

    def backward(self, chosen: Sequence[int], scales: Scales) -> torch.Tensor:
        """Add the gradient of the loss; return the loss, times the number of processes a part."""
        own = self.share(chosen)
        terms = self.terms(own or self.stand_in, scales)
        weights = ranks.weights([term.number if own else 0 for term in terms])
        parts = [term.mean * weight for term, weight in zip(terms, weights, strict=True)]
        loss = torch.stack(parts).mean()
        loss.backward()
        return loss.detach()
