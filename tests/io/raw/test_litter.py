"""Temporary files of killed processes are removed, and nothing else that has their names."""

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from modswap.io.raw import litter
from modswap.io.raw.litter import abandoned, lock, remove, remove_litter, temporary_name
from tests.io.raw.killing import names

NAME = ".modswap-123-0a1b2c3d.part"


def fill(place: Path) -> None:
    (place / "sub").mkdir(parents=True)
    (place / "sub" / "file").write_text("x")
    (place / "out").symlink_to("..")


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, fill])
def test_litter_of_any_content_is_removed(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / NAME)
    make(temporary_name(tmp_path))
    (tmp_path / "mine").write_text("mine")

    remove_litter(tmp_path)

    assert names(tmp_path) == ["mine"]


def server(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(file))


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        server,
        lambda place: place.symlink_to("mine"),
        lambda place: place.symlink_to("folder"),
        lambda place: place.symlink_to("gone"),
        lambda place: place.symlink_to("/dev/zero"),
    ],
    ids=["pipe", "socket", "link", "link of a folder", "dangling", "device"],
)
def test_other_things_of_its_name_are_left_alone(
    make: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket has to be short
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    make(Path(NAME))

    remove_litter(tmp_path)

    assert names(tmp_path) == [NAME, "folder", "mine"]
    assert (tmp_path / "folder" / "mine").read_text() == "mine"


@pytest.mark.parametrize(
    "name",
    [".modswap-x.part", ".modswap-1-0a1b2c3d.part~", "a.modswap-1-0a1b2c3d.part", ".modswap-.part",
     ".modswap-1-0a1b2c3d.part\n"],
)  # fmt: skip
def test_names_that_are_nearly_ours_are_not(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")

    remove_litter(tmp_path)

    assert names(tmp_path) == [name]


def test_files_of_another_user_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / NAME).touch()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    remove_litter(tmp_path)

    assert names(tmp_path) == [NAME]


def test_locked_litter_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / NAME).touch()

    with (tmp_path / NAME).open("rb") as held:
        assert lock(held.fileno())
        remove_litter(tmp_path)

    assert names(tmp_path) == [NAME]


def test_litter_that_was_exchanged_before_its_lock_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / NAME).touch()

    def late(descriptor: int) -> bool:
        (tmp_path / NAME).rename(tmp_path / "put")
        return lock(descriptor)

    monkeypatch.setattr(litter, "lock", late)

    def gone(_: int) -> bool:
        (tmp_path / NAME).unlink()
        return True

    with abandoned(tmp_path / NAME) as free:
        assert not free
    (tmp_path / NAME).touch()
    (tmp_path / "put").unlink()
    monkeypatch.setattr(litter, "lock", gone)
    with abandoned(tmp_path / NAME) as free:
        assert not free


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EBADF, errno.EIO])
def test_file_system_without_locks_is_written_to(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(fcntl, "flock", refuse)

    with (tmp_path / "x").open("wb") as stream:
        if number == errno.EIO:
            with pytest.raises(OSError, match="no"):
                lock(stream.fileno())
        else:
            assert not lock(stream.fileno())


def test_folder_that_cannot_be_read_has_no_litter(tmp_path: Path) -> None:
    remove_litter(tmp_path / "gone")


def test_protected_folder_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "x"
    fill(place)
    (place / "sub").chmod(0o500)
    unlink = os.unlink

    def guarded(path: str, *, dir_fd: int | None = None) -> None:
        # tests may run as root, who may write everywhere
        folder = Path(path).parent.stat() if dir_fd is None else os.fstat(dir_fd)
        if not stat.S_IMODE(folder.st_mode) & stat.S_IWUSR:
            raise PermissionError(errno.EACCES, "no")
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", guarded)

    remove(place)
    remove(tmp_path / "gone")

    assert names(tmp_path) == []
