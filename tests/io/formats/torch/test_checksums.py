"""Checksums of torch zips, with the names of the tensors in a damaged record."""

import zipfile
from pathlib import Path

import pytest
import torch

from modswap.core.errors import CheckpointError
from modswap.io.formats.torch.checksums import torch_checksums
from modswap.io.raw.checksums import differences, zip_checksums
from modswap.io.recognise.look import look_at


def test_record_names_its_tensors(tmp_path: Path) -> None:
    shared = torch.arange(9.0)
    payload = {"a": {"b": shared, "c": shared[:2]}, "d": torch.ones(2)}
    torch.save({**payload, "e": torch.eye(2).to_sparse()}, tmp_path / "net.pt")

    known = torch_checksums(look_at(tmp_path / "net.pt"))

    assert differences(known) == []
    names = known.names()
    assert (names["net/data/0"], names["net/data/1"]) == ("a.b, a.c", "d")


def test_unreadable_pickle_names_no_tensors(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "net.pt")
    data = (tmp_path / "net.pt").read_bytes()
    (tmp_path / "net.pt").write_bytes(data.replace(b"ctorch._utils", b"\0torch._utils"))

    known = torch_checksums(look_at(tmp_path / "net.pt"))

    assert [one.extent.name for one in differences(known)] == ["net/data.pkl"]
    assert known.names() == {}


def test_compressed_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/models/model.json", "{}" * 99)

    with pytest.raises(CheckpointError, match=r"'net/models/model\.json' is compressed inside it"):
        zip_checksums(look_at(tmp_path / "net.pt2"))


def test_entries_that_share_bytes_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        archive.writestr("net/models/model.json", b"x" * 500)
        archive.writestr("net/models/other.json", b"x" * 500)
    data = (tmp_path / "net.pt2").read_bytes()
    directory = data.index(b"PK\1\2")
    second = data.index(b"PK\1\2", directory + 4)
    # the second entry of the directory begins where the first does
    changed = data[: second + 42] + bytes(4) + data[second + 46 :]
    (tmp_path / "net.pt2").write_bytes(changed)

    with pytest.raises(CheckpointError, match=r"its entry '.*' overlaps another"):
        differences(zip_checksums(look_at(tmp_path / "net.pt2")))
