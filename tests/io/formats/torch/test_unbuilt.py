"""Plain data beside weights: nothing of it is built, and it is kept as it is."""

import argparse
import collections
import datetime
import decimal
import fractions
import io
import pathlib
import pickle
import sys
import types
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import modswap
from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.errors import CheckpointError, UnsafeError
from modswap.io.formats.reading import read
from modswap.io.formats.torch.unbuilt import Unbuilt
from modswap.io.formats.writing import write
from modswap.io.recipe.reader import parse_recipe
from modswap.io.rewriting import Records
from modswap.ops.jobs.replace_as_data import replace_unbuilt
from modswap.ops.jobs.tree import read_tree
from tests.models import GatedNet

FACTORY = "tests.models:GatedNet"
STATE = GatedNet().state_dict()
SWAP = "{match: space_attention, with: SEBlock, layout: NCHW, args: {channel: 16}}"
RULE = f"version: 1\nreplace: [{SWAP}]\n"
UTC = datetime.UTC
PLAIN: dict[str, Any] = {
    "namespace": argparse.Namespace(lr=0.1, betas=(0.9, 0.99), root=pathlib.PurePosixPath("/data")),
    "nested namespaces": types.SimpleNamespace(inner=argparse.Namespace(a=[1, 2])),
    "numbers of numpy": [np.float64(0.5), np.int64(3), np.bool_(True), np.float16(1), np.str_("a")],
    "array": np.arange(6).reshape(2, 3),
    "transposed array": np.asfortranarray(np.ones((2, 3), np.float32)),
    "array of texts": np.array(["a", "bc"]),
    "array of objects": np.array([1, "a", None], dtype=object),
    "array of records": np.zeros(2, dtype=[("a", "i4"), ("b", "f8")]),
    "dtype": np.dtype("float32"),
    "random state": np.random.RandomState(0).get_state(),
    "times": [datetime.datetime(2026, 1, 2, 3, tzinfo=UTC), datetime.date(2026, 1, 2),
              datetime.time(1), datetime.timedelta(2)],
    "paths": {pathlib.PurePosixPath("/a"): 1, pathlib.PureWindowsPath("c:/b"): 2},
    "default dict": collections.defaultdict(list, a=[1]),
    "queue": collections.deque([1, 2], maxlen=3),
    "user dict": collections.UserDict({"a": 1}),
    "chain": collections.ChainMap({"a": 1}, {"b": 2}),
    "frozen set": frozenset({1, 2}),
    "range and slice": [range(3), slice(1, 2), ...],
    "exact numbers": [decimal.Decimal("1.5"), fractions.Fraction(1, 3)],
    "identifier": uuid.UUID(int=5),
}  # fmt: skip


