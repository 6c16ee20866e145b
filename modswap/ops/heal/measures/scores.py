"""Agreement of each sample's outputs with the original's: classes, maps and embeddings."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from modswap.ops.heal.measures.outputs import (
    EMBEDDING_NAMES,
    HIDDEN,
    mask_of,
    named_output,
    required,
)
from modswap.ops.heal.samples import Batch


class Scores(NamedTuple):
    """Numbers of each sample, (N,) and float64 on the CPU.

    `weight` says how much a sample counts; `confidence` is the original's, None where it has none.
    """

    value: torch.Tensor
    weight: torch.Tensor
    confidence: torch.Tensor | None = None


Score = Callable[[Any, Any, Batch], Scores]


def class_axis(logits: torch.Tensor) -> int:
    """Return the axis of the classes: 1, or the last one of tokens (N, L, K)."""
    return 2 if logits.ndim == 3 else 1


def confidence(logits: torch.Tensor) -> torch.Tensor:
    """Return the probability of the likeliest class at each place.

    Of one channel it is that of the foreground or of the rest.
    """
    axis = class_axis(logits)
    if logits.shape[axis] == 1:
        yes = (logits if within_one(logits) else logits.sigmoid()).squeeze(axis)
        return torch.maximum(yes, 1 - yes)
    if are_probabilities(logits):
        return logits.amax(axis)
    wide = logits.float()
    return (wide.amax(axis) - wide.logsumexp(axis)).exp()


def are_probabilities(logits: torch.Tensor) -> bool:
    """Return whether the values of all classes are probabilities, and no logits."""
    sums = logits.sum(class_axis(logits))
    return within_one(logits) and bool(((sums - 1).abs() < 1e-2).all())


def within_one(values: torch.Tensor) -> bool:
    """Return whether all values are in 0 to 1."""
    return bool(((values >= 0) & (values <= 1)).all())


def classes(logits: torch.Tensor, *, like: torch.Tensor | None = None) -> torch.Tensor:
    """Return the class at each place, -1 where a value is not finite.

    One channel has class 1 above a half, or above 0 where the values of `like`, or its own, are
    no probabilities.
    """
    axis = class_axis(logits)
    if logits.shape[axis] == 1:
        half = 0.5 if within_one(logits if like is None else like) else 0.0
        found = (logits > half).long().squeeze(axis)
    else:
        found = logits.argmax(axis)
    return found.masked_fill(~logits.isfinite().all(axis), -1)


def top_1(original: Any, model: Any, batch: Batch) -> Scores:
    """Score the classes that are the same; tokens of the attention mask count one each."""
    old, new = both(original, model)
    before, after = classes(old), classes(new, like=old)
    same = ((before == after) & (after >= 0)).double()  # (N,), (N, L) or (N, H, W)
    sure = confidence(old).double()
    count = torch.ones_like(same)
    if old.ndim == 3 and (mask := mask_of(batch, old)) is not None:
        count = mask.double()
    weight = count.flatten(1).sum(1) if same.ndim == 2 else torch.ones(len(same))
    return Scores(_mean(same, count), weight.double(), _mean(sure, count))


def dice(original: Any, model: Any, batch: Batch) -> Scores:
    """Score class maps by Dice, the mean over the classes in either map; see `_overlap`."""
    del batch
    return _overlap(original, model, lambda both, either: 2 * both / either)


def iou(original: Any, model: Any, batch: Batch) -> Scores:
    """Score class maps by intersection over union, the mean over the classes in either map."""
    del batch
    return _overlap(original, model, lambda both, either: both / (either - both))


def cosine(original: Any, model: Any, batch: Batch) -> Scores:
    """Score the cosine of embeddings; one that is not finite counts 0."""
    old, new = (embedding(each, batch).cpu().double() for each in (original, model))
    value = torch.nan_to_num(F.cosine_similarity(old, new, dim=1), nan=0.0)
    return Scores(value, torch.ones_like(value))


def embedding(outputs: Any, batch: Batch) -> torch.Tensor:
    """Return the embeddings (N, D) among outputs.

    They are the mean of the tokens in the attention mask, as sentence embeddings are; else what is
    named as one; else the principal tensor, flattened.
    """
    hidden = named_output(outputs, HIDDEN)
    mask = None if hidden is None else mask_of(batch, hidden)
    if hidden is not None and mask is not None:
        kept = mask[..., None].to(hidden.dtype)
        return (hidden * kept).sum(1) / kept.sum(1).clamp(min=1)
    for name in EMBEDDING_NAMES:
        if (found := named_output(outputs, name)) is not None:
            return found.flatten(1)
    if hidden is not None and hidden.ndim == 3:
        return hidden.mean(1)
    return required(outputs).flatten(1)


def both(original: Any, model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the principal tensors of two outputs, on the CPU, where float64 is known."""
    return required(original).cpu(), required(model).cpu()


def _mean(values: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Return the mean of each sample's values, by their count: (N, …) → (N,)."""
    if values.ndim == 1:
        return values
    total = count.flatten(1).sum(1).clamp(min=1)
    return (values * count).flatten(1).sum(1) / total


def _overlap(
    original: Any, model: Any, ratio: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> Scores:
    """Score the overlap of class maps (N, H, W); of one channel the foreground alone counts.

    A sample without foreground in both maps has the weight 0.
    """
    old, new = both(original, model)
    sure = confidence(old).double()
    before, after = classes(old), classes(new, like=old)
    first, count = (1, 2) if old.shape[1] == 1 else (0, old.shape[1])
    values = []
    for one, other in zip(before.flatten(1), after.flatten(1), strict=True):
        size = torch.bincount(one.clamp(min=0), minlength=count)
        size = size + torch.bincount(other[other >= 0], minlength=count)
        shared = torch.bincount(one[(one == other) & (other >= 0)], minlength=count)
        seen = size[first:] > 0
        values.append(ratio(shared[first:][seen].double(), size[first:][seen].double()).mean())
    value = torch.stack(values)  # NaN where no class was seen
    weight = (~value.isnan()).double()
    return Scores(torch.nan_to_num(value, nan=1.0), weight, _mean(sure, torch.ones_like(sure)))
