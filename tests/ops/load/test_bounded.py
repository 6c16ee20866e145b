"""How much a library may make for the weights of a folder."""

import itertools
import threading
import time
from collections.abc import Callable

import pytest
import torch
from torch import nn

from modswap.core.errors import CheckpointError
from modswap.ops.load.bounded import bounded

resource = pytest.importorskip("resource", reason="a process has no limits here")
WEIGHTS = {"weight": torch.ones(2, 2), "step": 3}
HUGE = 10**12


def layers() -> None:
    nn.ModuleList([nn.Sequential(nn.Identity()) for _ in range(6_000)])


def many_tensors() -> list[torch.Tensor]:
    return [torch.ones(1 << 20) for _ in range(1000)]


def grown() -> list[torch.Tensor]:
    small = torch.ones(1 << 20)
    return [small + 1 for _ in range(1000)]


WAYS: list[Callable[[], object]] = [
    lambda: nn.Embedding(HUGE, 8),
    lambda: nn.Linear(10**6, 10**6),
    lambda: torch.zeros(HUGE),
    lambda: torch.arange(HUGE),
    lambda: torch.linspace(0, 1, HUGE),
    lambda: torch.full((10**6, 10**6), 0.5),
    lambda: torch.eye(10**6),
    lambda: torch.randn(HUGE),
    lambda: torch.tril(torch.ones(10**6, 10**6)),
    many_tensors,
    grown,
    layers,
]


@pytest.mark.parametrize("way", WAYS)
def test_more_than_the_weights_can_fill_is_refused(way: Callable[[], object]) -> None:
    told = "^net: the model that it describes takes more (memory|modules) than its weights"

    with pytest.raises(CheckpointError, match=told), bounded(WEIGHTS, "net"):
        way()


def test_what_the_weights_fill_is_made_as_ever() -> None:
    with bounded(WEIGHTS, "net"):
        torch.manual_seed(0)
        made = nn.Linear(300, 200)
        views = [torch.ones(1 << 20).view(-1)[:5] for _ in range(2)]

    torch.manual_seed(0)
    assert torch.equal(made.weight, nn.Linear(300, 200).weight)
    assert len(views) == 2


def test_larger_weights_make_more_room() -> None:
    weights = {"weight": torch.empty(64 << 20, device="meta")}

    with bounded(weights, "net"):
        for _ in range(10):
            torch.empty(64 << 20)


def test_memory_that_torch_does_not_take_is_bounded_on_linux(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    told = "takes more memory than this machine gives"

    with pytest.raises(CheckpointError, match=told), bounded(WEIGHTS, "net"):
        bytearray(8 << 30)

    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_process_with_other_threads_is_not_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    monkeypatch.setattr(threading, "active_count", lambda: 2)

    with bounded(WEIGHTS, "net"):
        assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_time_to_build_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count(step=0.1)
    monkeypatch.setattr(time, "thread_time", lambda: next(seconds))
    told = "takes more time to build than its weights account for"

    with pytest.raises(CheckpointError, match=told), bounded(WEIGHTS, "net"):
        nn.ModuleList([nn.Identity() for _ in range(100)])
    with bounded({"weight": torch.empty(100 << 20, device="meta")}, "net"):
        nn.ModuleList([nn.Identity() for _ in range(100)])


@pytest.mark.parametrize("error", [ValueError("of the library"), RuntimeError("of the library")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error), match="of the library"), bounded({}, "net"):
        raise error
