"""Modules and weights are put into payloads read as data, in their places.

Covers: marks, storages.
"""

from pathlib import Path

import pytest

from modswap.core.errors import CheckpointError
from modswap.io.pickled.data import Instance, Name, Storage, UnreadableError
from modswap.io.pickled.edit import (
    put_beside,
    put_heirs,
    put_module,
    put_weights,
    remove_item,
    set_item,
    take_beside,
    value_at,
)
from modswap.io.pickled.marks import marks
from modswap.io.pickled.storages import Storages
from modswap.io.pickled.values import BLANK
from modswap.io.raw.byte_range import ByteRange, in_memory
from modswap.io.recognise.look import Look
from modswap.io.rewriting import Removal

LOOK = Look(Path("net.pt"), b"", 0)
FLOATS = Name("torch", "FloatStorage")


def tensor(key: str, count: int = 2) -> Instance:
    rebuild = Name("torch._utils", "_rebuild_tensor_v2")
    return Instance("called", rebuild, (Storage(FLOATS, key, count), 0, (count,), (1,)))


def test_path_that_is_not_there_is_an_error() -> None:
    model = Instance("new", Name("torch.nn", "Module"), (), {"_modules": {}, "_parameters": {}})

    with pytest.raises(UnreadableError, match="it has no module 'a'"):
        put_module(model, "a", model)
    with pytest.raises(UnreadableError, match=r"it holds nothing under 'a\.b'"):
        value_at({"a": 3}, ("a", "b"))


def test_a_module_that_has_two_names_gets_another_beside_it_once() -> None:
    own = Name("nets", "Net")
    site = Instance("new", own, (), {"_modules": {}, "_parameters": {}})
    model = Instance("new", own, (), {"_modules": {"a": site, "b": site}, "_parameters": {}})
    new = Instance("new", Name("nets", "Gate"), (), {"_modules": {}, "_parameters": {}})

    put_beside(model, "a.gate", new)
    put_beside(model, "b.gate", new)

    assert (site.what, site.args, site.state["_inserted"]) == (BLANK, (own,), ("gate",))
    assert site.state["_modules"] == {"gate": new}


def test_a_module_of_which_all_others_are_taken_out_is_of_its_plain_class() -> None:
    own = Name("nets", "Net")
    child = Instance("new", Name("nets", "Gate"), (), {"_modules": {}, "_parameters": {}})
    state = {"_modules": {"a": child, "b": child}, "_parameters": {}, "_inserted": ("a", "b")}
    site = Instance("called", BLANK, (own,), {**state, "_inner": 3})
    model = Instance("new", own, (), {"_modules": {"site": site}, "_parameters": {}})

    take_beside(model, "site.a")
    assert (site.what, site.args, site.state["_inserted"]) == (BLANK, (own,), ("b",))
    take_beside(model, "site.b")
    take_beside(model, "site.b")  # by another of its names

    assert (site.how, site.what, site.args) == ("new", own, ())
    assert site.state == {"_modules": {}, "_parameters": {}, "forward": 3}


def test_a_module_that_is_taken_out_leaves_no_forward_that_was_not_there() -> None:
    own = Name("nets", "Net")
    child = Instance("new", Name("nets", "Gate"), (), {"_modules": {}, "_parameters": {}})
    state = {"_modules": {"a": child}, "_parameters": {}, "_inserted": ("a",)}
    site = Instance("called", BLANK, (own,), state)
    model = Instance("new", own, (), {"_modules": {"site": site}, "_parameters": {}})

    take_beside(model, "site.a")

    assert (site.what, site.state) == (own, {"_modules": {}, "_parameters": {}})


def test_a_module_is_put_in_beside_one_whose_name_has_dots() -> None:
    own = Name("nets", "Net")
    site = Instance("new", own, (), {"_modules": {}, "_parameters": {}})
    model = Instance("new", own, (), {"_modules": {"a.b": site}, "_parameters": {}})
    new = Instance("new", Name("nets", "Gate"), (), {"_modules": {}, "_parameters": {}})

    put_beside(model, "a.b.gate", new)

    assert site.state["_modules"] == {"gate": new}
    with pytest.raises(UnreadableError, match=r"it has no module 'c'"):
        put_beside(model, "a.b.c.gate", new)


def test_nearest_names_are_those_that_share_the_most() -> None:
    held = {"a.x": 1, "z": 2}

    put_weights(held, Removal(("a.b.gate.",)), {"a.b.gate.w": 3}, {})

    assert [*held] == ["a.x", "a.b.gate.w", "z"]


def ordered(*pairs: tuple[str, int]) -> Instance:
    return Instance("called", Name("collections", "OrderedDict"), (), items=list(pairs))


def test_item_of_an_ordered_dictionary_keeps_its_place() -> None:
    held = ordered(("a", 1), ("b", 2))

    set_item(held, "a", 3)
    set_item(held, "c", 4)
    remove_item(held, "b")

    assert held.items == [("a", 3), ("c", 4)]


def test_tensors_are_alike_where_bytes_and_sizes_are() -> None:
    file = Path("net.pt")
    records = {
        "data/0": ByteRange(8, file, 64),
        "data/1": ByteRange(8, file, 64),
        "data/2": ByteRange(8, file, 128),
    }
    payload = {"a": tensor("0"), "b": [tensor("1"), tensor("2")], "b.0": tensor("0")}

    found = dict(marks(payload, Storages(LOOK, records)))

    assert [*found] == ["a", "b.0", "b.1", "b.0#2"]
    assert found["a"] == found["b.0"] == found["b.0#2"]
    assert found["a"] != found["b.1"]
    assert found["a"].nbytes == 8


def test_storages_of_further_modules_are_found_in_their_own_records() -> None:
    storages = Storages(LOOK, {"data/0": in_memory(b"old bits")})

    home = storages.add({"data/0": in_memory(b"new bits")})

    assert storages.find(Storage(FLOATS, "0", 2)).data == b"old bits"
    assert storages.find(Storage(FLOATS, "0", 2, home=home)).data == b"new bits"


@pytest.mark.parametrize(
    ("key", "count", "what"),
    [
        ("7", 2, "net.pt: a tensor's record '7' is missing"),
        ("0", 3, "net.pt: its record 'net/data/0' has 8 bytes, expected 12"),
    ],
)
def test_storage_that_has_no_such_record_is_refused(key: str, count: int, what: str) -> None:
    storages = Storages(LOOK, {"data/0": in_memory(b"old bits", "net/data/0")})

    with pytest.raises(CheckpointError, match=what):
        storages.find(Storage(FLOATS, key, count))


def test_further_name_of_a_tensor_that_is_not_there_is_passed_over() -> None:
    held = {"a": 1}

    put_heirs(held, {"b": "a", "c": "gone"})

    assert held == {"a": 1, "b": 1}
