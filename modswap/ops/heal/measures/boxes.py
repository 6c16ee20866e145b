"""Boxes of a detector: those that stay after double ones are dropped, and pairs that match."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from modswap.core.errors import ShapeError
from modswap.ops.heal.measures.outputs import Detections, detections
from modswap.ops.heal.measures.scores import Scores
from modswap.ops.heal.samples import Batch

USUAL_SCORE = 0.25  # above which Ultralytics shows a box
DOUBLE_IOU = 0.7  # from which its prediction drops the box of lower score
MATCH_IOU = 0.5
MOST_CANDIDATES, MOST_BOXES = 1000, 300  # of a picture, before and after double ones are dropped
FEW_BOXES = 3  # of a picture, for which the score is lowered where a detector finds nearly none


class Boxes(NamedTuple):
    """The boxes of a picture, highest score first: corners (B, 4), scores (B,), classes (B,)."""

    corners: torch.Tensor
    scores: torch.Tensor
    classes: torch.Tensor


@dataclass(frozen=True, slots=True)
class MatchedBoxes:
    """Score the boxes above a score that both models find: F1 of pairs at IoU .5 of one class.

    A sample counts as often as both have boxes in it.
    """

    least: float = USUAL_SCORE

    def __call__(self, original: Any, model: Any, batch: Batch) -> Scores:
        """Return the scores of a batch."""
        del batch
        before, after = found_boxes(original, self.least), found_boxes(model, self.least)
        pairs = list(zip(before, after, strict=True))
        counts = torch.tensor([len(one.scores) + len(other.scores) for one, other in pairs])
        matched = torch.tensor([matches(one, other) for one, other in pairs])
        confidence = [one.scores.mean() if len(one.scores) else torch.tensor(0.0) for one in before]
        value = 2 * matched.double() / counts.clamp(min=1)
        return Scores(value, counts.double(), torch.stack(confidence).double())


def least_score(outputs: Any) -> float:
    """Return the score above which boxes are compared.

    It is Ultralytics' own, .25, unless the original finds less than a box in a picture above it;
    then it is lowered until the original finds three.
    """
    pictures = found_boxes(outputs, 0.0)
    scores = torch.cat([each.scores for each in pictures]).sort(descending=True).values
    if int((scores > USUAL_SCORE).sum()) >= len(pictures) or not len(scores):
        return USUAL_SCORE
    # below the last box of these, and below all that have its score
    return float(scores[min(FEW_BOXES * len(pictures), len(scores)) - 1]) * 0.999


def found_boxes(outputs: Any, least: float) -> list[Boxes]:
    """Return the boxes of each picture above a score, without double ones, on the CPU."""
    found = detections(outputs)
    if found is None:
        raise ShapeError("it is no longer that of a detector", "the model's output")
    decoded = found.decoded.detach().float().cpu()
    return [_of_picture(each, found, least) for each in decoded]


def _of_picture(decoded: torch.Tensor, found: Detections, least: float) -> Boxes:
    """Return the boxes of (4 + classes + further, anchors), or of (boxes, 6)."""
    if decoded.shape[-1] == 6 and decoded.shape[0] != found.classes + 4:
        keep = decoded[:, 4] > least
        corners, scores, classes = decoded[keep].split([4, 1, 1], 1)
        order = scores[:, 0].argsort(descending=True, stable=True)
        return Boxes(corners[order], scores[order, 0], classes[order, 0].long())
    scores, classes = decoded[4 : 4 + found.classes].max(0)
    order = scores.argsort(descending=True, stable=True)[:MOST_CANDIDATES]
    order = order[scores[order] > least]
    centre, size = decoded[:2, order].T, decoded[2:4, order].T
    corners = torch.cat([centre - size / 2, centre + size / 2], 1)
    return _without_doubles(Boxes(corners, scores[order], classes[order]))


def _without_doubles(boxes: Boxes) -> Boxes:
    """Drop each box that covers another of its class with a higher score."""
    double = _overlaps(boxes, boxes) > DOUBLE_IOU
    dropped, kept = torch.zeros(len(boxes.scores), dtype=torch.bool), []
    for number in range(len(dropped)):
        if not dropped[number]:
            kept.append(number)
            dropped |= double[number]
    index = torch.tensor(kept[:MOST_BOXES], dtype=torch.long)
    return Boxes(*(part[index] for part in boxes))


def matches(one: Boxes, other: Boxes) -> int:
    """Return the number of pairs at IoU .5 of the same class, each box in one pair at most."""
    overlaps = _overlaps(one, other)
    firsts, seconds = (overlaps >= MATCH_IOU).nonzero(as_tuple=True)
    order = overlaps[firsts, seconds].argsort(descending=True, stable=True)
    used_first, used_second = set[int](), set[int]()
    for first, second in zip(firsts[order].tolist(), seconds[order].tolist(), strict=True):
        if first not in used_first and second not in used_second:
            used_first.add(first)
            used_second.add(second)
    return len(used_first)


def _overlaps(one: Boxes, other: Boxes) -> torch.Tensor:
    """Return intersection over union of all pairs, (B, B'); 0 for pairs of two classes."""
    a, b = one.corners[:, None], other.corners[None]
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(0)
    both = sides.prod(-1)
    areas = [(each[..., 2:] - each[..., :2]).clamp(0).prod(-1) for each in (a, b)]
    union = areas[0] + areas[1] - both
    same = one.classes[:, None] == other.classes[None]
    return torch.where(same & (union > 0), both / union.clamp(min=1e-9), 0.0)
