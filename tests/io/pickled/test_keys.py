"""Keys that a pickle would hash."""

from typing import Any

import pytest

from modswap.io.pickled.data import Instance, Name
from modswap.io.pickled.keys import MAX_CHOSEN_KEYS, Keys

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


@pytest.mark.parametrize("make", [lambda n: n * MODULUS << 8, lambda n: (n, 1), lambda n: ((n,),)])
def test_keys_whose_hashes_can_be_chosen_are_counted(make: Any) -> None:
    keys = Keys()

    assert keys.flaw(make(n + 1) for n in range(MAX_CHOSEN_KEYS)) == ""
    assert keys.flaw([make(1)]) == "over 10,000 keys of it are large numbers or tuples of numbers"


def test_keys_of_texts_are_as_many_as_they_may_be() -> None:
    assert Keys().flaw(("a", str(n)) for n in range(MAX_CHOSEN_KEYS + 1)) == ""
