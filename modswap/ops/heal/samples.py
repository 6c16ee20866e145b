"""The inputs that a healing learns from and is judged on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch


@dataclass(frozen=True, slots=True)
class Batch:
    """A call of the model, with several samples along the first axis of its tensors.

    `labels` are those of the samples where the user gave any.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    labels: Any = None


class Samples(Protocol):
    """The inputs of a model, each under its number, the same in every pass."""

    @property
    def count(self) -> int:
        """Return the number of samples."""

    @property
    def description(self) -> str:
        """Return what they are, for reports: `1,024 pictures of photos/, 224x224`."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what is worth knowing of them, a sentence each."""

    def batch(self, chosen: Sequence[int]) -> Batch:
        """Return the samples of these numbers in this order, tensors on the CPU."""


@dataclass(frozen=True, slots=True)
class HeldSamples:
    """Samples in memory: the tensors of each argument, along their first axis."""

    args: tuple[torch.Tensor, ...]
    description: str = "inputs given as tensors"
    kwargs: Mapping[str, torch.Tensor] = field(default_factory=dict)
    labels: torch.Tensor | None = None
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Return the number of samples."""
        return len(next(iter((*self.args, *self.kwargs.values())), ()))

    def batch(self, chosen: Sequence[int]) -> Batch:
        """Return the samples of these numbers in this order."""
        index = torch.as_tensor(chosen)
        named = {name: value[index] for name, value in self.kwargs.items()}
        labels = None if self.labels is None else self.labels[index]
        return Batch(tuple(value[index] for value in self.args), named, labels)
