"""The normalised error of outputs: squared difference over the original's variance."""

from typing import Any

import torch

from modswap.core.errors import ShapeError
from modswap.ops.heal.measures.outputs import compared
from modswap.ops.heal.samples import Batch

LEAST_VARIANCE = 1e-12  # of an output that does not vary at all


class _ChannelSums:
    """Sums over all positions of a tensor, one for each channel, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.first: torch.Tensor = torch.zeros(1, dtype=torch.float64)
        self.second = self.first
        self.difference = 0.0

    def add(self, old: torch.Tensor, new: torch.Tensor) -> None:
        """Add a batch, both (N, C, …)."""
        old = old.detach().double()
        axes = [axis for axis in range(old.ndim) if axis != 1]
        first, second = old.sum(axes).cpu(), old.pow(2).sum(axes).cpu()
        if self.count and first.shape != self.first.shape:  # channels that vary from call to call
            first, second = first.sum()[None], second.sum()[None]
            self.first, self.second = self.first.sum()[None], self.second.sum()[None]
        self.first, self.second = self.first + first, self.second + second
        self.difference += float((new.detach().to(old.device).double() - old).pow(2).sum())
        self.count += old.numel()

    @property
    def variance(self) -> float:
        """Return the variance around the mean of each channel, times the count."""
        each = self.count / len(self.first)
        return float((self.second - self.first.pow(2) / max(each, 1)).sum())


class ErrorSum:
    """The normalised error of a model over batches, the mean over the tensors of its outputs.

    It holds a few numbers for each channel, however many batches there are. An error that is not
    finite is infinite.
    """

    def __init__(self) -> None:
        self._sums: dict[str, _ChannelSums] = {}

    def add(self, original: Any, model: Any, batch: Batch) -> None:
        """Add the outputs of both models for a batch.

        Raises:
            ShapeError: If the model has other outputs.
        """
        for place, (old, new) in paired(original, model, batch).items():
            self._sums.setdefault(place, _ChannelSums()).add(old, new)

    @property
    def value(self) -> float:
        """Return the error: 0 for the same outputs, about 1 for those of a constant model."""
        errors = [
            sums.difference / max(sums.variance, LEAST_VARIANCE * sums.count)
            for sums in self._sums.values()
            if sums.count
        ]
        error = sum(errors) / max(len(errors), 1)
        return error if error < float("inf") else float("inf")


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
