"""Texts are written as a whole: full disks, links, pipes, open descriptors, and no checkpoint."""

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modswap.core.errors import CheckpointError
from modswap.io.raw import texts
from modswap.io.raw.atomic import refused
from modswap.io.raw.texts import append_text, existing_text, write_text
from tests.commands import no_file_above

OLD, NEW = "old\n", "new\n" * 20_000
FULL = "no space left to write it"


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[None]:
    done = subprocess.run(["mount", *options, str(place)], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("this user cannot mount")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "r.txt"

    write_text(file, "é\r\n")
    assert file.read_bytes() == b"\xc3\xa9\r\n"
    file.chmod(0o640)
    write_text(file, NEW)

    assert file.read_text() == NEW
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [file]


def test_full_disk_leaves_the_old_text(tmp_path: Path) -> None:
    file = tmp_path / "r.txt"
    file.write_text(OLD)

    with no_file_above(1000), pytest.raises(CheckpointError, match=FULL):
        write_text(file, NEW)
    with no_file_above(1000), pytest.raises(CheckpointError, match=FULL):
        append_text(file, NEW)

    assert file.read_text() == OLD
    assert list(tmp_path.iterdir()) == [file]


def test_really_full_disk_leaves_the_old_text(tmp_path: Path) -> None:
    with mounted(tmp_path, "-t", "tmpfs", "-o", "size=64k", "tmpfs"):
        file = tmp_path / "r.txt"
        write_text(file, OLD)
        for write in (write_text, append_text):
            with pytest.raises(CheckpointError, match=FULL):
                write(file, NEW * 2)
            assert file.read_text() == OLD
            assert list(tmp_path.iterdir()) == [file]


def test_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("sub/r.txt")

    write_text(tmp_path / "link", OLD)
    write_text(tmp_path / "link", "new")
    append_text(tmp_path / "link", "er")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "sub" / "r.txt").read_text() == "newer"


def test_existing_file_needs_force(tmp_path: Path) -> None:
    file = tmp_path / "r.txt"
    write_text(file, OLD, force=False)

    with pytest.raises(CheckpointError, match="it exists"):
        write_text(file, NEW, force=False)

    assert file.read_text() == OLD


@pytest.mark.parametrize("head", [b"PK\3\4\x14\0", b"\x80\x02\0", b"\x10\0\0\0\0\0\0\0{}", b"a\0"])
def test_checkpoint_is_never_overwritten_by_a_text(head: bytes, tmp_path: Path) -> None:
    file = tmp_path / "other.pt"
    file.write_bytes(head * 10)

    for write in (write_text, append_text):
        with pytest.raises(CheckpointError, match="it is no text file, and may be a checkpoint"):
            write(file, NEW)

    assert file.read_bytes() == head * 10


@pytest.mark.parametrize("name", ["fifo", "link"])
def test_pipe_is_written_straight(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "fifo").read_text()))
    reader.start()

    write_text(tmp_path / name, NEW)
    reader.join(10)

    assert got == [NEW]
    assert (tmp_path / "fifo").is_fifo()


def test_summary_does_not_wait_for_the_reader_of_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    with pytest.raises(CheckpointError, match="it cannot be written: No such device"):
        append_text(tmp_path / "fifo", NEW)


