"""The memory of the machine, and the bound on what this process takes of it."""

import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from modswap.core.asked.recipe import TensorInput
from modswap.ops.run.inputs import Case, DummyCall
from modswap.ops.run.isolation import untouched
from modswap.ops.run.process_memory import available, bounded_process, total
from modswap.ops.trace.passes import trace

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="a limit of Linux")
REFUSED = "allocate memory"


def test_memory_is_the_least_of_group_and_machine(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 100 kB\nMemAvailable: 80 kB\n")
    old = tmp_path / "old" / "memory"
    old.mkdir(parents=True)
    for name, text in {
        "memory.limit_in_bytes": "70000", "memory.usage_in_bytes": "30000",
        "memory.stat": "cache 5\ntotal_inactive_file 2000",
    }.items():  # fmt: skip
        (old / name).write_text(text)
    new = tmp_path / "new"
    new.mkdir()
    (new / "memory.max").write_text("max\n")
    (new / "memory.current").write_text("30000\n")

    assert available(tmp_path / "old", meminfo) == 42000
    assert available(new, meminfo) == 80 * 1024
    assert (available(new, tmp_path / "none") or 0) > 0
    assert total(tmp_path / "old", meminfo) == 70000
    assert total(new, meminfo) == 100 * 1024
    assert total(new, tmp_path / "none") is None


@pytest.fixture
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let threads of the test runner, which take little memory, count as none."""
    monkeypatch.setattr(threading, "active_count", lambda: 1)


@LINUX
@pytest.mark.usefixtures("_alone")
def test_tensor_beyond_the_bound_is_an_error_and_the_bound_ends() -> None:
    with bounded_process(256 << 20):
        torch.empty(8 << 20)
        with pytest.raises(RuntimeError, match=REFUSED):
            torch.empty(256 << 20)
    torch.empty(256 << 20)


@LINUX
@pytest.mark.usefixtures("_alone")
def test_bound_does_not_widen_the_one_around_it() -> None:
    with (
        bounded_process(256 << 20),
        bounded_process(1 << 40),
        pytest.raises(RuntimeError, match=REFUSED),
    ):
        torch.empty(256 << 20)


def test_no_bound_where_there_is_none_or_another_thread_runs() -> None:
    with bounded_process(None):
        torch.empty(64 << 20)
    wait = threading.Event()
    other = threading.Thread(target=wait.wait)
    other.start()
    try:
        with bounded_process(1 << 20):
            torch.empty(64 << 20)
    finally:
        wait.set()
        other.join()


class Greedy(nn.Module):
    """A layer whose memory depends on values, so that no pass without data foretells it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        side = int(x.abs().sum().item() > 0) * 4096
        return x.mean() + torch.ones(side, side, 64).mean()


@LINUX
@pytest.mark.usefixtures("_alone")
def test_real_pass_takes_no_more_than_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modswap.ops.run.isolation.available", lambda: 512 << 20)
    case = Case(DummyCall((TensorInput(shape=(1, 3)),), {}))

    seen = trace(Greedy(), case).seen

    assert REFUSED in seen.error
    with untouched(Greedy(), training=False, unreal=True):
        torch.empty(256 << 20)
