"""Agreement of a model with the original on samples, and its accuracy where labels are given."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from modswap.core.healed.agreement import Agreement
from modswap.ops.heal import ranks
from modswap.ops.heal.fitting.sharded import is_sharded
from modswap.ops.heal.measures.error import ErrorSum
from modswap.ops.heal.measures.metric import Metric
from modswap.ops.heal.measures.outputs import principal
from modswap.ops.heal.measures.passes import batches_of, outputs_of, still
from modswap.ops.heal.measures.scores import Scores, classes
from modswap.ops.heal.samples import Batch, Samples

Pair = tuple[Batch, Any, Any]  # a batch with the outputs of the original and of the model


def agreement(
    original: nn.Module,
    model: nn.Module,
    samples: Samples,
    indices: Sequence[int],
    batch: int,
    metric: Metric,
) -> Agreement:
    """Return the agreement of a model with the original on the samples of these numbers.

    Both run in evaluation, `batch` samples at a time, and are restored afterwards. Three numbers
    are kept for a sample, so that memory does not grow with the outputs.

    Raises:
        ShapeError: If the model has other outputs than the original.
    """

    def pairs() -> Iterator[Pair]:
        for each in batches_of(samples, indices, batch):
            yield each, outputs_of(original, each), outputs_of(model, each)
        if is_sharded(model) and ranks.is_short(-(-len(indices) // batch)):
            outputs_of(model, samples.batch(indices[:batch]))  # the others wait for its parts

    with still(original, model):
        return agreement_of(pairs(), metric)


def agreement_of(pairs: Iterable[Pair], metric: Metric) -> Agreement:
    """Return the agreement of outputs, given batch by batch; all processes give theirs.

    Without a box or a foreground in any of them there is nothing to agree on: the value is 0.
    """
    return joined_agreement(ranks.gathered(part_of(pairs, metric)), metric)


class AgreementPart(NamedTuple):
    """The numbers that an agreement needs of the batches of one process."""

    error: ErrorSum
    scores: list[Scores]  # of each batch
    samples: int


def part_of(pairs: Iterable[Pair], metric: Metric) -> AgreementPart:
    """Return what an agreement needs of outputs, given batch by batch."""
    error, found, count = ErrorSum(), list[Scores](), 0
    for batch, original, model in pairs:
        error.add(original, model, batch)
        old = principal(original)
        count += 0 if old is None else len(old)
        if metric.score is not None:
            found.append(metric.score(original, model, batch))
    return AgreementPart(error, found, count)


def joined_agreement(parts: Sequence[AgreementPart], metric: Metric) -> Agreement:
    """Return the agreement over the batches of all processes, the same in each of them."""
    return ranks.from_first(_of_parts(parts, metric))


def _of_parts(parts: Sequence[AgreementPart], metric: Metric) -> Agreement:
    error = ErrorSum.joined([part.error for part in parts])
    count = sum(part.samples for part in parts)
    if metric.score is None:
        return Agreement(metric.title, 1 - error.value, None, error.value, count)
    scores = _joined(ranks.interleaved(part.scores for part in parts))
    value, sure = _mean(scores), _mean(_confident(scores))
    confident = None if scores.confidence is None else sure
    return Agreement(metric.title, value, confident, error.value, count)


def accuracy(
    model: nn.Module, samples: Samples, indices: Sequence[int], batch: int
) -> float | None:
    """Return the share of classes that are as labelled, or None where no labels are given or fit.

    Labels are whole numbers, one for each sample, token or place of a map.
    """
    with still(model):
        found = ranks.gathered(_right(model, batches_of(samples, indices, batch)))
    right, total = (sum(one[axis] for one in found if one is not None) for axis in (0, 1))
    return right / total if total and None not in found else None


def _right(model: nn.Module, batches: Iterable[Batch]) -> tuple[int, int] | None:
    """Return how many classes are as labelled, and of how many."""
    right = total = 0
    for each in batches:
        if each.labels is None:
            return None
        logits, labels = principal(outputs_of(model, each)), torch.as_tensor(each.labels)
        if logits is None or logits.ndim < 2 or labels.is_floating_point():
            return None
        given = classes(logits)
        if given.shape != labels.shape:
            return None
        right += int((given.cpu() == labels.cpu()).sum())
        total += labels.numel()
    return right, total


def _joined(found: Sequence[Scores]) -> Scores:
    if not found:
        nothing = torch.zeros(0, dtype=torch.float64)
        return Scores(nothing, nothing)
    sure = [each.confidence for each in found if each.confidence is not None]
    return Scores(
        torch.cat([each.value for each in found]),
        torch.cat([each.weight for each in found]),
        torch.cat(sure) if sure else None,
    )


def _confident(scores: Scores) -> Scores:
    """Return the half of the samples where the original is most confident."""
    if scores.confidence is None:
        return scores
    order = scores.confidence.argsort(descending=True, stable=True)
    half = order[: (len(order) + 1) // 2]
    return Scores(scores.value[half], scores.weight[half])


def _mean(scores: Scores) -> float:
    total = float(scores.weight.sum())
    return float((scores.value * scores.weight).sum()) / total if total else 0.0
