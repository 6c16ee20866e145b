"""Names of tensors that are too long, or too many, in the header of a safetensors file."""

import json
import struct
from pathlib import Path

import pytest

from modswap.core.errors import CheckpointError
from modswap.io.formats.outline import outline
from tests.io.pickled.test_outline import tensor, with_pickle

EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


def with_header(folder: Path, header: str) -> Path:
    data = header.encode()
    (folder / "net.safetensors").write_bytes(struct.pack("<Q", len(data)) + data)
    return folder / "net.safetensors"


@pytest.mark.parametrize(
    ("name", "flaw"),
    [
        ("a." * 40_000 + "w", "a name in it has 80,001 characters, over 4,096"),
        ("a." * 300 + "w", "a name in it has 300 dots, over 256"),
    ],
    ids=["long", "dots"],
)
def test_name_that_implies_too_many_modules_is_refused(
    name: str, flaw: str, tmp_path: Path
) -> None:
    pushed = b"X" + struct.pack("<I", len(name)) + name.encode()
    pickled = with_pickle(tmp_path, b"}" + pushed + tensor(b"(K\x02t") + b"s.")

    for file in (with_header(tmp_path, json.dumps({name: EMPTY})), pickled):
        with pytest.raises(CheckpointError, match=flaw):
            outline(file)


def test_message_about_a_repeated_name_is_short(tmp_path: Path) -> None:
    entry = f'"{"n" * 1_000_000}": {json.dumps(EMPTY)}'

    with pytest.raises(CheckpointError) as refusal:
        outline(with_header(tmp_path, f"{{{entry}, {entry}}}"))
    assert len(str(refusal.value)) < 500


def test_header_of_too_many_entries_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modswap.io.recognise.look.MAX_HEADER_ENTRIES", 3)

    with pytest.raises(CheckpointError, match="its header has over 3 entries"):
        outline(with_header(tmp_path, json.dumps(dict.fromkeys("abcd", EMPTY))))
