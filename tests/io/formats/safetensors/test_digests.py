"""Digests in the receipt of a safetensors file: written, compared, void after other programs."""

import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from modswap.core.errors import CheckpointError
from modswap.io.formats.safetensors.digests import STALE, file_checksums
from modswap.io.formats.safetensors.rewrite import NamedRewriting
from modswap.io.formats.safetensors.save import rewrite_known
from modswap.io.raw.checksums import NOTHING, differences
from modswap.io.recognise.look import look_at
from modswap.io.rewriting import Records, Removal
from tests.io.formats.safetensors.written import (
    RECEIPT,
    WEIGHTS,
    flip,
    header,
    put_header,
    put_receipt,
    write,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write(tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def different(file: Path) -> list[str]:
    return [f"{one.extent.kind} {one.extent.name}" for one in differences(known(file))]


def known(file: Path) -> Any:
    return file_checksums(look_at(file))


def test_receipt_holds_eight_digits_for_the_header_and_for_each_tensor(file: Path) -> None:
    receipt = json.loads(header(file)["__metadata__"]["modswap.receipt"])

    digits = receipt["digests"][""]
    sums = [digits[place : place + 8] for place in range(8, len(digits), 8)]
    assert sums == [f"{zlib.crc32(WEIGHTS[n].numpy().tobytes()):08x}" for n in sorted(WEIGHTS)]
    assert {name: value for name, value in receipt.items() if name != "digests"} == json.loads(
        RECEIPT
    )
    with safe_open(file, "pt") as opened:
        assert torch.equal(opened.get_tensor("b.weight"), WEIGHTS["b.weight"])


def test_sound_file_differs_nowhere(file: Path) -> None:
    assert different(file) == []
    assert len(known(file).ranges) == 4
    assert known(file).stale == ""


@pytest.mark.parametrize(("name", "byte"), [("b.weight", 0), ("b.weight", 1199), ("d.count", 7)])
def test_flipped_bit_is_found_in_its_tensor(name: str, byte: int, file: Path) -> None:
    flip(file, name, byte)

    assert different(file) == [f"tensor {name}"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"a.bias", b"a.bjas"),
        (b'"shape":[300]', b'"shape":[301]'),
        (b'"F16"', b'"I16"'),
        (b"version: 1", b"version: 3"),
        (b'torch\\": \\"2.0', b'torch\\": \\"2.1'),
    ],
)
def test_flipped_bit_in_the_header_is_found(old: bytes, new: bytes, file: Path) -> None:
    data = file.read_bytes()
    assert data.count(old) == 1
    file.write_bytes(data.replace(old, new))

    assert different(file) == ["header net.safetensors"]


def test_rewritten_file_has_digests_of_its_own(file: Path, tmp_path: Path) -> None:
    rewriting = NamedRewriting(look_at(file), Removal(("b.",)), {}, {}, known(file))

    rewriting.write(tmp_path / "out", Records("", RECEIPT), checksums=True)

    assert different(tmp_path / "out") == []
    assert [held.name for held in known(tmp_path / "out").ranges] == sorted(set(WEIGHTS) - {
        "b.weight"
    })  # fmt: skip


def test_damaged_tensor_is_not_copied(file: Path, tmp_path: Path) -> None:
    flip(file, "b.weight", 50)
    rewriting = NamedRewriting(look_at(file), Removal(("a.",)), {}, {}, known(file))

    with pytest.raises(CheckpointError, match=r"its tensor 'b\.weight' is damaged: its checksum"):
        rewriting.write(tmp_path / "out", Records("", RECEIPT), checksums=True)


def test_damage_that_is_copied_on_purpose_is_still_found_afterwards(
    file: Path, tmp_path: Path
) -> None:
    flip(file, "b.weight", 50)
    rewriting = NamedRewriting(look_at(file), Removal(("a.",)), {}, {}, known(file))

    rewriting.write(tmp_path / "out", Records("", RECEIPT), checksums=False)

    assert different(tmp_path / "out") == ["tensor b.weight"]


