"""Measures of a routing, and its drawing.

Covers: drawing, routing.
"""

from math import log

import pytest

from modswap.core.explained.drawing import (
    PANEL,
    Label,
    Rectangle,
    Stroke,
    drawing_of,
)
from modswap.core.explained.routing import Box, RoutedWindows


def square(
    routes: list[tuple[int, ...]], *, padded: bool = False, weights: tuple[float, ...] = ()
) -> RoutedWindows:
    """Return a routing of 2 x 2 windows of 10 pixels; padded: the right column is padding."""
    boxes: list[Box | None] = [(0, 0, 10, 10), (10, 0, 20, 10), (0, 10, 10, 20), (10, 10, 20, 20)]
    if padded:
        boxes[1] = boxes[3] = None
    shares = weights or (1 / len(routes[0]),) * len(routes[0])
    return RoutedWindows(20, 20, 2, 2, tuple(boxes), tuple(routes), (shares,) * 4)


ITSELF = square([(0,), (1,), (2,), (3,)])
FIRST = square([(0,), (0,), (0,), (0,)])
PADDED = square([(0, 1), (0, 1), (2, 3), (2, 0)], padded=True, weights=(0.75, 0.25))


def test_distance_is_from_centre_to_centre_in_pixels() -> None:
    assert ITSELF.distance == 0
    assert FIRST.distance == pytest.approx((0 + 10 + 10 + 200**0.5) / 4)
    assert FIRST.any_distance == pytest.approx((20 + 200**0.5) / 4)


def test_evenness_is_1_if_all_windows_are_used_alike() -> None:
    assert ITSELF.evenness == pytest.approx(1)
    assert (ITSELF.unused, FIRST.unused) == (0, 3)
    assert (FIRST.evenness, FIRST.unused) == (0, 3)
    two = square([(0,), (0,), (1,), (1,)])
    assert two.evenness == pytest.approx(log(2) / log(4))
    assert FIRST.uses == {0: 4, 1: 0, 2: 0, 3: 0}


def test_windows_of_padding_have_no_part() -> None:
    assert PADDED.real == (0, 2)
    assert PADDED.into_padding == 0.5
    assert PADDED.uses == {0: 1, 2: 1}
    assert PADDED.any_distance == 5
    assert PADDED.distance == 0
    assert PADDED.centre(1) == (0, 0)
    assert (PADDED.number(0, 0), PADDED.number(0, 1), PADDED.number(2, 0)) == (0, None, None)
    assert PADDED.examples == (0, 2)


def test_routing_without_a_real_window_has_no_measures() -> None:
    none = RoutedWindows(4, 4, 1, 1, (None,), ((0,),), ((1.0,),))

    assert (none.distance, none.any_distance, none.evenness) == (0, 0, 1)
    assert (none.into_padding, none.examples) == (0, ())


def test_drawing_has_a_panel_for_each_window_and_one_of_their_use() -> None:
    drawing = drawing_of(PADDED, (0, 2), "en")

    assert len(drawing.pictures) == 3
    assert {right - left for left, _, right, _ in drawing.pictures} == {PANEL}
    labels = [mark.text for mark in drawing.marks if isinstance(mark, Label)]
    assert labels == [
        *("1", "window (0,0) (row, column) attends to", "(0,0) 75%"),
        *("1", "window (1,0) (row, column) attends to", "(1,0) 75%"),
        *("1", "1", "how many windows attend to each"),
    ]
    filled = [mark for mark in drawing.marks if isinstance(mark, Rectangle) and mark.opacity]
    assert len(filled) == 4
    assert not any(isinstance(mark, Stroke) for mark in drawing.marks)


def test_panels_go_on_in_the_next_row_and_captions_name_a_few() -> None:
    routes = square([(3, 2, 1, 0, 3, 2)] * 4)

    drawing = drawing_of(routes, (0, 1, 2, 3), "zh")

    assert len({top for _, top, _, _ in drawing.pictures}) == 2
    assert drawing.pictures[3][1] > drawing.pictures[0][3]
    texts = [mark.text for mark in drawing.marks if isinstance(mark, Label)]
    assert "(1,1) 17%, (1,0) 17%, (0,1) 17%, (0,0) 17%, (1,1) 17%, …" in texts
    assert any(text.startswith("窗口 (0,0)") for text in texts)
    assert sum(isinstance(mark, Stroke) for mark in drawing.marks) == 18
