"""Two checkpoints compared as data: their values, structure and other entries.

Covers: structure, values, call.
"""

import argparse
import math
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.core.errors import CheckpointError, ModswapError, UsageError
from modswap.core.kept.difference import DiffResult, Facts, Part, Spread
from modswap.io.formats.contents import Contents, HeldTensor, Tile
from modswap.io.raw.byte_range import in_memory
from modswap.ops.compare.files import ONE_FILE, Compared, compare, counter, diff_files

Weights = Mapping[str, Any]


@pytest.fixture
def diff(tmp_path: Path) -> Callable[..., DiffResult]:
    def of(a: Any, b: Any, part: Part = "all") -> DiffResult:
        torch.save(a, tmp_path / "a.pt")
        torch.save(b, tmp_path / "b.pt")
        return diff_files(tmp_path / "a.pt", tmp_path / "b.pt", part)

    return of


def spread_of(found: DiffResult, name: str = "w") -> Spread:
    (pair,) = (pair for pair in found.pairs if pair.a == name)
    assert pair.spread is not None
    return pair.spread


def test_equal_files_are_equal_and_torch_is_not_asked(
    diff: Callable[..., DiffResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {"w": torch.randn(300, 1000), "n": torch.tensor(math.nan)}
    monkeypatch.setattr("modswap.ops.compare.values.spreads", None)

    found = diff(weights, {name: value.clone() for name, value in weights.items()})

    assert found.equal
    assert found.exit_code == 0
    assert [pair.equal for pair in found.pairs] == [True, True]


@pytest.mark.parametrize(
    ("a", "b", "most"),
    [
        ([2**62, 5], [2**62 + 1, 5], 1.0),  # a float64 holds neither
        ([-(2**63), 0], [2**63 - 1, 0], 2.0**64),
        ([2**53 + 1, -7], [2**53 - 2, -9], 3.0),
    ],
)
def test_large_whole_numbers_are_as_far_apart_as_they_are(
    diff: Callable[..., DiffResult], a: list[int], b: list[int], most: float
) -> None:
    found = spread_of(diff({"w": torch.tensor(a)}, {"w": torch.tensor(b)}))

    assert found.max_abs == most
    assert found.relative


def test_distances_are_those_of_a_plain_computation(diff: Callable[..., DiffResult]) -> None:
    a = torch.randn(70_000, 2)
    b = a.clone()
    b[5000:] += 0.1 * torch.randn(65_000, 2)

    found = spread_of(diff({"w": a}, {"w": b}))

    x, y = a.double().flatten(), b.double().flatten()
    assert found.elements == 140_000
    assert found.changed == int((a != b).sum())
    assert found.max_abs == float((x - y).abs().max())
    assert found.relative == pytest.approx(float((x - y).norm() / x.norm()))
    assert found.cosine == pytest.approx(float(torch.cosine_similarity(x, y, dim=0)))


@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.float8_e4m3fn,
     torch.complex64, torch.complex128],
)  # fmt: skip
def test_values_of_each_dtype_are_compared(
    dtype: torch.dtype, diff: Callable[..., DiffResult]
) -> None:
    a = torch.tensor([1.0, 0.0, 1.0, 1.0]).to(dtype)
    b = torch.tensor([1.0, 1.0, 1.0, 1.0]).to(dtype)

    found = spread_of(diff({"w": a}, {"w": b}))

    assert (found.changed, found.max_abs, found.share) == (1, 1.0, 0.25)


def test_complex_numbers_are_as_far_apart_as_in_the_plane(diff: Callable[..., DiffResult]) -> None:
    found = spread_of(diff({"w": torch.tensor([1 + 1j])}, {"w": torch.tensor([4 + 5j])}))

    assert (found.elements, found.changed, found.max_abs) == (1, 1, 5.0)


