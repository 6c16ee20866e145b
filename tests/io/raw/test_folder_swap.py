"""A new folder is put in the place of an old one; one of both is there at any moment."""

import errno
import os
import platform
import re
from pathlib import Path

import pytest

from modswap.core.errors import CheckpointError
from modswap.io.formats.target import refuse_target
from modswap.io.raw import folder_swap
from modswap.io.raw.atomic import replacing
from modswap.io.raw.folder_swap import (
    Way,
    by_name,
    by_number,
    exchanged,
    kept_name,
    put_back,
    put_folder,
)
from tests.io.raw.killing import names


def no_flush(_: Path) -> None:
    """Flush nothing."""


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Return a new folder and the old one at its target."""
    new, target = tmp_path / "new", tmp_path / "out"
    for folder in (new, target):
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    return new, target


def text(folder: Path) -> str:
    return (folder / "file").read_text()


@pytest.mark.parametrize("way", [by_name, by_number])
def test_folders_are_exchanged_by_each_way(way: Way, two: tuple[Path, Path]) -> None:
    new, target = two

    assert way(os.fsencode(new), os.fsencode(target)) == 0

    assert (text(new), text(target)) == ("out", "new")
    assert way(os.fsencode(new), os.fsencode(target / "gone")) == errno.ENOENT


def test_way_without_its_function_or_number_says_so(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    new, target = map(os.fsencode, two)
    monkeypatch.setattr(platform, "machine", lambda: "vax")

    assert by_number(new, target) == errno.ENOSYS
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: object())
    assert by_name(new, target) == errno.ENOSYS


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EINVAL, errno.EPERM])
def test_system_that_cannot_exchange_differs_from_one_that_refuses(
    number: int, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_swap, "WAYS", (lambda *_: number,))
    assert not exchanged(*two)
    monkeypatch.setattr(folder_swap, "WAYS", (lambda *_: number, lambda *_: 0))
    assert exchanged(*two)
    monkeypatch.setattr(folder_swap, "WAYS", (lambda *_: errno.EIO,))
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.EIO))):
        exchanged(*two)


@pytest.mark.parametrize("exchange", [True, False])
def test_old_folder_has_the_temporary_name_and_gives_its_permissions(
    exchange: bool, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    new, target = two
    target.chmod(0o750)
    if not exchange:
        monkeypatch.setattr(folder_swap, "WAYS", ())

    put_folder(new, target, no_flush)

    assert (text(new), text(target)) == ("out", "new")
    assert target.stat().st_mode & 0o777 == 0o750
    assert names(target.parent) == ["new", "out"]


def test_old_folder_gets_its_place_back_if_the_new_one_cannot_be_moved(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    new, target = two
    monkeypatch.setattr(folder_swap, "WAYS", ())
    rename = Path.rename

    def refuse(self: Path, other: Path) -> Path:
        if self == new:
            raise KeyboardInterrupt
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(KeyboardInterrupt):
        put_folder(new, target, no_flush)

    assert (text(new), text(target)) == ("new", "out")


def test_old_folder_that_cannot_be_renamed_is_removed_by_the_next_run(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    new, target = two
    monkeypatch.setattr(folder_swap, "WAYS", ())
    rename = Path.rename

    def refuse(self: Path, other: Path) -> Path:
        if other == new:
            raise OSError(errno.EIO, "no")
        return rename(self, other)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        put_folder(new, target, no_flush)
    assert len(names(target.parent)) == 2
    put_back(target)

    assert names(target.parent) == ["out"]
    assert text(target) == "new"


@pytest.mark.parametrize("name", ["out", "a*[b]?", "ö" * 120, "line\nbreak", ".hidden", "x" * 255])
def test_old_folder_of_any_name_is_put_back(name: str, tmp_path: Path) -> None:
    new, target = tmp_path / "new", tmp_path / name
    new.mkdir()
    target.mkdir()
    (target / "file").write_text("old")
    target.rename(kept_name(target, new))  # and killed

    put_back(tmp_path / "other")
    assert not target.exists()
    put_back(target)

    assert text(target) == "old"
    assert set(names(tmp_path)) == {"new", name}


def test_folder_that_the_user_made_meanwhile_stays_and_so_does_the_old_one(
    two: tuple[Path, Path],
) -> None:
    new, target = two
    old = kept_name(target, new)
    target.rename(old)
    target.mkdir()

    put_back(target)

    assert names(target) == []
    assert text(old) == "out"


def test_old_folder_of_a_living_process_is_left_alone(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    new, target = two
    monkeypatch.setattr(folder_swap, "WAYS", ())
    rename, seen = Path.rename, []

    def watched(self: Path, other: Path) -> Path:
        if self == new:
            put_back(target)
            seen.append(target.exists())
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", watched)
    put_folder(new, target, no_flush)

    assert seen == [False]
    assert text(target) == "new"


def test_old_folder_put_back_is_not_overwritten_without_force(two: tuple[Path, Path]) -> None:
    new, target = two
    target.rename(kept_name(target, new))
    (target.parent / ".modswap-1-00000000.part").mkdir()

    with (
        pytest.raises(CheckpointError, match="it exists; name another file, or add --force"),
        replacing(target, force=False, folder=True),
    ):
        pass

    assert text(target) == "out"
    assert names(target.parent) == ["new", "out"]


def test_new_folder_is_moved_to_a_free_place(two: tuple[Path, Path]) -> None:
    new, target = two

    put_folder(new, target.parent / "free", no_flush)

    assert text(target.parent / "free") == "new"


def test_old_folder_put_back_is_seen_before_any_work(two: tuple[Path, Path]) -> None:
    new, target = two
    target.rename(kept_name(target, new))

    with pytest.raises(CheckpointError, match="it exists"):
        refuse_target(new, target, force=False)

    assert text(target) == "out"
