"""Headers of safetensors files whose entries are not the file's data are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from modswap.core.errors import CheckpointError
from modswap.io.formats.safetensors.header import encoded, read_header, sound_header
from modswap.io.recognise.look import look_at


def write(file: Path, entries: Any, data: bytes) -> None:
    text = json.dumps(entries).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


def entry(start: Any, end: Any, **changes: Any) -> dict[str, Any]:
    return {"dtype": "U8", "shape": [4], "data_offsets": [start, end], **changes}


def test_sound_header_is_read_and_written_the_same(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write(file, {"__metadata__": {"x": "y"}, "b": entry(4, 8), "a": entry(0, 4)}, bytes(8))

    found = sound_header(look_at(file))

    assert found == read_header(look_at(file))
    assert list(found.tensors) == ["a", "b"]
    text = encoded(found)
    assert len(text) % 8 == 0
    assert json.loads(text[8:]) == {
        "__metadata__": {"x": "y"}, "a": entry(0, 4), "b": entry(4, 8),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({}, "an entry is no tensor, or no string"),
        ({"__metadata__": {}}, "an entry is no tensor"),
        ({"__metadata__": {"x": 1}, "a": entry(0, 8)}, "no string"),
        ({"__metadata__": [], "a": entry(0, 8)}, "no string"),
        ({"a": 3}, "no tensor"),
        ({"a": entry(0, 8, shape=[-1])}, "no tensor"),
        ({"a": entry(0, 8, shape="4")}, "no tensor"),
        ({"a": entry(0, "8")}, "no tensor"),
        ({"a": entry(0, 8), "b": entry(0, 8)}, "tensors overlap, or leave a gap"),
        ({"a": entry(0, 4), "b": entry(5, 8)}, "leave a gap"),
        ({"a": entry(0, 10), "b": entry(10, 8)}, "overlap"),
        ({"a": entry(0, 7)}, "it is cut short: its tensors end at"),
        ({"a": entry(0, 9)}, "it is cut short"),
    ],
)
def test_unsound_header_is_refused(entries: Any, words: str, tmp_path: Path) -> None:
    write(tmp_path / "a", entries, bytes(8))

    with pytest.raises(CheckpointError, match=words):
        sound_header(look_at(tmp_path / "a"))