def test_damaged_header_is_refused_before_anything_is_written(file: Path) -> None:
    from modswap.core.asked.job import Policy

    file.write_bytes(file.read_bytes().replace(b"a.bias", b"a.bjas"))

    with pytest.raises(CheckpointError, match=r"its header 'net\.safetensors' is damaged"):
        rewrite_known(None, None, Policy(), look_at(file), known(file))  # type: ignore[arg-type] # it is refused first


def test_file_without_a_receipt_has_nothing_to_compare(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "net.safetensors")

    found = known(tmp_path / "net.safetensors")

    assert not found
    assert (found.unknown, found.notes) == (4, (NOTHING,))


def test_file_with_a_receipt_of_an_earlier_version_has_nothing_to_compare(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "net.safetensors", {"modswap.receipt": RECEIPT})

    assert known(tmp_path / "net.safetensors").notes == (NOTHING,)


def test_tensors_trained_by_another_program_have_stale_digests(file: Path, tmp_path: Path) -> None:
    with safe_open(file, "pt") as opened:
        weights = {name: opened.get_tensor(name) for name in WEIGHTS}
        metadata = opened.metadata()
    save_file({**weights, "b.weight": weights["b.weight"] + 1}, file, metadata)

    found = known(file)

    assert found.stale == STALE
    assert different(file) == ["tensor b.weight"]
    rewriting = NamedRewriting(look_at(file), Removal(("a.",)), {}, {}, found)
    rewriting.write(tmp_path / "out", Records("", RECEIPT), checksums=True)
    assert different(tmp_path / "out") == []


def test_same_tensors_written_by_another_program_are_equal(file: Path) -> None:
    with safe_open(file, "pt") as opened:
        weights = {name: opened.get_tensor(name) for name in reversed(WEIGHTS)}
        metadata = opened.metadata()
    save_file(weights, file, metadata)

    assert different(file) == []


def test_tensors_that_come_and_go_are_found(file: Path) -> None:
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    save_file({"b.weight": WEIGHTS["b.weight"]}, file, metadata)

    assert different(file) == ["header net.safetensors"]
    assert known(file).unknown == 1


@pytest.mark.parametrize(
    "text", ["", "0", "g" * 40, "0" * 39, "É" * 40, "0" * 32 + "\n" + "0" * 7, "0X" * 20]
)
def test_digests_that_are_none_are_refused(text: str, file: Path) -> None:
    put_receipt(file, lambda receipt: receipt.update(digests={"": text}))

    with pytest.raises(CheckpointError, match="the receipt inside is damaged at 'digests': "):
        known(file)


@pytest.mark.parametrize("value", [[], 3, "0" * 40, {"": 3}, {"": ["0" * 40]}, None])
def test_digests_of_a_wrong_type_are_refused(value: Any, file: Path) -> None:
    put_receipt(file, lambda receipt: receipt.update(digests=value))

    with pytest.raises(CheckpointError, match=re.escape("the receipt inside is damaged at 'diges")):
        known(file)


def test_digests_of_other_files_are_passed_over(file: Path) -> None:
    put_receipt(file, lambda receipt: receipt["digests"].update({"../x": "1", "y" * 9999: "2"}))

    assert different(file) == []


def test_more_digests_than_tensors_are_a_difference(file: Path) -> None:
    put_receipt(file, lambda receipt: receipt.update(digests={"": "0" * 8 * 200_000}))

    assert different(file) == ["header net.safetensors"]


def test_receipt_with_a_number_of_thousands_of_digits_is_refused(file: Path) -> None:
    entries = header(file)
    receipt = entries["__metadata__"]["modswap.receipt"]
    entries["__metadata__"]["modswap.receipt"] = receipt.replace(
        "{", '{"x": 1' + "0" * 5000 + ",", 1
    )
    put_header(file, json.dumps(entries).encode())

    with pytest.raises(CheckpointError):
        known(file)


def test_name_with_half_a_character_is_refused_under_the_files_name(file: Path) -> None:
    entries = header(file)
    entries["\ud800"] = entries.pop("a.bias")
    put_header(file, json.dumps(entries).encode())

    with pytest.raises(CheckpointError, match=r"net\.safetensors: safetensors cannot hold a name"):
        known(file)
