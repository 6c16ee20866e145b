"""Files of `torch.save` opened as data, with the places of their records."""

from pathlib import Path

import pytest
import torch

from modswap.io.pickled.data import CostlyError, Storage, UnreadableError
from modswap.io.pickled.opened import content, open_torch
from modswap.io.pickled.storages import Storages
from modswap.io.pickled.walk import everything
from modswap.io.recognise.look import look_at

WEIGHT = torch.arange(6.0)


@pytest.mark.parametrize("legacy", [True, False])
def test_records_hold_the_bytes_of_the_tensors(tmp_path: Path, *, legacy: bool) -> None:
    file = tmp_path / "net.pt"
    payload = {"w": WEIGHT, "half": WEIGHT.half()}
    torch.save(payload, file, _use_new_zipfile_serialization=not legacy)
    look = look_at(file)

    opened = open_torch(look)

    storages = Storages(look, opened.archive.records)
    found = [value for value in everything(opened.payload) if isinstance(value, Storage)]
    held = {storage.dtype: content(storages.find(storage)) for storage in found}
    assert held == {
        "Float": WEIGHT.numpy().tobytes(),
        "Half": WEIGHT.half().numpy().tobytes(),
    }


@pytest.mark.parametrize("protocol", [2, 3])
def test_protocol_of_the_pickle_is_known(protocol: int, tmp_path: Path) -> None:
    torch.save({"w": WEIGHT}, tmp_path / "net.pt", pickle_protocol=protocol)

    assert open_torch(look_at(tmp_path / "net.pt")).protocol == protocol


def test_payload_that_contains_itself_is_not_read_as_data(tmp_path: Path) -> None:
    ring: list[object] = [WEIGHT]
    ring.append(ring)
    torch.save({"ring": ring}, tmp_path / "net.pt")

    with pytest.raises(UnreadableError, match="a list of it contains itself"):
        open_torch(look_at(tmp_path / "net.pt"))


def test_old_files_of_other_machines_and_makers_are_not_read_as_data(tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    torch.save({"a.w": torch.ones(2)}, file, _use_new_zipfile_serialization=False)
    content = file.read_bytes()
    file.write_bytes(content.replace(b"little_endian\x94\x88", b"little_endian\x94\x89", 1))
    if file.read_bytes() == content:
        place = content.index(b"little_endian") + len(b"little_endian")
        place = content.index(b"\x88", place)
        file.write_bytes(content[:place] + b"\x89" + content[place + 1 :])

    with pytest.raises(UnreadableError, match="the order of another kind of machine"):
        open_torch(look_at(file))

    # a number, a list of a dictionary, a list of a number
    for keys in (b"K\x01", b"]}a", b"]K\x01a"):
        file.write_bytes(content[: content.rindex(b"\x80\x02")] + b"\x80\x02" + keys + b".")
        with pytest.raises(UnreadableError, match="it does not say which storages follow"):
            open_torch(look_at(file))


def test_zip_of_another_kind_of_machine_is_not_read_as_data(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "net.pt")
    content = (tmp_path / "net.pt").read_bytes()
    (tmp_path / "net.pt").write_bytes(content.replace(b"little", b"bigger"))

    with pytest.raises(UnreadableError, match="the order of another kind of machine"):
        open_torch(look_at(tmp_path / "net.pt"))


def test_pickle_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"w": WEIGHT}, tmp_path / "net.pt")
    monkeypatch.setattr("modswap.io.pickled.opened.MAX_PICKLE_BYTES", 10)

    with pytest.raises(CostlyError, match="it has over 10 bytes"):
        open_torch(look_at(tmp_path / "net.pt"))