class EasyDict(dict[str, Any]):
    """A dictionary whose items are attributes too, as easydict has it."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        vars(self).update(values)


def saved(value: Any, folder: Path, **more: Any) -> Path:
    file = folder / "net.pt"
    torch.save({"model": STATE, "more": value, "epoch": 3, **more}, file)
    return file


def loaded(file: Path) -> Any:
    return torch.load(file, weights_only=False)["more"]  # noqa: TID251 - of this test's making


def swapped(file: Path) -> Path:
    recipe = parse_recipe(RULE, "swap.yaml", ".")
    out = file.with_name("out.pt")
    outcome = replace_unbuilt(Job(Subject(file), recipe, out))
    assert outcome.error is None, outcome.error
    return out


def same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and repr(a) == repr(b)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", PLAIN)
def test_plain_data_needs_no_permission_and_is_kept(name: str, tmp_path: Path) -> None:
    file = saved(PLAIN[name], tmp_path)

    out = swapped(file)

    assert same(loaded(out), PLAIN[name])
    for one in (file, out):
        found = modswap.load(one, FACTORY).state_dict()
        assert torch.equal(found["stem.weight"], STATE["stem.weight"])
        assert read_tree(Subject(one)).wanted == ()


def test_settings_that_are_items_and_attributes_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("easydict")
    vars(module)["EasyDict"] = EasyDict
    monkeypatch.setitem(sys.modules, "easydict", module)
    monkeypatch.setattr(EasyDict, "__module__", "easydict")
    value = EasyDict({"a": 1, "b": EasyDict({"c": [1]})})
    file = saved(value, tmp_path)

    out = swapped(file)

    assert read(out, Policy()).payload["more"] == {}
    modswap.load(out, FACTORY)
    assert same(loaded(out), value)
    assert vars(loaded(out)) == vars(value)


def test_old_file_with_plain_data_is_read(tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    value = argparse.Namespace(a=np.float64(1), b=collections.deque([1]))
    torch.save({"model": STATE, "more": value}, file, _use_new_zipfile_serialization=False)

    assert torch.equal(
        modswap.load(file, FACTORY).state_dict()["stem.weight"], STATE["stem.weight"]
    )


def test_data_that_was_not_built_holds_nothing(tmp_path: Path) -> None:
    value = [argparse.Namespace(a=1), collections.deque([1])]

    container = read(saved(value, tmp_path), Policy())

    namespace, queue = container.payload["more"]
    assert isinstance(namespace, Unbuilt)
    assert vars(namespace) == {}
    assert queue == []
    assert container.payload["epoch"] == 3
    assert "argparse.Namespace" in container.unbuilt
    with pytest.raises(TypeError, match="cannot be written"):
        pickle.dumps(namespace)


def test_file_is_not_saved_anew_without_its_data(tmp_path: Path) -> None:
    container = read(saved(argparse.Namespace(a=1), tmp_path), Policy())
    values = [container.slots[0].value]

    with pytest.raises(CheckpointError, match=r"holds argparse\.Namespace, which were not"):
        write(container, values, tmp_path / "out.pt", records=Records(), force=False)

    write(container, values, tmp_path / "out.safetensors", records=Records(), force=False)


def test_data_that_the_user_allows_is_built(tmp_path: Path) -> None:
    value = argparse.Namespace(a=1)

    container = read(saved(value, tmp_path), Policy(("argparse.Namespace",)))

    assert container.payload["more"] == value
    assert container.unbuilt == ()


def test_a_part_of_the_data_that_is_allowed_asks_for_all(tmp_path: Path) -> None:
    file = saved([argparse.Namespace(a=1), np.float64(1)], tmp_path)

    with pytest.raises(UnsafeError, match=r"--allow numpy\.dtype"):
        read(file, Policy(("argparse.Namespace",)))


def test_data_in_a_file_of_modules_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    torch.save({"model": torch.nn.Linear(2, 2), "more": argparse.Namespace(a=1)}, file)

    with pytest.raises(UnsafeError, match=r"argparse\.Namespace"):
        modswap.load(file)

    assert [one.name for one in read_tree(Subject(file)).wanted] == ["argparse.Namespace"]


@pytest.mark.parametrize(
    "payload",
    [
        argparse.Namespace(model=STATE),
        {"model": argparse.Namespace(a=STATE["stem.weight"])},
        {"model": {"w": torch.ones(1), "block._extra_state": argparse.Namespace(a=1)}},
    ],
)
def test_weights_in_plain_data_are_asked_for(payload: Any, tmp_path: Path) -> None:
    torch.save(payload, tmp_path / "net.pt")

    with pytest.raises(UnsafeError, match=r"allow=\['argparse\.Namespace'"):
        modswap.load(tmp_path / "net.pt", FACTORY)


class Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def test_calls_that_would_take_all_memory_are_not_made(tmp_path: Path) -> None:
    value = [
        Calls(frozenset, range(1 << 40)),
        Calls(collections.deque, range(1 << 40)),
        Calls(np.ndarray, (1 << 40,)),
        Calls(decimal.Decimal, "1e999999"),
    ]

    modswap.load(saved(value, tmp_path), FACTORY)


@pytest.mark.parametrize("function", [eval, getattr, print])
def test_other_names_are_refused_beside_plain_data(
    function: Callable[..., Any], tmp_path: Path
) -> None:
    value = [argparse.Namespace(a=1), Calls(function, "1")]

    with pytest.raises(UnsafeError, match=rf"builtins\.{function.__name__}") as caught:
        modswap.load(saved(value, tmp_path), FACTORY)

    assert "argparse" not in caught.value.what


def test_pickle_that_puts_items_into_other_objects_is_refused(tmp_path: Path) -> None:
    file = saved(argparse.Namespace(a=1), tmp_path)
    # one class with items in one object, elements in another
    body = b"\x80\x02}(X\x05\x00\x00\x00model}X\x04\x00\x00\x00more](cargparse\nNamespace\n"
    body += b")\x81K\x01aeu."
    buffer = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, body if name.endswith("data.pkl") else old.read(name))
    file.write_bytes(buffer.getvalue())

    with pytest.raises((CheckpointError, UnsafeError)):
        modswap.load(file, FACTORY)
