"""Calls of a pickle that a safe unpickler would make, and that would take all memory or time."""

from pathlib import Path
from typing import Any

import pytest

from modswap.core.errors import CheckpointError, ModswapError, UnsafeError
from modswap.io.pickled.costs import CallCosts
from modswap.io.pickled.data import Instance, Name, Storage, UnreadableError
from modswap.io.recognise.look import Look

STORAGE = Storage(Name("torch", "FloatStorage"), "0", 1)
WIDE = (1 << 30,)
V2 = Name("torch._utils", "_rebuild_tensor_v2")
CAST = "torch._utils._rebuild_device_tensor_from_cpu_tensor"
PARAMETER = "torch._utils._rebuild_parameter"
TYPED = "torch._tensor._rebuild_from_type_v2"


def called(name: str, *args: Any, state: Any = None, how: Any = "called") -> Instance:
    module, _, attribute = name.rpartition(".")
    return Instance(how, Name(module, attribute), args, state)


def tensor(size: Any, make: str = "_rebuild_tensor_v2", start: int = 0, *more: Any) -> Instance:
    return called(f"torch._utils.{make}", STORAGE, start, size, (0,), *more)


def add(*made: Instance, size: int = 1000) -> None:
    costs = CallCosts(Look(Path("net.pt"), b"", size))
    for one in made:
        costs.add(one)


def lstm(layers: Any, parameters: Any) -> Instance:
    state = {"num_layers": layers, "_all_weights": [[0]], "_parameters": parameters}
    return called("torch.nn.modules.rnn.LSTM", state=state, how="new")


def ordered(count: int) -> Instance:
    made = called("collections.OrderedDict")
    for number in range(count):
        made[f"w{number}"] = 1
    return made