def test_nan_equals_nan_and_is_counted_on_each_side(diff: Callable[..., DiffResult]) -> None:
    nan, inf = math.nan, math.inf
    a = torch.tensor([nan, nan, 1.0, inf, inf, 2.0])
    b = torch.tensor([nan, 1.0, 1.0, inf, -inf, 3.0])

    found = spread_of(diff({"w": a}, {"w": b}))

    assert found.changed == 3
    assert (found.nan, found.infinite) == ((2, 1), (2, 2))
    assert found.max_abs == inf
    assert found.relative == pytest.approx(1 / math.sqrt(5))


def test_values_whose_squares_overflow_have_no_relative_distance(
    diff: Callable[..., DiffResult],
) -> None:
    huge = torch.tensor([1e200, 1.0], dtype=torch.float64)

    found = spread_of(diff({"w": huge}, {"w": -huge}))

    assert (found.max_abs, found.relative, found.cosine) == (2e200, None, None)


def test_zero_has_no_relative_distance_and_minus_zero_differs_in_its_bits(
    diff: Callable[..., DiffResult],
) -> None:
    found = spread_of(diff({"w": torch.zeros(2)}, {"w": -torch.zeros(2)}))

    assert (found.changed, found.max_abs, found.relative, found.cosine) == (2, 0.0, None, None)


def test_dtypes_that_differ_are_compared_in_float64(diff: Callable[..., DiffResult]) -> None:
    a = {"w": torch.tensor([0.5, math.nan]), "v": torch.tensor([0.1]), "c": torch.ones(1)}
    b = {"w": a["w"].half(), "v": a["v"].double() + 1, "c": torch.ones(1, dtype=torch.complex64)}

    found = diff(a, b)

    assert {pair.a: pair.equal for pair in found.pairs} == {"w": True, "v": False, "c": True}
    assert not found.equal  # the dtype is another one
    assert len(found.changed) == 3
    assert spread_of(found, "v").in_float64
    assert any("float64" in note for note in found.notes)
    assert diff({"w": a["w"]}, {"w": b["w"]}, "values").equal


def test_elements_in_another_order_in_the_file_are_compared_by_their_place(
    diff: Callable[..., DiffResult],
) -> None:
    weight = torch.randn(4, 3, 5, 5)
    turned = weight.to(memory_format=torch.channels_last)

    assert diff({"w": weight}, {"w": turned}).equal
    assert diff({"w": turned}, {"w": turned.clone(memory_format=torch.preserve_format)}).equal
    assert diff({"w": torch.ones(1).expand(4)}, {"w": torch.ones(4)}).equal
    assert spread_of(diff({"w": weight}, {"w": turned + 1})).changed == 300


def test_tensor_of_tiles_is_put_together() -> None:
    whole = torch.arange(6.0).view(2, 3)
    facts = Facts("float32", (2, 3))
    parts = [
        Tile((0, 0), (2, 1), in_memory(whole[:, :1].contiguous().numpy().tobytes())),
        Tile((0, 1), (2, 2), in_memory(whole[:, 1:].contiguous().numpy().tobytes())),
    ]
    tiled = HeldTensor(facts, (), None, tuple(parts))
    plain = HeldTensor(facts, (in_memory(whole.numpy().tobytes()),))
    one, other = (Compared("x", Contents("x", {"w": held})) for held in (tiled, plain))

    assert compare(one, other).equal


def test_bytes_without_a_known_dtype_are_compared_as_bytes() -> None:
    def side(data: bytes) -> Compared:
        held = HeldTensor(Facts("F4", (4,)), (in_memory(data),))
        return Compared("x", Contents("x", {"w": held}))

    assert compare(side(b"ab"), side(b"ab")).equal
    found = compare(side(b"ab"), side(b"ac"))
    assert (found.pairs[0].equal, found.pairs[0].spread) == (False, None)


def test_file_against_itself_is_said_to_be_one(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "v": torch.ones(2)}, tmp_path / "a.pt")
    (tmp_path / "link.pt").symlink_to("a.pt")

    found = diff_files(tmp_path / "a.pt", tmp_path / "link.pt")

    assert (found.headline, found.equal, len(found.pairs)) == (ONE_FILE, True, 2)


