"""Pickles written from data read as data: torch reads them as it read the old ones."""

import copy
import enum
import io
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from modswap.io.pickled.data import Instance, Name, UnreadableError, read_pickle
from modswap.io.pickled.writing import write_pickle
from tests.models import GatedNet, SharedNet, Tied


@dataclass
class Point:
    x: int
    more: Any = None


class Color(enum.Enum):
    RED = 1


def saved(value: Any, protocol: int = 2) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, pickle_protocol=protocol)
    return stream.getvalue()


def rewritten(content: bytes) -> Any:
    """Return what torch reads after the pickle of a file was read and written as data."""
    old = zipfile.ZipFile(io.BytesIO(content))
    stream = io.BytesIO()
    root = old.namelist()[0].partition("/")[0]
    data = old.read(f"{root}/data.pkl")
    value, names = read_pickle(data)
    pickled, storages = write_pickle(value, data[1])
    assert read_pickle(pickled)[1] == names
    with zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            if "/data" not in name:
                new.writestr(name, old.read(name))
        new.writestr(f"{root}/data.pkl", pickled)
        for number, storage in enumerate(storages):
            new.writestr(f"{root}/data/{number}", old.read(f"{root}/data/{storage.key}"))
    stream.seek(0)
    return torch.load(stream, weights_only=False)  # noqa: TID251 - as other readers do


def inner(value: Any) -> Any:
    return value.state_dict() if isinstance(value, nn.Module) else value


@pytest.mark.parametrize(
    "make",
    [GatedNet, SharedNet, Tied, lambda: nn.TransformerEncoderLayer(8, 2), lambda: nn.LSTM(3, 4)],
)
def test_modules_come_back(make: Any) -> None:
    model = make()

    back = rewritten(saved(model))

    assert type(back) is type(model)
    torch.testing.assert_close(back.state_dict(), model.state_dict(), rtol=0, atol=0)
    names = [name for name, _ in model.named_parameters()]
    assert [name for name, _ in back.named_parameters()] == names


@pytest.mark.parametrize(
    "value",
    [
        {
            "a": 1,
            2: None,
            (3, "x"): [True, False],
            1.5: (),
            "": ((1,), (1, 2), (1, 2, 3), (1,) * 9),
        },
        [0, 255, 256, -1, 65535, 1 << 31, -(1 << 31) - 1, 1 << 80, -(1 << 2000)],
        {"f": [0.5, float("inf"), -0.0], "s": "ä\ud800\n" + "x" * 300, "empty": [[], {}]},
        {1, 2, 3},
        frozenset({1}),
        b"bytes" * 100,
        bytearray(b"abc"),
        OrderedDict(a=1, b=OrderedDict()),
        Point(1, Point(2)),
        Color.RED,
        torch.Size([1, 2]),
        torch.float16,
        torch.device("cpu"),
        complex(1, 2),
        range(3),
        Path("x/y"),
        {f"name {n}": n for n in range(700)},
    ],
    ids=str,
)
def test_values_come_back(value: Any) -> None:
    assert rewritten(saved([value, torch.zeros(1)]))[0] == value


@pytest.mark.parametrize("size", [3, 300])
def test_bytes_of_protocol_three_come_back(size: int) -> None:
    value = {"b": b"\0" * size, "again": torch.ones(2)}

    back = rewritten(saved(value, 3))

    assert back["b"] == value["b"]


def test_shared_objects_are_shared_again_and_rings_closed() -> None:
    shared: list[Any] = ["x"]
    ring: list[Any] = []
    pair = (ring, shared)
    ring.append(pair)
    table: dict[str, Any] = {"self": None, "one": shared, "two": shared, "pair": pair}
    table["self"] = table
    point = Point(1)
    point.more = point
    table["point"] = point
    table["long"] = (ring, 1, 2, 3, shared)
    ring.append(table["long"])

    back = rewritten(saved(table))

    assert back["self"] is back
    assert back["one"] is back["two"]
    assert back["pair"][0][0] is back["pair"]
    assert back["point"].more is back["point"]
    assert back["long"][0][1] is back["long"]
    assert back["long"][4] is back["one"]


def test_storages_are_shared_again() -> None:
    base = torch.arange(6.0)
    value = {"whole": base, "part": base[2:4], "turned": base.view(2, 3).t()}

    back = rewritten(saved(value))

    pointers = {tensor.untyped_storage().data_ptr() for tensor in back.values()}
    assert len(pointers) == 1
    assert torch.equal(back["turned"], value["turned"])


def test_optimizer_comes_back() -> None:
    model = GatedNet()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(1, 3, 8, 8)).sum().backward()
    optimizer.step()

    back = rewritten(saved(copy.deepcopy(optimizer.state_dict())))

    torch.testing.assert_close(back, optimizer.state_dict(), rtol=0, atol=0)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inside: (
        st.lists(inside)
        | st.dictionaries(st.text() | st.integers(), inside)
        | st.lists(inside).map(tuple)
    ),
)


@given(PLAIN)
def test_plain_data_come_back(value: Any) -> None:
    data = pickle.dumps(value, 2)

    assert pickle.loads(write_pickle(read_pickle(data)[0])[0]) == value


def test_object_that_holds_itself_in_what_it_is_made_of_is_written_once() -> None:
    held: list[Any] = []
    made = Instance("called", Name("builtins", "list"), (held,))
    held.append(made)

    back, _ = read_pickle(write_pickle(made)[0])

    assert isinstance(back, Instance)


def test_what_no_such_pickle_can_hold_is_refused() -> None:
    with pytest.raises(UnreadableError, match="it holds set, which cannot be written"):
        write_pickle([set()])
