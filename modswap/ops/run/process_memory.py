"""The memory of the machine, and a bound on what this process takes of it."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import torch

GROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
_STATUS = Path("/proc/self/status")
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of a control group of either version


def total(group: Path = GROUP, meminfo: Path = MEMINFO) -> int | None:
    """Return the bytes of the control group or the system, the smaller number, or None."""
    kib = _number(meminfo, "MemTotal:")
    found = [*(_number(group / name) for name in _LIMITS), kib and kib * 1024]
    return min((nbytes for nbytes in found if nbytes), default=None)


def available(group: Path = GROUP, meminfo: Path = MEMINFO) -> int | None:
    """Return the free bytes of the control group or the system, the smaller number, or None."""
    found = [nbytes for nbytes in (_free_in(group), _free_of(meminfo)) if nbytes is not None]
    return min(found, default=None)


def _free_in(group: Path) -> int | None:
    """Return the free bytes of a control group of either version."""
    names = (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    )
    for limit, usage, stat, cached in names:
        most, used = _number(group / limit), _number(group / usage)
        if most is not None and used is not None:
            # cached files make room when memory is needed
            return most - used + (_number(group / stat, cached) or 0)
    return None


def _free_of(meminfo: Path) -> int | None:
    free = _number(meminfo, "MemAvailable:")
    if free is not None:
        return free * 1024
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # not every system has these names
        return None


def _number(file: Path, name: str = "") -> int | None:
    """Return the number in a file, or the number behind a name in one of its lines."""
    try:
        lines = [line.split() for line in file.read_text(encoding="ascii").splitlines()]
    except OSError:
        return None
    words = [line[1:] for line in lines if line[:1] == [name]] if name else lines
    number = next(chain.from_iterable(words), "")
    return int(number) if number.isdigit() else None


@contextmanager
def bounded_process(nbytes: int | None) -> Iterator[None]:
    """Bound the memory that this process may still take in a block, on Linux.

    There is no bound for None, and where another thread or a GPU would feel it.
    """
    elsewhere = sys.platform != "linux" or threading.active_count() > 1
    if nbytes is None or elsewhere or torch.cuda.is_initialized():
        yield
        return
    import resource

    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
    used = int(lines["VmData"].split()[0]) << 10
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bounds = [used + nbytes, *(limit for limit in (soft, hard) if limit >= 0)]
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
