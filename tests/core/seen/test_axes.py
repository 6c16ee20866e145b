"""Axes of tensors as factors: rows and columns through reshapes."""

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modswap.core.seen.axes import (
    Axis,
    Factor,
    grid_of,
    hold_windows,
    is_known,
    map_axes,
    reshaped,
    resized,
    unknown,
)

ROWS, COLUMNS = (Factor("row", 4),), (Factor("column", 6),)
MAPS = map_axes((2, 8, 4, 6))


def test_flattened_map_is_its_grid() -> None:
    tokens = reshaped(MAPS, (2, 8, 24))

    assert tokens == (unknown(2), unknown(8), (*ROWS, *COLUMNS))
    assert grid_of(tokens[2]) == (4, 6)
    assert [is_known(axis) for axis in tokens] == [False, False, True]


def test_windows_of_a_map_are_maps_and_their_number_is_none() -> None:
    last = (MAPS[0], MAPS[2], MAPS[3], MAPS[1])
    parts = reshaped(last, (2, 2, 2, 2, 3, 8))
    windows = reshaped([parts[axis] for axis in (0, 1, 3, 2, 4, 5)], (8, 6, 8))

    assert grid_of(windows[1]) == (2, 3)
    assert grid_of(windows[0]) is None
    assert grid_of(reshaped(windows, (8 * 6, 8))[0]) is None


def test_batch_and_tokens_come_apart_again() -> None:
    tokens = reshaped([MAPS[0], MAPS[2], MAPS[3], MAPS[1]], (2, 24, 8))

    assert reshaped(reshaped(tokens, (48, 8)), (2, 24, 8)) == tokens
    assert reshaped(tokens, (2, 1, 24, 8)) == (unknown(2), (), *tokens[1:])


def test_map_of_a_single_pixel_is_a_grid() -> None:
    single = map_axes((1, 8, 1, 1))

    assert grid_of(reshaped([single[axis] for axis in (0, 2, 3, 1)], (1, 1, 8))[1]) == (1, 1)
    assert grid_of(reshaped(single, (1, 8, 1))[2]) == (1, 1)


@pytest.mark.parametrize(
    ("axis", "grid"),
    [
        (unknown(16), None),
        ((*ROWS, *unknown(1), *COLUMNS), (4, 6)),
        ((*ROWS, *unknown(2), *COLUMNS), None),
        (ROWS, None),
        ((*COLUMNS, *ROWS), (6, 4)),
        ((Factor("row", 2), Factor("row", 2), *COLUMNS), (4, 6)),
        ((Factor("row", 2), *COLUMNS, Factor("row", 2)), None),
        ((), None),
    ],
)
def test_grid_is_rows_of_columns_alone(axis: Axis, grid: tuple[int, int] | None) -> None:
    assert grid_of(axis) == grid


@pytest.mark.parametrize(
    ("shape", "found"),
    [((2, 8, 5, 5), (2, 8, 5, 5)), ((16, 7), (16, 7)), ((0, 3), (0, 3)), ((5,), (5,))],
)
def test_other_elements_are_unknown(shape: tuple[int, ...], found: tuple[int, ...]) -> None:
    assert reshaped(MAPS, shape) == tuple(map(unknown, found))
    assert reshaped((), (2,)) == (unknown(2),)
    assert reshaped(map_axes((0, 4, 6)), (4,)) == (unknown(4),)


@pytest.mark.parametrize(
    ("axis", "size", "found"),
    [
        (ROWS, 4, ROWS),
        (ROWS, 7, (Factor("row", 7),)),
        ((*ROWS, *COLUMNS), 24, (*ROWS, *COLUMNS)),
        ((*ROWS, *COLUMNS), 25, unknown(25)),
    ],
)
def test_rows_stay_rows_when_some_are_cut_off(axis: Axis, size: int, found: Axis) -> None:
    assert resized(axis, size) == found


@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.data())
def test_reshape_keeps_the_size_of_every_axis(shape: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(shape)))
    other = [prod(shape[:cut]), *shape[cut:]]

    found = reshaped(map_axes(shape), other)

    assert [prod(factor.size for factor in axis) for axis in found] == other


@pytest.mark.parametrize(
    ("shape", "windows"),
    [
        ((2, 24, 4, 8), True),  # N, windows, tokens, C
        ((2, 4, 6, 4, 8), False),  # five axes
        ((2, 8, 4, 6), False),  # N, C, H, W
    ],
)
def test_windows_have_rows_and_columns_in_one_axis(
    shape: tuple[int, ...], *, windows: bool
) -> None:
    row, column = Factor("row", 4), Factor("column", 6)
    small = (Factor("row", 2), Factor("column", 2))
    axes: dict[int, list[Axis]] = {
        24: [unknown(2), (row, column), small, unknown(8)],
        4: [unknown(2), (row,), (column,), small, unknown(8)],
        8: [unknown(2), (*small, Factor("other", 2)), (row,), (column,)],
    }

    assert hold_windows(axes[shape[1]]) is windows
    assert not hold_windows([unknown(size) for size in shape])
