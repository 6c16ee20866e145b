"""Digests of a folder's shards in its receipt: written, compared, void after other programs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from modswap.core.asked.job import Policy
from modswap.core.errors import CheckpointError
from modswap.core.kept.receipt import read_receipt
from modswap.io.formats.container import Container, Slot
from modswap.io.formats.folder.checksums import STALE, folder_checksums
from modswap.io.formats.folder.load import rewrite
from modswap.io.formats.format import Swap, Swaps
from modswap.io.pickled.optimizers import Parameters
from modswap.io.raw.checksums import NOTHING, differences
from modswap.io.raw.folder_files import RECORDS
from modswap.io.recognise.look import look_at
from modswap.io.rewriting import Records, Removal
from tests.io.formats.safetensors.written import RECEIPT, flip
from tests.io.formats.safetensors.written import write as write_swapped

INDEX = "model.safetensors.index.json"
ONE, TWO = "model-1.safetensors", "model-2.safetensors"
WEIGHTS = {
    "stem.weight": torch.arange(50.0),
    "gate.weight": torch.ones(4),
    "head.bias": torch.ones(3),
}


def rewriting(folder: Path, policy: Policy | None = None) -> Any:
    """Prepare the folder without its gate."""
    slot = Slot((), "weights", None)
    swap = Swap(slot, (), Removal(("gate.",)))
    swaps = Swaps((swap,), Parameters((), (), ()))
    return rewrite(Container("folder", folder, None, (slot,)), swaps, policy or Policy())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "net"
    folder.mkdir()
    places = {"stem.weight": ONE, "gate.weight": TWO, "head.bias": TWO}
    for file in (ONE, TWO):
        save_file({n: t for n, t in WEIGHTS.items() if places[n] == file}, folder / file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def written(source: Path, name: str = "out") -> Path:
    out = source.parent / name
    out.mkdir()
    rewriting(source).write(out, Records("", RECEIPT), checksums=True)
    return out


def different(folder: Path) -> list[str]:
    found = differences(folder_checksums(look_at(folder)))
    return [f"{one.extent.kind} {one.extent.name}" for one in found]


def test_receipt_holds_the_digests_of_every_shard_and_of_the_index(source: Path) -> None:
    out = written(source)

    digests = read_receipt(json.loads((out / RECORDS).read_text())["receipt"], "").digests
    assert {name: len(text) for name, text in digests.items()} == {ONE: 16, TWO: 16, INDEX: 8}
    assert different(out) == []
    assert len(folder_checksums(look_at(out)).ranges) == 2


@pytest.mark.parametrize(("file", "name"), [(ONE, "stem.weight"), (TWO, "head.bias")])
def test_flipped_bit_is_found_and_refused(file: str, name: str, source: Path) -> None:
    out = written(source)
    flip(out / file, name, 5)

    assert different(out) == [f"tensor {name}"]
    again = source.parent / "again"
    again.mkdir()
    with pytest.raises(CheckpointError, match=f"its tensor '{name}' is damaged"):
        rewriting(out).write(again, Records("", RECEIPT), checksums=True)


def test_digests_are_taken_over_from_folder_to_folder(source: Path) -> None:
    again = written(written(source), "again")

    assert different(again) == []


def test_damaged_header_of_a_shard_is_refused(source: Path) -> None:
    out = written(source)
    file = out / ONE
    file.write_bytes(file.read_bytes().replace(b'"F32"', b'"I32"'))

    assert different(out) == [f"header {ONE}"]
    with pytest.raises(CheckpointError, match=r"its header 'model-1\.safetensors' is damaged"):
        rewriting(out)
    assert rewriting(out, Policy(checksum=False)) is not None


def test_folder_that_was_trained_and_saved_again_has_stale_digests(source: Path) -> None:
    out = written(source)
    save_file({"stem.weight": WEIGHTS["stem.weight"] + 1}, out / ONE)
    index = json.loads((out / INDEX).read_text())
    (out / INDEX).write_text(json.dumps(index, sort_keys=True))

    assert folder_checksums(look_at(out)).stale == STALE
    assert different(out) == ["tensor stem.weight"]
    assert different(written(out, "again")) == []


def test_folder_without_a_receipt_has_nothing_to_compare(source: Path) -> None:
    found = folder_checksums(look_at(source))

    assert not found
    assert (found.unknown, found.notes) == (3, (NOTHING,))


def test_one_file_that_was_swapped_by_itself_has_its_own_receipt(tmp_path: Path) -> None:
    write_swapped(tmp_path / "model.safetensors")

    assert len(folder_checksums(look_at(tmp_path)).ranges) == 4
    flip(tmp_path / "model.safetensors", "a.bias")
    assert different(tmp_path) == ["tensor a.bias"]


def test_one_file_of_a_folder_has_its_digests_in_the_folders_receipt(tmp_path: Path) -> None:
    source = tmp_path / "net"
    source.mkdir()
    save_file(WEIGHTS, source / "model.safetensors")

    out = written(source)

    assert different(out) == []
    assert load_file(out / "model.safetensors").keys() == {"stem.weight", "head.bias"}
    flip(out / "model.safetensors", "head.bias")
    assert different(out) == ["tensor head.bias"]


def test_zips_of_a_folder_have_their_own_checksums(tmp_path: Path) -> None:
    source = tmp_path / "net"
    source.mkdir()
    torch.save(WEIGHTS, source / "pytorch_model.bin")

    out = written(source)

    assert "digests" not in json.loads((out / RECORDS).read_text())["receipt"]
    assert different(out) == []
    data = (out / "pytorch_model.bin").read_bytes()
    place = data.index(torch.arange(50.0).numpy().tobytes()) + 9
    (out / "pytorch_model.bin").write_bytes(data[:place] + b"\7" + data[place + 1 :])
    assert [name.partition("/")[2] for name in different(out)] == ["data/0"]
