"""Files of a folder, and the records of modswap among them."""

from pathlib import Path

import pytest

from modswap.core.errors import CheckpointError
from modswap.io.raw.folder_files import RECORDS, other_files, own_records


def test_files_of_subfolders_are_listed_relative_to_the_folder(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("x", "b/y", "b/c/z"):
        (tmp_path / name).touch()

    assert [file.as_posix() for file in other_files(tmp_path)] == ["b/c/z", "b/y", "x"]


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

    with pytest.raises(CheckpointError, match=r"modswap\.json: its values are nested more than"):
        own_records(tmp_path)
