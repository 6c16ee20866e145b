"""A lack of memory is reported as such, as any error that a reader makes of it."""

import errno
from pathlib import Path

import pytest

from modswap.core.errors import CheckpointError
from modswap.io.raw.memory import enough_memory, lacks_memory

ALLOCATOR = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you"


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError(ALLOCATOR), True),
        (RuntimeError("unable to mmap 99 bytes: Cannot allocate memory (12)"), True),
        (RuntimeError("std::bad_alloc"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (RuntimeError("unexpected EOF"), False),
        (ValueError("out of memory"), False),
    ],
    ids=str,
)
def test_errors_for_a_lack_of_memory_are_known(error: Exception, *, lacks: bool) -> None:
    assert lacks_memory(error) is lacks


def lack() -> None:
    raise MemoryError


@pytest.mark.parametrize("hidden", [True, False])
def test_damage_that_is_a_lack_of_memory_is_reported_as_that(*, hidden: bool) -> None:
    def read() -> None:
        try:
            lack()
        except MemoryError as error:
            raise CheckpointError("it is damaged", "net.pt") from (None if hidden else error)

    with pytest.raises(CheckpointError) as raised, enough_memory(Path("net.pt")):
        read()

    assert raised.value.line() == (
        "net.pt: there is not enough memory for it; "
        "close other programs, or use a machine with more memory"
    )
    assert raised.value.code == 3


def test_other_errors_stay_as_they_are() -> None:
    damage = CheckpointError("it is damaged", "net.pt")

    with pytest.raises(CheckpointError) as raised, enough_memory(Path("net.pt")):
        raise damage

    assert raised.value is damage
