"""What `modswap.load` says of hostile files, in this process: the corpus without its commands."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import modswap
from modswap.cli.app import run
from modswap.core.asked.job import Policy
from modswap.core.errors import CheckpointError, ModswapError
from modswap.io.formats.outline import outline
from modswap.io.formats.reading import read, tensors
from tests.io.corpus import hostile, legacy, records, tensor_kinds
from tests.io.corpus.case import FACTORY, Case
from tests.models import GatedNet

_KINDS = (*hostile.MODULES, *hostile.TAKE, *hostile.SHAPES, *tensor_kinds.CASES)
CASES = [
    case for case in (*_KINDS, *legacy.CASES, *records.CASES) if case.codes.get("load", case.code)
]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_file_is_refused_with_the_code_of_its_kind(case: Case, tmp_path: Path) -> None:
    case.write(tmp_path)

    with pytest.raises(ModswapError) as raised:
        modswap.load(tmp_path / case.file, model=FACTORY)

    assert raised.value.code == case.codes.get("load", case.code)
    assert case.says in f"error: {raised.value.what} {raised.value.fix}"


def test_module_of_an_older_torch_lacks_tables_and_is_read(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    for name in (
        "_forward_hooks_with_kwargs",
        "_backward_pre_hooks",
        "_non_persistent_buffers_set",
    ):
        del vars(model)[name]
    torch.save(model, tmp_path / "net.pt")

    assert isinstance(modswap.load(tmp_path / "net.pt"), nn.Linear)


def test_module_under_two_names_is_looked_through_once(tmp_path: Path) -> None:
    shared = nn.Linear(2, 2)
    torch.save({"model": nn.Sequential(shared, shared), "more": [shared]}, tmp_path / "net.pt")

    model = modswap.load(tmp_path / "net.pt")

    assert model.get_submodule("0") is model.get_submodule("1")


def test_key_that_is_no_plain_value_gets_a_name(tmp_path: Path) -> None:
    payload = {"model": {"a": torch.ones(1)}, "by shape": {(2, 3): torch.ones(2)}}
    torch.save(payload, tmp_path / "net.pt")

    found = read(tmp_path / "net.pt", Policy())

    assert set(tensors(found)) == {"model.a", "by shape.<key>"}


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
def test_names_that_imply_gigabytes_of_paths_are_refused(name: str, tmp_path: Path) -> None:
    deep = ".".join("a" * 15 for _ in range(250))
    weights = {f"{number}.{deep}": torch.zeros(1) for number in range(300)}  # a file of 1 MB
    file = tmp_path / name
    if file.suffix == ".pt":
        torch.save(weights, file)
    else:
        save_file(weights, file)

    for command in (modswap.load, outline):
        with pytest.raises(CheckpointError, match="the paths that its names imply have over"):
            command(file)


def test_lazy_layer_of_ones_own_file_is_loaded_before_it_ran(tmp_path: Path) -> None:
    torch.save(nn.LazyLinear(3), tmp_path / "net.pt")

    assert isinstance(modswap.load(tmp_path / "net.pt", trust=True), nn.LazyLinear)


def test_other_layer_of_ones_own_file_needs_its_shapes(tmp_path: Path) -> None:
    layer = nn.BatchNorm2d(3)
    vars(layer)["_buffers"]["running_mean"] = nn.UninitializedBuffer()
    torch.save(nn.Sequential(layer), tmp_path / "net.pt")

    with pytest.raises(CheckpointError, match="its BatchNorm2d never got a shape"):
        modswap.load(tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match="its tensor 'running_mean' never got a shape"):
        modswap.load(tmp_path / "net.pt", trust=True)


@pytest.mark.parametrize("count", [64, 66])
def test_keys_of_one_hash_are_no_table(tmp_path: Path, count: int) -> None:
    file = tmp_path / "net.pt"
    table = {(number * (2**61 - 1) << 9, 1): number for number in range(1, count + 1)}
    torch.save({"state_dict": GatedNet().state_dict(), "table": table}, file)

    if count == 64:
        assert isinstance(modswap.load(file, "tests.models:build_gated"), GatedNet)
    else:
        with pytest.raises(CheckpointError, match="over 64 keys of it have one hash"):
            modswap.load(file, "tests.models:build_gated")


def test_table_of_pairs_is_kept_as_it_is(tmp_path: Path) -> None:
    file, out = tmp_path / "net.pt", tmp_path / "out.pt"
    table = {(row, column): row * column for row in range(-51, 52) for column in range(-51, 52)}
    torch.save({"state_dict": GatedNet().state_dict(), "table": table}, file)
    (tmp_path / "swap.yaml").write_text(
        "version: 1\nmodel: {factory: 'tests.models:build_gated'}\n"
        "replace: [{match: head, with: 'torch.nn:Identity'}]\n"
    )

    ran = run(["replace", str(file), "-c", f"{tmp_path}/swap.yaml", "-o", str(out), "--no-forward"])

    assert ran == 0
    assert torch.load(out)["table"] == table  # noqa: TID251 - what other programs read
