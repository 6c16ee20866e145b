"""Edits of the user's own files, all or none."""

from pathlib import Path

import pytest

from modswap.core.errors import CheckpointError
from modswap.io import in_place
from modswap.io.in_place import InPlaceEdit, edit_in_place


@pytest.fixture
def edits(tmp_path: Path) -> list[InPlaceEdit]:
    made = [
        InPlaceEdit(tmp_path / name, f"old {name}\r\n".encode(), b"new")
        for name in ("a.py", "b.py")
    ]
    for edit in made:
        edit.file.write_bytes(edit.before)
    return made


def listing(edits: list[InPlaceEdit]) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in sorted(edits[0].file.parent.iterdir())}


def test_old_bytes_are_kept_beside_the_file(edits: list[InPlaceEdit]) -> None:
    taken = edits[0].file.with_name("a.py.orig")
    taken.write_text("mine")

    kept = edit_in_place(edits, lambda edit: edit.file.name == "b.py")

    assert kept == [taken.with_name("a.py.orig2"), None]
    assert listing(edits) == {
        "a.py": b"new", "a.py.orig": b"mine", "a.py.orig2": b"old a.py\r\n", "b.py": b"new",
    }  # fmt: skip


@pytest.mark.parametrize("change", [lambda file: file.write_text("other"), lambda f: f.unlink()])
def test_file_that_changed_is_left(edits: list[InPlaceEdit], change: object) -> None:
    assert callable(change)
    change(edits[1].file)
    before = listing(edits)

    with pytest.raises(CheckpointError, match=r"b.py: it (changed since it was|cannot be) read"):
        edit_in_place(edits, lambda _: False)

    assert listing(edits) == before


def test_file_that_changes_meanwhile_takes_the_others_back(
    edits: list[InPlaceEdit], monkeypatch: pytest.MonkeyPatch
) -> None:
    write, before = in_place._write, listing(edits)

    def changing(edit: InPlaceEdit) -> None:
        if edit.file.name == "b.py":
            edit.file.write_text("changed")
        write(edit)

    monkeypatch.setattr(in_place, "_write", changing)

    with pytest.raises(CheckpointError, match=r"b.py: it changed since it was read"):
        edit_in_place(edits, lambda _: False)

    assert listing(edits) == {**before, "b.py": b"changed"}
