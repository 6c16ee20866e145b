"""Files of a folder, and the records of modswap among them."""

import os
from pathlib import Path

import pytest

from modswap.core.errors import CheckpointError
from modswap.io.raw.folder_files import RECORDS, entries, own_records, size_of


def test_files_of_subfolders_are_listed_relative_to_the_folder(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("x", "b/y", "b/c/z"):
        (tmp_path / name).touch()

    assert [entry.name for entry in entries(tmp_path)] == ["b/c/z", "b/y", "x"]


@pytest.mark.parametrize(
    ("text", "records"),
    [
        ('{"recipe": "r", "receipt": "", "other": 3}', {"recipe": "r"}),
        ("[1]", {}),
        ("{", None),
        (None, None),
    ],
    ids=["texts", "no object", "no JSON", "no file"],
)
def test_records_are_the_texts_in_their_file(
    text: str | None, records: dict[str, str] | None, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / RECORDS).write_text(text)

    assert own_records(tmp_path) == records


def test_records_that_no_program_writes_are_refused(tmp_path: Path) -> None:
    (tmp_path / RECORDS).write_text("[" * 100_000)

    with pytest.raises(
        CheckpointError, match=r"modswap\.json: it cannot be read: its values are nested more than"
    ):
        own_records(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 1 << 20, 32 << 20])
def test_huge_file_is_refused_if_it_is_a_hole(
    kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "config.json").open("wb") as stream:
        stream.write(b"x" * kept)
        stream.truncate(1 << 30)

    if kept << 6 >= 1 << 30:
        assert [entry.name for entry in entries(tmp_path)] == ["config.json"]
        return
    what = r"its file 'config.json' of 1,073,741,824 bytes is a hole, with [0-9,]+ bytes in it"
    with pytest.raises(CheckpointError, match=what):
        entries(tmp_path)
    monkeypatch.delattr(os, "SEEK_DATA")  # a system that cannot tell
    assert len(entries(tmp_path)) == 1


def test_size_of_a_folder_counts_each_file_once(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"12345")
    (tmp_path / "file").write_bytes(b"123")
    (tmp_path / "link").symlink_to("file")

    assert size_of(tmp_path) == 8
    assert size_of(tmp_path / "link") == 3
