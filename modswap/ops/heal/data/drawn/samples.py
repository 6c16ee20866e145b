"""Samples where the user has none: drawn pictures, random tokens, or normal numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from modswap.core.errors import InputError
from modswap.core.progress import Progress, silent
from modswap.core.words.printable import tame
from modswap.ops.heal.data.columns import TensorSamples, main_key
from modswap.ops.heal.data.drawn.dead_leaves import DeadLeaves, seed_of
from modswap.ops.heal.data.drawn.optimised import optimised
from modswap.ops.heal.data.drawn.scaling import NORMAL, InputScale, input_scale
from modswap.ops.heal.data.pixels import PixelSamples
from modswap.ops.heal.data.preprocessing import Preprocessing, preprocessing
from modswap.ops.heal.data.taker import Argument, DataRequest, Key, Taker
from modswap.ops.heal.data.vocabulary import drawn_tokens
from modswap.ops.heal.samples import Batch, Samples

NONE = "none"  # in the place of data
ZOOMS = (1, 2, 4)  # of blurred pictures
BETTER = 0.7  # share of a misfit that a more blurred picture must not exceed
TRIED_NUMBERS = 1 << 20  # of the samples by which the scale is found
TRIED_SAMPLES = (8, 64)  # fewest and most of them


def drawn_samples(taker: Taker, request: DataRequest, progress: Progress = silent) -> Samples:
    """Return `request.most` samples that are drawn from the seed, for the kind of the model's call.

    Pictures are scaled by mean and deviation that the caller or the file says, or else so that the
    first batch norm's statistics fit best. With `request.optimise_steps` all but tokens are
    then optimised.

    Raises:
        InputError: If the model takes no tensor that can be drawn.
    """
    if taker.picture is None and taker.tokens is not None:
        return _tokens(taker, request, taker.tokens)
    place = taker.picture
    drawn: PixelSamples | NormalSamples
    if place is not None:
        drawn = _pictures(taker, request, place, progress)
    else:
        drawn = _numbers(taker, request, progress)
    if not request.optimise_steps:
        return drawn
    return optimised(drawn, main_key(taker, NONE), taker, request, progress)


def _pictures(
    taker: Taker, request: DataRequest, place: Argument, progress: Progress
) -> PixelSamples:
    how = preprocessing(taker, request, NONE)
    leaves = DeadLeaves.of(how.size, how.channels, request.seed)
    scaled = how.numbers
    if not how.known:
        progress("looking for the scale of the model's inputs")
        leaves, how, scaled = _fitted(taker, place, how, request)
    height, width = how.size
    return PixelSamples(
        taker=taker,
        how=how,
        count=request.most,
        pixels=leaves,
        description=f"{request.most:,} drawn pictures, {height}x{width}",
        notes=(
            "no data were given: pictures of shapes that hide one another are drawn (dead leaves)",
            tame(f"the drawn pictures are {scaled}"),
        ),
    )


def _fitted(
    taker: Taker, place: Argument, how: Preprocessing, request: DataRequest
) -> tuple[DeadLeaves, Preprocessing, str]:
    """Return pictures, and the scale of the inputs, that fit the model best, and them in words.

    Blurred pictures are taken where the statistics of the first batch norm are far nearer by them.
    """
    best: tuple[InputScale, DeadLeaves, float, float] | None = None
    for zoom in ZOOMS:
        leaves = DeadLeaves.of(how.size, how.channels, request.seed, zoom)
        pixels = torch.stack(leaves(range(_tried(how.channels * math.prod(how.size))))) / 255
        mean, std = float(pixels.mean()), float(pixels.std())
        found = input_scale(taker, place.key, (pixels - mean) / std, best[0] if best else None)
        if best is None or found.misfit < BETTER * best[0].misfit:
            best = found, leaves, mean, std
        if not found.norm:
            break
    assert best is not None  # noqa: S101 - there are zooms
    found, leaves, mean, std = best
    divisor = std / found.std  # (pixels - offset) / divisor has the deviation and mean found
    offset = mean - found.mean * divisor
    same = (offset,) * how.channels, (divisor,) * how.channels
    blurred = f"blurred {leaves.zoom} times and " if leaves.zoom > 1 else ""
    return (
        leaves,
        replace(how, mean=same[0], std=same[1], why=found.why),
        f"{blurred}scaled to {found}",
    )


def _tried(numbers: int) -> int:
    least, most = TRIED_SAMPLES
    return max(least, min(most, TRIED_NUMBERS // numbers))


def _tokens(taker: Taker, request: DataRequest, place: Argument) -> TensorSamples:
    request.refuse_said("drawn tokens")
    given, length, words = drawn_tokens(taker, request, place)
    notes = (f"no data were given: tokens are drawn evenly from the {words}",)
    description = f"{request.most:,} drawn texts of {length} tokens"
    return TensorSamples(taker, given, request.most, description, notes)


def _numbers(taker: Taker, request: DataRequest, progress: Progress) -> "NormalSamples":
    request.refuse_said("drawn numbers")
    key = main_key(taker, NONE)
    places = {one.key: one for one in taker.arguments}
    if not places[key].is_float:
        what = f"nothing can be drawn for a model that takes {taker.call}"
        raise InputError(what, NONE, "give data: arrays, or file.py:callable")
    shape = tuple(places[key].tensor.shape[1:])
    drawn = NormalSamples(taker, key, shape, NORMAL, request)
    progress("looking for the scale of the model's inputs")
    some = drawn.numbers(range(_tried(math.prod(shape))))
    return replace(drawn, scale=input_scale(taker, key, some))


@dataclass(frozen=True, slots=True)
class NormalSamples:
    """Normal numbers, for inputs that are neither pictures nor tokens."""

    taker: Taker
    key: Key
    shape: tuple[int, ...]
    scale: InputScale
    request: DataRequest

    @property
    def count(self) -> int:
        """Return the number of samples."""
        return self.request.most

    @property
    def description(self) -> str:
        """Return words for reports."""
        shape = ", ".join(map(str, self.shape))
        return f"{self.count:,} drawn samples of normal numbers, ({shape})"

    @property
    def notes(self) -> tuple[str, ...]:
        """Return sentences for reports."""
        return (
            "no data were given: normal numbers are drawn, which few data are like",
            tame(f"the numbers are scaled to {self.scale}"),
        )

    def numbers(self, chosen: Sequence[int]) -> torch.Tensor:
        """Return samples of mean 0 and deviation 1."""
        return torch.stack([self._one(number) for number in chosen])

    def _one(self, number: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed_of(self.request.seed, number))
        return torch.randn(self.shape, generator=generator)

    def batch(self, chosen: Sequence[int]) -> Batch:
        """Return the samples of these numbers in this order."""
        scaled = self.numbers(chosen) * self.scale.std + self.scale.mean
        return self.taker.batch({self.key: scaled})