@pytest.mark.parametrize("path", ["/dev/fd/{}", "/proc/self/fd/{}", "/proc/{pid}/fd/{}", "link"])
def test_open_descriptor_is_written_through_itself(path: str, tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text(OLD)
    with file.open("ab") as stream:  # as a shell does for `>> log`
        (tmp_path / "link").symlink_to(f"/dev/fd/{stream.fileno()}")
        place = path.format(stream.fileno(), pid=os.getpid())
        write_text(tmp_path / place, "new")

    assert file.read_text() == f"{OLD}new"  # opened by its name, it would have been emptied


CALL = "import sys; from pathlib import Path; from modswap.io.raw.texts import write_text as w; "


def test_standard_streams_and_process_substitution_work(tmp_path: Path) -> None:
    script = (
        f"'{sys.executable}' -c \"{CALL} print('first'); w(Path('/dev/stdout'), 'out'); "
        "w(Path('/dev/stderr'), 'err'); w(Path('/dev/null'), 'none'); "
        "w(Path(sys.argv[1]), 'sub')\" >(cat > sub.txt) > out.txt 2> err.txt; wait $!; sync"
    )

    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True)

    found = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert found == {"out.txt": "first\nout", "err.txt": "err", "sub.txt": "sub"}


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("/dev/full", FULL),
        ("/dev/fd/999", "it cannot be written: (Bad file descriptor|No such file)"),
        ("/proc/1/fd/0/none", "it cannot be written"),
        (".", "it is a folder"),
        ("none/r.txt", "it cannot be written: No such file"),
        ("loop", "it cannot be written"),
        ("a\0b", "it cannot be written: .*null"),
    ],
)
def test_place_that_takes_no_text_is_reported(name: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")

    with pytest.raises(CheckpointError, match=what):
        write_text(tmp_path / name, NEW)
    with pytest.raises(CheckpointError, match=what.replace("it is a folder", "Is a directory")):
        append_text(tmp_path / name, NEW)

    assert [file.name for file in tmp_path.iterdir()] == ["loop"]


def test_disk_is_refused(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "disk", 0o60644, os.makedev(259, 4095))
    except PermissionError:
        pytest.skip("this user cannot make devices")

    with pytest.raises(CheckpointError, match="it is a device"):
        write_text(tmp_path / "disk", NEW)


@pytest.fixture
def unmoved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file be moved to another, as in a folder that is read-only."""

    @contextmanager
    def replacing(out: Path, *, force: bool) -> Iterator[Path]:
        del force
        yield Path("/dev/null")
        error = OSError(errno.EBUSY, "busy")
        raise refused(out, error) from error

    monkeypatch.setattr(texts, "replacing", replacing)


@pytest.mark.usefixtures("unmoved")
def test_file_in_a_folder_that_refuses_is_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "r.txt"
    file.write_text(OLD * 5)
    write_text(file, OLD)
    assert file.read_text() == OLD
    write_text(file, "longer than it was")

    with no_file_above(1000), pytest.raises(CheckpointError, match=FULL):
        write_text(file, NEW)
    for name, force in (("r.txt", False), ("none", True)):
        with pytest.raises(CheckpointError, match="it cannot be written: busy"):
            write_text(tmp_path / name, NEW, force=force)

    assert file.read_text() == "longer than it was"


def test_mounted_file_is_overwritten(tmp_path: Path) -> None:
    file, outside = tmp_path / "r.txt", tmp_path / "outside"
    file.touch()
    outside.write_text(OLD * 5)
    with mounted(file, "--bind", str(outside)):
        write_text(file, OLD)
        assert outside.read_text() == OLD
    assert sorted(one.name for one in tmp_path.iterdir()) == ["outside", "r.txt"]


def test_beginning_and_end_of_an_existing_text_are_read(tmp_path: Path) -> None:
    file = tmp_path / "r.txt"
    for whole in ("", "é", "x" * 65_536):
        file.write_text(whole)
        assert existing_text(file) == whole
    file.write_text("x" * 65_537)
    assert existing_text(file) == "x" * 65_536 + "\nx"
    file.write_text("begin" + " " * 200_000 + "end")

    text = existing_text(file)

    assert text is not None
    assert text.startswith("begin")
    assert text.endswith("end")
    assert len(text) == 2 * 65_536 + 1


@pytest.mark.parametrize("name", ["none", "none/r", "file/r", ".", "fifo", "link"])
def test_no_text_is_where_there_is_no_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(os.devnull)

    assert existing_text(tmp_path / name) is None


@pytest.mark.parametrize(
    ("name", "what"), [("loop", "it cannot be read: "), ("a\0b", "null"), ("net.pt", "no text")]
)
def test_what_cannot_be_read_may_be_no_text(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "net.pt").write_bytes(b"PK\3\4\0")

    with pytest.raises(CheckpointError, match=what):
        existing_text(tmp_path / name)