def test_files_of_different_models_are_said_to_be_such(diff: Callable[..., DiffResult]) -> None:
    found = diff({"a.w": torch.randn(3)}, {"b.v": torch.randn(4)})

    assert found.headline == (
        "these are files of different models: none of the 1 tensors of A's model have a "
        "counterpart in B, by name, contents or shapes"
    )
    assert found.exit_code == 1


def test_shapes_that_differ_have_no_distance(diff: Callable[..., DiffResult]) -> None:
    found = diff({"w": torch.ones(2)}, {"w": torch.ones(3)})

    assert (found.pairs[0].equal, found.pairs[0].spread, len(found.changed)) == (False, None, 1)


def test_whole_module_equals_its_state_dict(diff: Callable[..., DiffResult]) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    net.register_buffer("grid", torch.ones(2), persistent=False)

    found = diff(net, net.state_dict())

    assert found.equal
    assert [note.partition(":")[0] for note in found.notes] == [
        "left out, for files of weights leave them out",
        "B holds weights without code",
        "not compared, for one side alone has such",
    ]


def test_versions_of_layers_are_compared_where_both_have_them(
    diff: Callable[..., DiffResult],
) -> None:
    weights = nn.Sequential(nn.BatchNorm1d(2)).state_dict()
    older = weights.copy()
    older._metadata = {"0": {"version": 1}}  # type: ignore[attr-defined] # as users set it

    assert diff(weights, weights).equal
    found = diff(weights, older)
    # the one that a side alone has follows from its modules
    assert [(one.name, one.old, one.new) for one in found.entries] == [("0.<version>", "2", "1")]
    assert diff(older, weights).counts["entries"] == 1


def test_class_and_settings_of_modules_are_compared(diff: Callable[..., DiffResult]) -> None:
    old = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Sequential(nn.Sequential(nn.Tanh()))
    )
    new = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, eps=1e-3), nn.GELU(), nn.Linear(3, 3))
    new[:2].load_state_dict(old[:2].state_dict())

    found = diff(old, new)

    classes = [(one.a, one.old.split(".")[-1], one.new.split(".")[-1]) for one in found.classes]
    assert classes == [("2", "ReLU", "GELU"), ("3", "Sequential", "Linear")]
    assert [one.name for one in found.gone] == ["3.0"]
    changed = {one.name: (one.old, one.new) for one in found.entries if one.name[0] in "12"}
    assert changed == {"1.eps": ("1e-05", "0.001"), "2.inplace": ("False", None),
                       "2.approximate": (None, "'none'")}  # fmt: skip


def test_buffer_that_is_no_longer_saved_is_a_difference(diff: Callable[..., DiffResult]) -> None:
    kept, transient = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    transient._non_persistent_buffers_set.add("running_mean")
    expected = [("running_mean.persistent", None, "False")]

    for found in (diff(kept, transient), modswap.diff(kept, transient)):
        assert [(one.name, one.old, one.new) for one in found.entries] == expected


def test_module_that_moved_keeps_its_class_and_settings(diff: Callable[..., DiffResult]) -> None:
    inside = nn.Sequential(nn.Linear(3, 4), nn.ReLU())

    found = diff(nn.ModuleDict({"a": inside}), nn.ModuleDict({"b": inside}))

    assert [(one.a, one.b) for one in found.classes] == [("a", "b")]
    assert (found.gone, found.come, found.entries) == ((), (), ())
    assert [(pair.a, pair.b) for pair in found.moved] == [
        ("a.0.weight", "b.0.weight"), ("a.0.bias", "b.0.bias"),
    ]  # fmt: skip


