"""Boxes of a detector: which stay, and which match."""

import pytest
import torch

from modswap.core.errors import ShapeError
from modswap.ops.heal.measures.agreement import agreement_of
from modswap.ops.heal.measures.boxes import Boxes, found_boxes, least_score, matches
from modswap.ops.heal.measures.metric import metric_for
from modswap.ops.heal.samples import Batch

Outputs = tuple[torch.Tensor, dict[str, torch.Tensor]]
Row = tuple[float, float, float, float, float, int]  # centre, size, score, class
CLASSES = 2


def outputs(*pictures: list[Row]) -> Outputs:
    """Return the outputs of a detector that finds these boxes among ten anchors."""
    decoded = torch.zeros(len(pictures), 4 + CLASSES, 10)
    for number, rows in enumerate(pictures):
        for anchor, (*box, score, kind) in enumerate(rows):
            decoded[number, :4, anchor] = torch.tensor(box)
            decoded[number, 4 + kind, anchor] = score
    raw = {
        "boxes": torch.zeros(len(pictures), 64, 10),
        "scores": torch.zeros(len(pictures), CLASSES, 10),
    }
    return decoded, raw


A: Row = (50, 50, 20, 20, 0.9, 0)
NEAR_A: Row = (51, 50, 20, 20, 0.8, 0)
OTHER_CLASS: Row = (50, 50, 20, 20, 0.7, 1)
FAR: Row = (150, 50, 20, 20, 0.6, 0)
FAINT: Row = (90, 90, 20, 20, 0.1, 0)


def test_double_boxes_of_a_class_are_dropped() -> None:
    (boxes,) = found_boxes(outputs([NEAR_A, FAR, A, OTHER_CLASS, FAINT]), 0.25)

    assert boxes.scores.tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert boxes.classes.tolist() == [0, 1, 0]
    assert boxes.corners[0].tolist() == [40, 40, 60, 60]
    assert [len(part) for part in found_boxes(outputs([]), 0.25)[0]] == [0, 0, 0]


def test_boxes_that_the_model_itself_selected_are_taken_as_they_are() -> None:
    rows = torch.tensor([[[0, 0, 9, 9, 0.3, 1], [0, 0, 9, 9, 0.5, 1], [0, 0, 9, 9, 0.1, 0]]])
    raw = outputs([])[1]

    (boxes,) = found_boxes((rows, raw), 0.25)

    assert boxes.scores.tolist() == pytest.approx([0.5, 0.3])
    assert boxes.classes.tolist() == [1, 1]


def test_each_box_matches_one_other() -> None:
    def boxes(*rows: Row) -> Boxes:
        return found_boxes(outputs(list(rows)), 0.0)[0]

    twice = Boxes(*(torch.cat([part, part]) for part in boxes(A)))

    assert matches(boxes(A, FAR), boxes(NEAR_A, OTHER_CLASS)) == 1
    assert matches(twice, boxes(A)) == 1
    assert matches(boxes(A), boxes()) == 0


def test_agreement_counts_boxes_and_not_pictures() -> None:
    old = outputs([A, OTHER_CLASS, FAR], [], [A])
    new = outputs([NEAR_A, OTHER_CLASS, FAR], [], [FAR])
    metric = metric_for(old)

    found = agreement_of([(Batch(()), old, new)], metric)

    assert (metric.name, found.value, found.count) == ("boxes", 2 * 3 / 8, 3)
    assert found.confident == pytest.approx(2 * 3 / 8)
    assert metric.notes == ("boxes with a score above 0.25 are compared",)


def test_where_the_original_finds_nearly_nothing_fainter_boxes_are_compared() -> None:
    faint = outputs([FAINT], [FAINT, (10, 10, 5, 5, 0.05, 1)])

    assert least_score(outputs([A], [FAR])) == 0.25
    assert least_score(faint) == pytest.approx(0.05, rel=0.01)
    assert least_score(outputs([], [])) == 0.25
    assert agreement_of([(Batch(()), faint, faint)], metric_for(faint)).value == 1.0
    nothing = outputs([], [])
    assert agreement_of([(Batch(()), nothing, nothing)], metric_for(nothing)).value == 0.0


def test_outputs_that_are_no_longer_a_detectors_are_refused() -> None:
    with pytest.raises(ShapeError, match="it is no longer that of a detector"):
        found_boxes(torch.zeros(1, 6, 10), 0.25)
