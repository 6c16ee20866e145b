"""Samples that are pictures: bytes, kept or made again, and scaled for each batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from modswap.ops.heal.data.preprocessing import Preprocessing
from modswap.ops.heal.data.taker import Taker
from modswap.ops.heal.samples import Batch

CACHE_BYTES = 256 << 20  # of pictures that are kept; others are made again for each batch

Pixels = Callable[[Sequence[int]], Sequence[torch.Tensor]]


@dataclass(slots=True)
class PixelSamples:
    """Pictures under their numbers.

    Args:
        taker: The model that they are for, which takes one picture.
        how: The way from their bytes to its input.
        count: Number of pictures.
        pixels: The bytes (C, H, W) of the pictures of some numbers, always the same.
        description: Words for reports.
        notes: Sentences for reports.
        labels: A label for each, or None.
    """

    taker: Taker
    how: Preprocessing
    count: int
    pixels: Pixels
    description: str
    notes: tuple[str, ...] = ()
    labels: torch.Tensor | None = None
    kept: dict[int, torch.Tensor] = field(default_factory=dict)

    def batch(self, chosen: Sequence[int]) -> Batch:
        """Return the pictures of these numbers in this order."""
        missing = [number for number in dict.fromkeys(chosen) if number not in self.kept]
        made = dict(zip(missing, self.pixels(missing), strict=True)) if missing else {}
        for number, one in made.items():
            if has_room(self.kept, one):
                self.kept[number] = one
        both = {**made, **self.kept}
        x = self.how.normalised(torch.stack([both[number] for number in chosen]))
        place = self.taker.picture
        assert place is not None  # noqa: S101 - a preprocessing was found for it
        labels = None if self.labels is None else self.labels[torch.as_tensor(chosen)]
        return self.taker.batch({place.key: x.to(getattr(torch, place.tensor.dtype))}, labels)


def has_room(kept: Mapping[int, torch.Tensor], one: torch.Tensor) -> bool:
    """Return whether another picture may be kept beside those of its size."""
    return (len(kept) + 1) * one.numel() <= CACHE_BYTES