def test_only_structure_reads_no_values(
    diff: Callable[..., DiffResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modswap.ops.compare.files.are_equal", None)

    found = diff(
        {"w": torch.ones(2), "v": torch.ones(1)},
        {"w": torch.zeros(2), "u": torch.ones(2, 2)},
        "structure",
    )

    assert found.pairs[0].equal is None
    assert (found.counts["changed"], found.counts["added"], found.counts["removed"]) == (0, 1, 1)


def test_only_values_leaves_out_what_one_side_lacks(diff: Callable[..., DiffResult]) -> None:
    found = diff(
        {"w": torch.ones(2), "v": torch.ones(1)}, {"w": torch.ones(2), "epoch": 1}, "values"
    )

    assert found.equal
    assert found.notes[-1] == (
        "1 tensors of A and 0 of B have no counterpart, and no values to compare with"
    )


def test_one_tensor_under_two_names_differs_from_two(diff: Callable[..., DiffResult]) -> None:
    tied = torch.ones(2)

    found = diff({"a": tied, "b": tied}, {"a": tied, "b": tied.clone()})
    assert diff({"a": tied, "b": tied}, {"a": tied, "b": tied}).equal
    back = diff({"a": tied, "b": tied.clone()}, {"a": tied, "b": tied})

    assert [(one.name, one.old, one.new) for one in found.entries] == [
        ("b = a", "one tensor", "two tensors")
    ]
    assert (back.entries[0].old, back.entries[0].new) == ("two tensors", "one tensor")


def test_further_name_of_a_tensor_is_said_to_be_one(diff: Callable[..., DiffResult]) -> None:
    weight = torch.ones(2)

    found = diff({"a": weight, "c": torch.zeros(1)}, {"a": weight, "b": weight})

    assert [(one.name, one.same) for one in (*found.added, *found.removed)] == [
        ("b", "a"), ("c", ""),
    ]  # fmt: skip


def test_optimizers_are_compared_by_the_names_of_parameters(
    diff: Callable[..., DiffResult],
) -> None:
    def checkpoint(*names: str) -> dict[str, Any]:
        weights = {name: torch.ones(2) for name in names}
        state = {
            number: {"exp_avg": torch.full((2,), float(ord(n)))} for number, n in enumerate(names)
        }
        groups = [{"lr": 0.1, "params": list(range(len(names)))}]
        return {"model": weights, "optimizer": {"state": state, "param_groups": groups}, "epoch": 1}

    found = diff(checkpoint("a", "b"), checkpoint("b", "a"))

    assert found.counts["changed"] == 0
    assert [(one.name, one.old) for one in found.entries] == [
        ("optimizer:param_groups.0.params", "a, b")
    ]
    changed = diff(checkpoint("a"), {**checkpoint("a"), "epoch": 2})
    assert [(one.name, one.old, one.new) for one in changed.entries] == [("epoch", "1", "2")]


def test_place_of_the_model_is_said_where_it_differs(diff: Callable[..., DiffResult]) -> None:
    weights = {"w": torch.ones(2)}

    assert diff({"model": weights}, {"state_dict": weights}).notes == (
        "in A the model is under 'model'",
        "in B the model is under 'state_dict'",
    )
    assert diff({"model": weights}, {"model": weights}).notes == ()


def test_missing_file_is_named(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "a.pt")

    for a, b in (("a.pt", "b.pt"), ("b.pt", "a.pt")):
        with pytest.raises(CheckpointError, match=r"b\.pt: no such file"):
            diff_files(tmp_path / a, tmp_path / b)


def test_error_of_the_system_is_an_error_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "a.pt")

    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "a.pt"))

    monkeypatch.setattr("modswap.ops.compare.files.contents", fail)
    with pytest.raises(CheckpointError, match=r"a\.pt: it cannot be read: Permission denied"):
        diff_files(tmp_path / "a.pt", tmp_path / "a.pt")


def test_progress_has_a_line_for_each_gibibyte() -> None:
    lines: list[str] = []
    advance = counter(lines.append)

    advance(1 << 29)
    advance(1 << 29)

    assert lines == ["compared 1.0 GiB"]


def test_models_and_files_are_compared_from_python(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    net[0].bias.requires_grad_(False)
    torch.save(net, tmp_path / "net.pt")
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))

    assert modswap.diff(net, net).equal
    assert modswap.diff(str(tmp_path / "net.pt"), tmp_path / "net.pt").equal
    assert modswap.diff(net, tmp_path / "net.pt").equal
    assert modswap.diff(net.state_dict(), net, only="values").equal
    found = modswap.diff(net, other)
    assert {pair.a for pair in found.changed} == {"0.weight", "0.bias"}
    assert [one.name for one in found.entries] == ["0.bias.requires_grad"]
    assert modswap.diff({"w": torch.empty(0), "n": 1}, {"w": torch.empty(0), "n": 2}).counts[
        "entries"
    ]


