"""The normalised error of outputs: squared difference over the original's variance."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from modswap.core.errors import ShapeError
from modswap.ops.heal import ranks
from modswap.ops.heal.measures.outputs import compared
from modswap.ops.heal.samples import Batch

MOST_VALUES = 1 << 22  # that are in float64 at a time: the logits of many tokens are large
LEAST_VARIANCE = 1e-12  # of an output that does not vary at all


class ChannelSpread:
    """The variance of a tensor around the mean of each channel, over batches; float64 sums."""

    def __init__(self) -> None:
        self.count = 0
        self.first: torch.Tensor = torch.zeros(1, dtype=torch.float64)
        self.second = self.first

    def add(self, values: torch.Tensor, axis: int = 1) -> None:
        """Add values (N, …) with their channels along an axis; (N,) are one channel."""
        values = values[:, None] if values.ndim == 1 else values
        axes = [other for other in range(values.ndim) if other != axis % values.ndim]
        for (part,) in _parts(values):
            self._sum(part.sum(axes), part.pow(2).sum(axes), part.numel())

    def _sum(self, first: torch.Tensor, second: torch.Tensor, count: int) -> None:
        if self.count and first.shape != self.first.shape:  # channels that vary from call to call
            first, second = first.sum()[None], second.sum()[None]
            self.first, self.second = self.first.sum()[None], self.second.sum()[None]
        self.first, self.second = self.first + first, self.second + second
        self.count += count

    def join(self, other: "ChannelSpread") -> None:
        """Add what another one has."""
        if other.count and not self.count:
            self.first, self.second = torch.zeros_like(other.first), torch.zeros_like(other.first)
        if other.count:
            self._sum(other.first, other.second, other.count)

    @property
    def variance(self) -> float:
        """Return the mean variance of a value, more than 0."""
        each = max(self.count / len(self.first), 1)
        total = float((self.second - self.first.pow(2) / each).sum())
        return max(total / max(self.count, 1), LEAST_VARIANCE)


def variances(spreads: Mapping[str, ChannelSpread]) -> dict[str, float]:
    """Return the variances of spreads by name, over what all processes have added."""
    joined: dict[str, ChannelSpread] = {}
    for ranked in ranks.gathered(dict(spreads)):
        for name, spread in ranked.items():
            joined.setdefault(name, ChannelSpread()).join(spread)
    return ranks.from_first({name: spread.variance for name, spread in joined.items()})


class ErrorSum:
    """The normalised error of a model over batches, the mean over the tensors of its outputs.

    It holds a few numbers for each channel, however many batches there are. An error that is not
    finite is infinite.
    """

    def __init__(self) -> None:
        self.spreads: dict[str, ChannelSpread] = {}
        self.squares: dict[str, float] = {}

    def add(self, original: Any, model: Any, batch: Batch) -> None:
        """Add the outputs of both models for a batch.

        Raises:
            ShapeError: If the model has other outputs.
        """
        for place, (old, new) in paired(original, model, batch).items():
            self.spreads.setdefault(place, ChannelSpread()).add(old)
            square = sum(float((one - other).pow(2).sum()) for one, other in _parts(new, old))
            self.squares[place] = self.squares.get(place, 0.0) + square

    @classmethod
    def joined(cls, parts: "Sequence[ErrorSum]") -> "ErrorSum":
        """Return the error over the batches of all parts."""
        whole, *others = parts
        for other in others:
            for place, spread in other.spreads.items():
                whole.spreads.setdefault(place, ChannelSpread()).join(spread)
                whole.squares[place] = whole.squares.get(place, 0.0) + other.squares[place]
        return whole

    @property
    def value(self) -> float:
        """Return the error: 0 for the same outputs, about 1 for those of a constant model."""
        errors = [
            self.squares[place] / (spread.variance * spread.count)
            for place, spread in self.spreads.items()
            if spread.count
        ]
        error = sum(errors) / max(len(errors), 1)
        return error if error < float("inf") else float("inf")


def _parts(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield a few rows of tensors at a time, in float64 on the CPU."""
    rows = max(MOST_VALUES * len(tensors[0]) // max(tensors[0].numel(), 1), 1)
    for start in range(0, len(tensors[0]), rows):
        yield tuple(each[start : start + rows].detach().cpu().double() for each in tensors)


def paired(original: Any, model: Any, batch: Batch) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return the compared tensors of two outputs by place, channels at axis 1.

    Raises:
        ShapeError: If the model has other outputs, or outputs of other shapes.
    """
    old, new = compared(original, batch), compared(model, batch)
    for place, tensor in old.items():
        if place not in new:
            raise ShapeError(f"the model has no output {place!r}, which the original has", place)
        if new[place].shape != tensor.shape:
            before, after = tuple(tensor.shape), tuple(new[place].shape)
            raise ShapeError(f"output was {before}, is now {after}", place or "the model's output")
    return {place: (tensor, new[place]) for place, tensor in old.items()}