SOUND = {
    "bytes": called("_codecs.encode", "abc", "latin1"),
    "empty bytes": called("_codecs.encode", "", "UTF-8"),
    "default codec": called("_codecs.encode", "abc"),
    "byte array": called("builtins.bytearray", "abc", "latin-1"),
    "set": called("builtins.set", [1, "a", (2, 3)]),
    "ordered": called("collections.OrderedDict", [["a", 1], ("b", 2)]),
    "counter": called("collections.Counter", {"a": 1}),
    "tensor": tensor((2, 3)),
    "scalar": tensor(()),
    "negative": tensor((1 << 40, -1)),
    "empty": tensor((1 << 40, 0)),
    "axes": tensor((1,) * 1000),
    "size": tensor(called("torch.Size", [2, 3])),
    "no tensor": called("torch._utils._rebuild_tensor_v2", 1),
    "no cast": called(CAST, 1),
    "typed": called(TYPED, V2, 1, (STORAGE, 0, (2,), (1,)), 1),
    "cast": called(CAST, tensor((2,)), Name("torch", "float64"), "cpu", False),
    "own": called("nets.Net", 3),
    "lstm": lstm(2, ordered(8)),
    "old lstm": lstm(1, {"a": 1, "b": 2}),
    "no number": lstm("two", None),
}  # fmt: skip
COSTLY = {
    "nested": called("_codecs.encode", called("_codecs.encode", "a", "hex"), "hex"),
    "codec": called("_codecs.encode", "a", "punycode"),
    "idna": called("_codecs.encode", "a", "IDNA"),
    "no text": called("_codecs.encode", ["a"], "latin1"),
    "array": called("builtins.bytearray", "a", "punycode"),
    "array of objects": called("builtins.bytearray", [1, 2]),
    "set": called("builtins.set", [((1,) * 99,)]),
    "old set": called("__builtin__.set", [((1,) * 99,)]),
    "frozen": called("builtins.frozenset", ((1,) * 99,) * 2),
    "counter": called("collections.Counter", [(1,) * 99]),
    "ordered": called("collections.OrderedDict", [[(1,) * 99, 1]]),
    "expanded": tensor(WIDE),
    "axes": tensor((2,) * 65),
    "beyond": tensor((1 << 70,)),
    "two": tensor((1 << 16, 1 << 16)),
    "size": tensor(called("torch.Size", WIDE)),
    "first": tensor(WIDE, "_rebuild_tensor"),
    "third": tensor(WIDE, "_rebuild_tensor_v3", 0, False, {}, Name("torch", "float8_e4m3fn")),
    "quantised": tensor(WIDE, "_rebuild_qtensor"),
    "typed": called(TYPED, V2, 1, (STORAGE, 0, WIDE, (0,)), 1),
    "cast": called(CAST, tensor((1 << 26,)), Name("torch", "complex128"), "cpu", False),
    "cast parameter": called(CAST, called(PARAMETER, tensor((1 << 27,))), 1),
    "cast typed": called(
        CAST,
        called(TYPED, Name("torch._utils", "_rebuild_tensor"), 1, (STORAGE, 0, WIDE, (0,)), 1),
        Name("torch", "float64"),
    ),
    "lstm": lstm(50_000_000, ordered(4)),
    "old lstm": lstm(50_000_000, {"a": 1}),
    "empty lstm": lstm(2, None),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_calls_of_sound_files_pass(name: str) -> None:
    add(SOUND[name])


@pytest.mark.parametrize("name", COSTLY)
def test_call_that_costs_more_than_its_bytes_is_refused(name: str) -> None:
    with pytest.raises(ModswapError) as refusal:
        add(COSTLY[name])

    assert refusal.value.code in {3, 4}
    assert refusal.value.where == "net.pt"
    assert len(refusal.value.what) < 300


@pytest.mark.parametrize(
    "made",
    [
        tensor([1 << 30]),
        tensor(called("torch.Size", called("torch.Size", WIDE))),
        called(CAST, called("nets.Tensor"), Name("torch", "float64"), "cpu"),
    ],
    ids=["list", "no size", "unknown"],
)
def test_tensor_without_a_plain_size_is_not_read(made: Instance) -> None:
    with pytest.raises(UnreadableError, match="a tensor of it has no plain size"):
        add(made)


def test_expanded_tensors_are_summed_and_each_view_is_counted_once() -> None:
    wide = [tensor((1 << 20,), "_rebuild_tensor_v2", start) for start in range(200)]

    add(*[wide[0]] * 1000)
    add(*wide, size=1 << 30)
    with pytest.raises(ModswapError, match=r"its tensors have 536,870,912 bytes") as refusal:
        add(*wide, size=-1)
    assert refusal.value.fix == "save it again without expanded tensors"


def test_long_arguments_of_many_calls_are_summed() -> None:
    text = "a" * 1_000_000

    with pytest.raises(ModswapError, match="arguments of its calls are longer than the file"):
        add(*[called("builtins.complex", text)] * 17)


def test_converted_tensors_are_counted_by_each_call() -> None:
    cast = [called(CAST, SOUND["tensor"], Name("torch", "float64"), "cpu") for _ in range(3)]
    wide = [called(CAST, tensor((1 << 23,)), Name("torch", "float64"), "cpu") for _ in range(9)]

    add(*cast)
    with pytest.raises(ModswapError, match="its tensors have"):
        add(*wide)


def test_typed_tensors_inside_one_another_end() -> None:
    inner: Instance = tensor(WIDE)
    for _ in range(40):
        inner = called(TYPED, inner.what, 1, inner.args, 1)

    add(called(TYPED, Name("torch._utils", "_rebuild_parameter"), 1, (inner,), 1))
    with pytest.raises(UnreadableError, match="no plain size"):
        add(called(CAST, inner, Name("torch", "float64")))


def test_objects_share_no_more_attributes_than_the_file_accounts_for() -> None:
    shared = {f"a{number}": None for number in range(1_000)}
    made = [called("nets.Net", state=shared, how="new") for _ in range(1_005)]

    add(*made[:1_004])
    with pytest.raises(CheckpointError, match="share more attributes than the file accounts for"):
        add(*made)


@pytest.mark.parametrize("how", ["called", "new"])
@pytest.mark.parametrize(
    "name", ["builtins.bytearray", "torch.FloatTensor", "torch.UntypedStorage", "torch.Tensor"]
)
def test_memory_of_a_size_is_not_reserved(name: str, how: str) -> None:
    with pytest.raises(UnsafeError, match=r"would be called, which reserves memory"):
        add(called(name, 1 << 33, how=how))