def test_models_without_values_are_compared_in_structure_alone() -> None:
    with torch.device("meta"):
        a, b = nn.Linear(2, 2), nn.Linear(2, 3)

    assert modswap.diff(a, a, only="structure").equal
    assert len(modswap.diff(a, b, only="structure").changed) == 2
    with pytest.raises(UsageError, match="'weight' has no values in memory"):
        modswap.diff(a, b)


def test_wrong_calls_from_python_say_what_is_expected() -> None:
    with pytest.raises(ModswapError, match="no part 'weights'; use 'structure' or 'values'"):
        modswap.diff({}, {}, only="weights")
    with pytest.raises(UsageError, match="it is a int, expected a file, a model or a state dict"):
        modswap.diff(3, {})  # type: ignore[arg-type] # the error is for those without types


def payload() -> dict[str, Any]:
    """Return a training checkpoint with values of many kinds."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    vars(net)["held"] = [torch.ones(3), {"deep": [torch.zeros(2), {1, 2}]}, torch.float32]
    net.sparse = torch.eye(3).to_sparse()
    return {
        "model": net, "epoch": 1, "nan": math.nan, "rng": torch.get_rng_state(),
        "args": argparse.Namespace(lr=0.1, steps=[1, 2]), "long": list(range(1000)),
        "ordered": OrderedDict(a=1), "defaults": defaultdict(list, {"k": [1]}), "raw": b"abc",
        "when": datetime(2020, 1, 1, tzinfo=UTC), "nested": (1, (2, {"x": None})), "big": 10**50,
    }  # fmt: skip


OTHER_VALUES: dict[str, Any] = {
    "epoch": 2, "nan": 0.0, "rng": torch.zeros(3, dtype=torch.uint8), "raw": b"abd",
    "args": argparse.Namespace(lr=0.1, steps=[1, 3]), "long": [*range(999), 5], "new": None,
    "ordered": OrderedDict(a=2), "defaults": defaultdict(list, {"k": [2]}), "big": 10**50 + 1,
    "when": datetime(2020, 1, 2, tzinfo=UTC), "nested": (1, (2, {"x": 0})),
}  # fmt: skip
OTHER_MODELS: dict[str, Callable[[Any], object]] = {
    "tensor in an attribute": lambda net: net.held[0].add_(1),
    "tensor in a list in an attribute": lambda net: net.held[1]["deep"][0].add_(1),
    "set in an attribute": lambda net: net.held[1]["deep"][1].add(3),
    "dtype in an attribute": lambda net: net.held.__setitem__(2, torch.float16),
    "sparse tensor": lambda net: net.sparse.mul_(2),
    "attribute of a layer": lambda net: setattr(net[0], "stride", (2, 2)),
    "frozen parameter": lambda net: net[0].weight.requires_grad_(False),
    "mode": lambda net: net[2].eval(),
    "class": lambda net: net.__setitem__(2, nn.GELU()),
    "parameter that is None": lambda net: net[0].register_parameter("bias", None),
    "buffer": lambda net: net[1].num_batches_tracked.add_(1),
    "hook": lambda net: net._forward_hooks.__setitem__(1, torch.relu),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("payload") / "a.pt"
    torch.save(payload(), file)
    return file


@pytest.mark.parametrize("what", [None, *OTHER_VALUES, *OTHER_MODELS])
def test_any_value_that_differs_is_found(what: str | None, original: Path, tmp_path: Path) -> None:
    changed = payload()
    if what in OTHER_VALUES:
        changed[what] = OTHER_VALUES[what]
    elif what is not None:
        OTHER_MODELS[what](changed["model"])
    torch.save(changed, tmp_path / "b.pt")

    assert diff_files(original, tmp_path / "b.pt").equal is (what is None)
