"""Small files beside weights: regular files, bounded, never waited for."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from modswap.core.errors import CheckpointError
from modswap.io.recognise.small_files import read_json, read_small


def test_regular_file_and_links_to_it_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a").write_bytes(b"[1]")
    (folder / "b").symlink_to("a")
    os.link(folder / "a", folder / "c")
    (tmp_path / "user").symlink_to(folder / "a")

    assert {read_small(folder / n, 3, folder=folder) for n in "abc"} == {b"[1]"}
    assert read_small(tmp_path / "user", 3) == b"[1]"
    assert read_json(folder / "b", 3, folder=folder) == [1]


def sparse(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(64 << 30)


def server(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(file))


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "it is a pipe, expected a regular file"),
    "folder": (Path.mkdir, "it is a folder, expected a regular file"),
    "socket": (server, "it is a socket, expected a regular file"),
    "sparse": (sparse, "it is too large: it has 68,719,476,736 bytes, expected at most 100"),
    "large": (lambda file: file.write_bytes(b"x" * 101), "has 101 bytes, expected at most 100"),
    "endless": (lambda file: file.symlink_to("/dev/zero"), "it is a device"),
    "without size": (lambda file: file.symlink_to("/proc/self/status"), "it is too large"),
    "circle": (lambda file: file.symlink_to(file.name), "Too many levels of symbolic links"),
}


@pytest.mark.parametrize("kind", ODD)
def test_file_that_is_odd_is_refused_at_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket has to be short
    make, what = ODD[kind]
    make(Path("x"))

    with pytest.raises(CheckpointError, match=what) as caught:
        read_small(Path("x"), 100)

    assert caught.value.where == "x"


@pytest.mark.parametrize("target", ["pipe", "/dev/zero", "../out", "gone/../../out"])
def test_link_of_a_folder_is_judged_before_it_is_read(target: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "out").write_bytes(b"secret")
    os.mkfifo(folder / "pipe")
    (folder / "x").symlink_to(target)

    with pytest.raises(CheckpointError, match=r"it is a pipe|is a link that leaves the folder"):
        read_small(folder / "x", 100, folder=folder)


def test_missing_file_and_dangling_link_have_errors_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("gone")

    for name in ("gone", "link"):
        with pytest.raises(FileNotFoundError):
            read_small(tmp_path / name, 100, folder=tmp_path)


def test_name_with_a_zero_byte_and_a_refusal_of_the_system_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match="it cannot be read: "):
        read_small(tmp_path / "a\0b", 100)
    (tmp_path / "a").write_bytes(b"x")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # tests may run as root, who may read all
    with pytest.raises(CheckpointError, match="it cannot be read: Permission denied; check"):
        read_small(tmp_path / "a", 100)
