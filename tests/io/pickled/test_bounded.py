"""Pickles of a few bytes that would make far larger objects, or never end."""

import io
import pickle
import time
from functools import partial
from typing import Any

import pytest

from modswap.core.budget import MemoryBudget
from modswap.io.pickled.bounded import MAX_KEYS_OF_A_HASH, MAX_OBJECT_KEYS, Keys
from modswap.io.pickled.data import (
    CostlyError,
    Instance,
    Name,
    UnreadableError,
    read_pickle,
    read_pickles,
)

DOUBLE = b"q\xff\x68\xff\x86"  # a pair of the object on top of the stack
MEMORY = r"its objects would take over \d+ MiB of memory, far more than a sound file of its size"
HASHED = "a key of it is a tuple that holds too much to be hashed"


def laughs(depth: int) -> bytes:
    return b"X\x02\0\0\0ha" + DOUBLE * depth


@pytest.mark.parametrize(
    "part",
    [b"]", b"}", b"(", b"(t", b"(l", b"(d", b")\x85\x85\x85", b"h\0)R", b"ca\n%d\n"],
    ids=["list", "dict", "mark", "tuple", "old list", "old dict", "one", "call", "names"],
)
def test_objects_of_a_byte_or_two_are_bounded_by_the_bytes_of_the_pickle(
    part: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = partial(MemoryBudget, 1 << 16)
    monkeypatch.setattr("modswap.io.pickled.bounded.MemoryBudget", small)
    parts = (part % number if b"%" in part else part for number in range(20_000))
    data = b"\x80\x02ccollections\nOrderedDict\nq\0(" + b"".join(parts) + b"t."

    with pytest.raises(CostlyError, match=MEMORY):
        read_pickle(data)


@pytest.mark.parametrize(
    "key",
    [laughs(34), b")" + b"\x85" * 100_000, b"cnets\nPair\n(" + laughs(34) + b"t\x81"],
    ids=["doubled", "deep", "object"],
)
@pytest.mark.parametrize(
    "put",
    [b"}%sNs", b"}(%sNu", b"(%sNd", b"ccollections\nOrderedDict\n)R%sNs"],
    ids=["item", "items", "dict", "ordered"],
)
def test_keys_that_cannot_be_hashed_in_time_are_refused(key: bytes, put: bytes) -> None:
    started = time.monotonic()

    with pytest.raises(CostlyError, match=HASHED):
        read_pickle(b"\x80\x02" + put.replace(b"%s", key) + b".")
    assert time.monotonic() - started < 5


def test_numbers_with_one_hash_are_refused() -> None:
    numbers = (pickle.dumps((n + 1) * (2**61 - 1) << 9, 2)[2:-1] + b"N" for n in range(70))

    with pytest.raises(CostlyError, match="over 64 keys of it have one hash"):
        read_pickle(b"\x80\x02}(" + b"".join(numbers) + b"u.")


def test_items_of_a_text_are_refused() -> None:
    with pytest.raises(UnreadableError, match="it puts an item into list"):
        read_pickle(b"]NNs.")


def test_refusal_shows_little_of_a_value_that_is_exponential() -> None:
    with pytest.raises(UnreadableError, match="it refers to something that is no storage") as told:
        read_pickle(b"\x80\x02" + laughs(40) + b"Q.")
    assert len(str(told.value)) < 200


def test_each_of_several_pickles_has_its_own_budget() -> None:
    stream = io.BytesIO(b"]." * 3)

    assert read_pickles(stream, 3) == ([[], [], []], ())


def test_old_lists_and_dictionaries_are_read() -> None:
    assert read_pickle(b"(I1\nI2\nl.")[0] == [1, 2]
    assert read_pickle(b"(I1\nI2\nd.")[0] == {1: 2}
    assert read_pickle(b"(I1\nI2\nt.")[0] == (1, 2)
    assert read_pickle(b"NNN\x87.")[0] == (None, None, None)


# keys that a pickle would hash
MODULUS = 2**61 - 1  # of the hashes of numbers


def nested(depth: int, *, twice: bool = False) -> tuple[Any, ...]:
    value: tuple[Any, ...] = ("ha",)
    for _ in range(depth):
        value = (value, value) if twice else (value,)
    return value


@pytest.mark.parametrize(
    "key", ["a", 1, -(2**80), 1.5, None, True, b"x", (1, "a", (2, 3)), nested(6), Name("a", "b")],
    ids=repr,
)  # fmt: skip
def test_keys_of_sound_files_are_hashed(key: Any) -> None:
    assert Keys().flaw([key]) == ""


@pytest.mark.parametrize(
    "key",
    [
        nested(7),
        nested(100_000),
        nested(34, twice=True),
        tuple(range(64)),
        ("a", nested(20, twice=True)),
        Instance("new", Name("nets", "Pair"), (nested(34, twice=True),)),
        Instance("called", Name("torch", "Size"), ((1,) * 200,)),
    ],
    ids=["deeper", "deepest", "doubled", "wide", "inside", "object", "wide object"],
)
def test_keys_that_cost_more_than_their_bytes_are_refused(key: Any) -> None:
    assert Keys().flaw([key]) == "a key of it is a tuple that holds too much to be hashed"


@pytest.mark.parametrize(
    "make",
    [
        lambda n: n * MODULUS << 8,
        lambda n: (n * MODULUS << 8, "a"),
        lambda n: (1, ((n * MODULUS << 8), 2.5), None),
    ],
)
def test_keys_of_one_hash_are_counted(make: Any) -> None:
    keys = Keys()
    few = [make(n + 1) for n in range(MAX_KEYS_OF_A_HASH)]

    assert len({hash(key) for key in few}) == 1
    assert keys.flaw([*few, *few]) == ""
    assert keys.flaw([make(n + 100) for n in range(2)]) == "over 64 keys of it have one hash"
    assert keys.held == MAX_KEYS_OF_A_HASH + 2


@pytest.mark.parametrize(
    "make",
    [
        lambda n: Instance("called", Name("torch", "Size"), ((n, 1),)),
        lambda n: ("a", Instance("new", Name("nets", "Pair"), (n, n))),
    ],
)
def test_objects_of_numbers_as_keys_are_counted(make: Any) -> None:
    keys = Keys()

    assert keys.flaw(make(n + 1) for n in range(MAX_OBJECT_KEYS)) == ""
    assert keys.flaw([make(1)]) == "over 10,000 keys of it are objects made of numbers"


@pytest.mark.parametrize(
    "table",
    [
        [(i, j) for i in range(-75, 75) for j in range(-75, 75)],
        [(i, j, k) for i in range(-14, 15) for j in range(-14, 15) for k in range(-14, 15)],
        [(i / 150, j / 150) for i in range(150) for j in range(150)],
        [("a", n) for n in range(11_000)],
        [((n,),) for n in range(11_000)],
        [2**70 + n for n in range(11_000)],
        [("a", str(n)) for n in range(11_000)],
        [Name("a", "b")],
    ],
)
def test_tables_of_sound_files_are_as_long_as_they_may_be(table: list[Any]) -> None:
    keys = Keys()

    assert keys.flaw(table) == ""
    assert keys.flaw(table) == ""  # in another dictionary
    assert keys.held in (len(table), 0)


def test_keys_that_are_kept_count_as_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modswap.io.pickled.bounded.MemoryBudget", partial(MemoryBudget, 1 << 16))
    keys = b"".join(b"M%s\x85N" % number.to_bytes(2, "little") for number in range(20_000))

    with pytest.raises(CostlyError, match=MEMORY):
        read_pickle(b"\x80\x02}(" + keys + b"u.")
