"""The usual ways to scale pictures, of which the first batch norm says the likeliest."""

from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter

import torch

from modswap.core.words.printable import tame
from modswap.ops.first_input.from_file import DEVIATIONS, MEANS
from modswap.ops.heal.data.drawn.norms import first_norm, misfit, trained_norms
from modswap.ops.heal.data.preprocessing import Numbers, Preprocessing
from modswap.ops.heal.data.taker import Taker

TRIED = 16  # pictures
# mean and deviation of pixels in 0 to 1; the first is without any
USUAL: tuple[tuple[Numbers, Numbers], ...] = (
    ((0.0,), (1.0,)),
    (MEANS, DEVIATIONS),
    ((0.5,), (0.5,)),
    ((0.0,), (1 / 255,)),
)
CLEAR = 0.5  # share of the misfit of pixels in 0 to 1 that another way must not exceed


def likeliest(taker: Taker, how: Preprocessing, pixels: Sequence[torch.Tensor]) -> Preprocessing:
    """Return the usual way to scale real pictures by which the first batch norm fits best.

    The preprocessing stays where mean and deviation are known, the model has no trained batch norm,
    or no way is clearly better than pixels in 0 to 1.
    """
    norms = trained_norms(taker.model)
    place = taker.picture
    if how.known or place is None or not norms:
        return how
    some = torch.stack([*pixels[:TRIED]])
    scored: list[tuple[float, Preprocessing]] = []
    for mean, std in USUAL:
        if len(mean) not in {1, how.channels}:
            continue
        repeated = how.channels // len(mean)
        tried = replace(how, mean=mean * repeated, std=std * repeated, known=True)
        x = tried.normalised(some).to(getattr(torch, place.tensor.dtype))
        reached = first_norm(taker.model, norms, taker.batch({place.key: x}))
        if reached is None:
            return how
        norm, given = reached
        why = tame(f"of the usual ways the one that fits the batch norm {norm.path!r} best")
        scored.append((float(misfit(norm, given[None])), replace(tried, why=why)))
    least, best = min(scored, key=itemgetter(0))
    return best if least < CLEAR * scored[0][0] else how
