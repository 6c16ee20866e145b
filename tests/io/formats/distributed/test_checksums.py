"""Checksums of a distributed checkpoint: those of the zips in its files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint

from modswap.io.formats.distributed import checksums
from modswap.io.formats.distributed.checksums import distributed_checksums
from modswap.io.formats.distributed.metadata import read_distributed
from modswap.io.raw.checksums import differences
from modswap.io.recognise.look import look_at

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
dcp: Any = torch.distributed.checkpoint


def test_flipped_bit_is_found_in_its_part(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    dcp.save(
        {"a": torch.arange(99.0), "b": torch.zeros(0, 3), "step": 7},
        checkpoint_id=folder,
        no_dist=True,
    )
    known = distributed_checksums(look_at(folder))
    assert known.unknown == 0
    assert differences(known) == []

    (file,) = folder.glob("*.distcp")
    data = bytearray(file.read_bytes())
    data[data.index(torch.arange(99.0).numpy().tobytes()) + 40] ^= 1
    file.write_bytes(data)

    found = differences(distributed_checksums(look_at(folder)))
    assert [(one.extent.kind, one.extent.name) for one in found] == [("part", "a: data/0")]


def test_part_that_is_no_zip_has_no_checksum(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    dcp.save({"a": torch.arange(99.0), "b": torch.ones(3)}, checkpoint_id=folder, no_dist=True)
    (file,) = folder.glob("*.distcp")
    data = file.read_bytes()
    file.write_bytes(data.replace(b"PK\5\6", b"PK\5\7", 1))

    known = distributed_checksums(look_at(folder))

    assert known.unknown == 1
    assert len(known.ranges) > 0


def test_part_that_shares_bytes_with_another_has_no_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "net"
    dcp.save({"a": torch.arange(99.0), "b": torch.ones(3)}, checkpoint_id=folder, no_dist=True)
    source = read_distributed(folder)
    first, second = source.items.values()
    (chunk,) = second.chunks
    near = replace(chunk, start=first.chunks[0].start + 1)
    items = {first.name: first, second.name: replace(second, chunks=(near,))}
    monkeypatch.setattr(checksums, "read_distributed", lambda _: replace(source, items=items))

    known = distributed_checksums(look_at(folder))

    assert known.unknown == 1
    assert {held.name.partition(":")[0] for held in known.ranges} == {first.name}
