"""Walks over live values."""

from collections import UserDict, namedtuple
from dataclasses import dataclass
from typing import Any

import torch

from modswap.live_values import items_of, live_tensors, map_leaves, map_tensors, nbytes_of

Pair = namedtuple("Pair", ["a", "b"])
ONE, TWO = torch.ones(1), torch.ones(2)


@dataclass
class Output:
    """Return value of a host."""

    first: Any
    second: Any


def test_tensors_are_found_in_containers_and_dataclasses_depth_first() -> None:
    value = {"a": [ONE, 3], "b": Output((TWO,), None)}

    assert [id(t) for t in live_tensors(value)] == [id(ONE), id(TWO)]


def test_values_that_hold_themselves_end() -> None:
    value: list[Any] = [ONE]
    value.append(value)

    assert len(live_tensors(value)) == 8


def test_containers_keep_their_class() -> None:
    value = {"a": [1, (2, Pair(3, 4))], "b": 5}

    assert map_leaves(lambda leaf: leaf + 1, value) == {"a": [2, (3, Pair(4, 5))], "b": 6}


def test_mappings_of_other_classes_become_dicts() -> None:
    assert map_leaves(str, [UserDict(a=1)]) == [{"a": "1"}]


def test_container_that_is_said_to_be_a_leaf_is_one() -> None:
    found = map_leaves(len, [{"shape": 1}, {"a": "xyz"}], lambda value: "shape" in value)

    assert found == [1, {"a": 3}]


def test_only_tensors_are_changed() -> None:
    assert map_tensors(len, (ONE, [TWO, "text"], None)) == (1, [2, "text"], None)


def test_other_values_have_no_items() -> None:
    assert items_of("text") is None
    assert items_of(Output) is None


def test_bytes_of_a_sparse_tensor_are_those_of_the_dense_one() -> None:
    assert nbytes_of(torch.eye(3).to_sparse()) == nbytes_of(torch.eye(3)) == 36
