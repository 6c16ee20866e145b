"""Inputs and targets of a site, kept in memory or in a file."""

import shutil
from collections import namedtuple
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from modswap.ops.heal.fitting.pace import Pace
from modswap.ops.heal.fitting.stored import Room, stored

PACE = Pace(20, batch=4)
X = torch.randn(10, 3, 2, generator=torch.Generator().manual_seed(0))
INDICES = [3, 1, 4, 0, 9, 2, 6]
MUCH = Room(1 << 20)


def calls(indices: Sequence[int]) -> list[tuple[Any, Any, Any]]:
    x = X[list(indices)]
    return [((x, x, 2), {"mask": x > 0, "flag": None}, (x[:, 0], "name"))]


@pytest.mark.parametrize("where", ["memory", "temporary file"])
def test_kept_calls_are_those_that_are_computed(where: str, tmp_path: Path) -> None:
    room = MUCH if where == "memory" else Room(0, tmp_path)

    with stored(calls, INDICES, PACE, room) as kept:
        ((args, kwargs, target),) = kept.pairs([9, 3, 9])

        assert where in kept.description
        assert kept.description.endswith(f"{7 * (6 * 4 + 6 + 2 * 4)} B")
        ((args_, kwargs_, target_),) = calls([9, 3, 9])
        assert torch.equal(args[0], args_[0])
        assert args[1] is args[0]  # what was one tensor stays one
        assert args[2] == 2
        assert torch.equal(kwargs["mask"], kwargs_["mask"])
        assert kwargs["flag"] is None
        assert torch.equal(target[0], target_[0])
        assert target[1] == "name"
    assert list(tmp_path.iterdir()) == []


@dataclass
class Opaque:
    """A container that torch does not enter."""

    x: torch.Tensor


def coupled(indices: Sequence[int]) -> list[tuple[Any, Any, Any]]:
    x = X[list(indices)]
    return [((x - x.mean(0),), {}, x)]


def sized(indices: Sequence[int]) -> list[tuple[Any, Any, Any]]:
    width = 1 if indices[0] == 9 else 2
    x = X[list(indices)]
    return [((x[..., :width],), {}, x)]


def ordered(indices: Sequence[int]) -> list[tuple[Any, Any, Any]]:
    x = X[list(indices)]
    return [((x, torch.tensor(indices)), {}, x)]


def windows(indices: Sequence[int]) -> list[tuple[Any, Any, Any]]:
    x = X[list(indices)]
    return [((x.flatten(0, 1),), {}, x)]


def test_several_rows_of_a_sample_are_kept_together() -> None:
    with stored(windows, INDICES, PACE, MUCH) as kept:
        ((args, _, target),) = kept.pairs([9, 3])

        assert "memory" in kept.description
        assert torch.equal(args[0], X[[9, 3]].flatten(0, 1))
        assert torch.equal(target, X[[9, 3]])


@pytest.mark.parametrize(
    "pairs",
    [
        lambda ix: [((X[list(ix)].transpose(0, 1).flatten(0, 1),), {}, X[list(ix)])],
        lambda ix: [((X[list(ix)], torch.tensor(1.0)), {}, X[list(ix)])],
        lambda ix: [((X[list(ix)].transpose(0, 1),), {}, X[list(ix)])],
        lambda ix: [((Opaque(X[list(ix)]),), {}, X[list(ix)])],
        lambda ix: [((X[list(ix)], len(ix)), {}, X[list(ix)])],
        lambda ix: [((X[list(ix)], torch.zeros(5)), {}, X[list(ix)])],
        coupled,
        sized,
        lambda ix: [((X[list(ix)], torch.arange(len(ix))), {}, X[list(ix)])],
    ],
    ids=[
        "by window",
        "a number",
        "transposed",
        "opaque",
        "a size",
        "no row",
        "coupled",
        "sizes",
        "numbered",
    ],
)
def test_calls_without_a_row_for_each_sample_are_computed_in_step(pairs: Any) -> None:
    with stored(pairs, INDICES, PACE, MUCH) as kept:
        assert kept.pairs is pairs
        assert kept.description == "inputs and targets computed in step"


def test_whole_numbers_are_kept_too() -> None:
    with stored(ordered, INDICES, PACE, MUCH) as kept:
        assert kept.pairs([2, 6])[0][0][1].tolist() == [2, 6]
        assert "memory" in kept.description


Free = namedtuple("Free", "free")


@pytest.mark.parametrize(
    ("pace", "indices", "room", "free"),
    [
        (Pace(1, batch=4), INDICES, MUCH, 1 << 30),  # each sample is seen once
        (PACE, INDICES[:5], MUCH, 1 << 30),
        (PACE, INDICES, Room(), 1 << 30),
        (PACE, INDICES, Room(10), 1 << 30),
        (PACE, INDICES, Room(10, Path()), 10),
    ],
)
def test_calls_are_not_kept_where_that_is_no_use_or_there_is_no_room(
    pace: Pace, indices: list[int], room: Room, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Free(free))

    with stored(calls, indices, pace, room) as kept:
        assert kept.pairs is calls
