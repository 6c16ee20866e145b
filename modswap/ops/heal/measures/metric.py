"""The metric of an agreement: chosen by the outputs of the original, or named by the user."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from modswap.core.errors import UsageError
from modswap.core.healed.agreement import Agreement
from modswap.core.words.nearest import did_you_mean
from modswap.ops.heal.measures.boxes import MatchedBoxes, least_score
from modswap.ops.heal.measures.outputs import (
    EMBEDDING_NAMES,
    HIDDEN,
    detections,
    named_output,
    principal,
)
from modswap.ops.heal.measures.scores import (
    Score,
    are_probabilities,
    class_axis,
    classes,
    cosine,
    dice,
    iou,
    top_1,
)

OPTION = "--metric"
UNIT_TOLERANCE = 1e-3  # of the length of rows that a model normalises


@dataclass(frozen=True, slots=True)
class Metric:
    """A measure of agreement, and why it was chosen.

    Args:
        name: As `--metric` takes it: `top-1`, `dice`, `iou`, `boxes`, `cosine` or `error`.
        title: As reports name it.
        score: The agreement of each sample; None for the share of variance that is explained.
        reason: Why it was chosen, in a sentence.
        notes: What limits it on these samples, a sentence each.
    """

    name: str
    title: str
    score: Score | None
    reason: str
    notes: tuple[str, ...] = ()

    def shown(self, found: Agreement) -> float:
        """Return the agreement that a value on few samples shows: of shares, the lower bound."""
        return found.lower_bound() if self.name == "top-1" else found.value


@dataclass(frozen=True, slots=True)
class _Row:
    title: str
    score: Score | None
    needs: str
    takes: Callable[[Any], bool]


def metric_for(outputs: Any, asked: str | None = None, *, model: nn.Module | None = None) -> Metric:
    """Return the metric for the outputs of the original on some samples, 8 or more if there are.

    Args:
        outputs: What the original returned in evaluation.
        asked: The metric that the user named; None chooses by the outputs.
        model: The original; a `num_classes` of 0 says that it gives embeddings.

    Raises:
        UsageError: If the named metric is unknown, or does not fit such outputs.
    """
    if asked is None:
        name, reason = _recognised(outputs, model)
    else:
        name, reason = _named(asked, outputs), f"{OPTION} {asked}"
    row = METRICS[name]
    score, notes = row.score, _notes(name, outputs)
    if name == "boxes":
        score = MatchedBoxes(least := least_score(outputs))
        notes = (f"boxes with a score above {least:.2g} are compared",)
    return Metric(name, row.title, score, reason, notes)


def _named(asked: str, outputs: Any) -> str:
    name = asked.lower()
    if name not in METRICS:
        fix = did_you_mean(name, METRICS) or f"use one of {', '.join(METRICS)}"
        raise UsageError(f"there is no metric {asked!r}", OPTION, fix)
    if not METRICS[name].takes(outputs):
        what = f"{name} needs {METRICS[name].needs}, the original gives {_described(outputs)}"
        fits = [other for other, row in METRICS.items() if row.takes(outputs)]
        raise UsageError(what, OPTION, f"use one of {', '.join(fits)}")
    return name


def _recognised(outputs: Any, model: nn.Module | None) -> tuple[str, str]:
    """Return the name of a metric, and why it fits."""
    if detections(outputs) is not None:
        return "boxes", "the outputs are a detector's"
    named = [name for name in (HIDDEN, *EMBEDDING_NAMES) if named_output(outputs, name) is not None]
    if named and named_output(outputs, "logits") is None:
        return "cosine", f"the outputs have {named[0]!r}"
    found = principal(outputs)
    shape = _described(outputs)
    if found is not None and found.ndim == 2:
        return _of_rows(found, shape, model)
    if found is not None and _is_maps(outputs) and found.shape[1] <= found.shape[2:].numel():
        return _of_maps(found, shape)
    if _is_classes_of_tokens(outputs):
        return "top-1", f"the logits are {shape}"
    return "error", f"the outputs are {shape}"


def _of_maps(maps: torch.Tensor, shape: str) -> tuple[str, str]:
    """Return the metric for (N, K, H, W) with fewer channels than places."""
    if len(classes(maps).unique()) == 1:
        return "error", f"the outputs {shape} have one class at all places"
    return "dice", f"the outputs {shape} are maps of classes"


def _of_rows(rows: torch.Tensor, shape: str, model: nn.Module | None) -> tuple[str, str]:
    """Return the metric for (N, K): logits or probabilities, embeddings, or a number each."""
    if rows.shape[1] < 2:
        return "error", f"the outputs {shape} are a number for each sample"
    if getattr(model, "num_classes", None) == 0:
        return "cosine", "the model has no classes"
    lengths = rows.double().norm(dim=1)
    if not are_probabilities(rows) and bool(((lengths - 1).abs() < UNIT_TOLERANCE).all()):
        return "cosine", f"the outputs {shape} have the length 1"
    return "top-1", f"the outputs {shape} are a row for each sample"


def _notes(name: str, outputs: Any) -> tuple[str, ...]:
    found = principal(outputs)
    if name != "top-1" or found is None or len(found) < 2:
        return ()
    if len(classes(found).unique()) == 1:
        return ("the original gives one class for all samples, so that agreement says little",)
    return ()


def _is_classes_of_tokens(outputs: Any) -> bool:
    found = named_output(outputs, "logits")
    return found is not None and found.ndim == 3 and found.shape[2] > 1


def _is_classes(outputs: Any) -> bool:
    found = principal(outputs)
    return found is not None and found.ndim > 1 and found.shape[class_axis(found)] > 1


def _is_maps(outputs: Any) -> bool:
    found = principal(outputs)
    return found is not None and found.ndim > 3


def _has_rows(outputs: Any) -> bool:
    found = principal(outputs)
    return found is not None and found.ndim > 1


def _described(outputs: Any) -> str:
    found = principal(outputs)
    return "no floating tensor" if found is None else str(tuple(found.shape))


METRICS = {
    "top-1": _Row("top-1", top_1, "logits such as (N, K)", _is_classes),
    "dice": _Row("Dice", dice, "maps of classes (N, K, H, W)", _is_maps),
    "iou": _Row("IoU", iou, "maps of classes (N, K, H, W)", _is_maps),
    "boxes": _Row(
        "boxes matched at IoU .5",
        None,
        "the outputs of an Ultralytics detector",
        lambda outputs: detections(outputs) is not None,
    ),
    "cosine": _Row("cosine", cosine, "embeddings such as (N, D)", _has_rows),
    "error": _Row(
        "explained variance", None, "a tensor", lambda outputs: principal(outputs) is not None
    ),
}
