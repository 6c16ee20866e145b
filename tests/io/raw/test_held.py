"""The input is held open, and every change of it is noticed."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from modswap.core.errors import CheckpointError
from modswap.io.raw import held as held_module
from modswap.io.raw import places
from modswap.io.raw.byte_range import ByteRange
from modswap.io.raw.copying import Sink
from modswap.io.raw.held import TIME_STEP_NS, holding, open_source, stamps_of

CONTENT = b"0123456789"


def overwrite(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.write(CONTENT[::-1])


def restore_times(file: Path) -> None:
    """Write other bytes, and give the file its old times."""
    found = file.stat()
    overwrite(file)
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))


def rename_over(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(CONTENT)
    other.replace(file)


def recreate(file: Path) -> None:
    file.unlink()
    file.write_bytes(CONTENT)


def away_and_back(file: Path) -> None:
    file.rename(file.with_name("away"))
    file.with_name("away").rename(file)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "written to": (overwrite, "it was written to"),
    "written to, times restored": (restore_times, "it was written to"),
    "renamed over": (rename_over, "another file has its name"),
    "made again": (recreate, "another file has its name"),
    "renamed and back": (away_and_back, "renamed or"),
    "cut": (lambda file: os.truncate(file, 3), "it had 10 bytes, and has 3"),
    "grown": (lambda file: os.truncate(file, 20), "it had 10 bytes, and has 20"),
    "removed": (lambda file: file.unlink(), "it is no longer there"),
    "permissions": (lambda file: file.chmod(0o600), "other permissions"),
}


@pytest.mark.parametrize("kind", ["file", "link", "folder", "deep"])
@pytest.mark.parametrize("change", list(CHANGES))
def test_every_change_is_noticed(change: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "net" / "deep").mkdir(parents=True)
    file = tmp_path / "net" / ("deep/w.bin" if kind == "deep" else "w.bin")
    file.write_bytes(CONTENT)
    (tmp_path / "link").symlink_to(file)
    source = {"file": file, "link": tmp_path / "link"}.get(kind, tmp_path / "net")
    make, what = CHANGES[change]

    with holding(source) as held:
        held.refuse_change()
        make(file)
        with pytest.raises(CheckpointError, match=f"it changed while it was read: .*{what}") as of:
            held.refuse_change()

    assert of.value.where == str(file if kind != "link" else tmp_path / "link")
    assert of.value.code == 3


def test_link_that_is_turned_to_another_file_is_noticed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(CONTENT)
    (tmp_path / "link").symlink_to("a")

    with holding(tmp_path / "link") as held:
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to("b")
        with pytest.raises(CheckpointError, match="another file has its name"):
            held.refuse_change()


def test_file_that_comes_into_a_folder_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    with holding(tmp_path / "net") as held:
        (tmp_path / "net" / "sub").mkdir()  # no file
        held.refuse_change()
        (tmp_path / "net" / "sub" / "new").touch()
        with pytest.raises(CheckpointError, match="it was not there before"):
            held.refuse_change()


def test_steps_compare_after_they_are_reported(tmp_path: Path) -> None:
    file, said = tmp_path / "w.bin", list[str]()
    file.write_bytes(CONTENT)
    with holding(file) as held:
        step = held.watched(said.append)
        step("one")
        overwrite(file)
        with pytest.raises(CheckpointError, match="it changed"):
            step("two")

    assert said == ["one", "two"]


def test_copies_read_the_file_that_is_held(tmp_path: Path) -> None:
    file, link = tmp_path / "w.bin", tmp_path / "link"
    file.write_bytes(CONTENT)
    link.symlink_to(file)
    with holding(link):
        rename_over(file)
        overwrite(file)
        with Sink(tmp_path / "out", 10) as sink:
            sink.copy(ByteRange(10, link))
            sink.finish()
        assert (tmp_path / "out").read_bytes() == CONTENT
    with Sink(tmp_path / "out", 10) as sink:
        sink.copy(ByteRange(10, link))
        sink.finish()
    assert (tmp_path / "out").read_bytes() == CONTENT[::-1]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nested_holds_end_in_order_and_leave_no_descriptor(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(CONTENT)
    before = descriptors()
    with holding(tmp_path / "a"):
        with holding(tmp_path):
            assert descriptors() == before + 3
        os.close(open_source(tmp_path / "a"))
        assert set(held_module._held) == {str(tmp_path / "a")}
    assert held_module._held == {}
    assert descriptors() == before


def test_hold_inside_a_hold_compares_with_the_beginning(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(CONTENT)
    with holding(file) as first:
        overwrite(file)
        with holding(file) as second:
            assert second is first
            with pytest.raises(CheckpointError, match="it changed"):
                second.refuse_change()
    with holding(file) as third:
        third.refuse_change()


def fails(file: Path, *, changed: bool) -> None:
    with holding(file):
        if changed:
            overwrite(file)
        raise KeyError("data.pkl")


@pytest.mark.parametrize("changed", [True, False])
def test_change_explains_any_other_error(*, changed: bool, tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(CONTENT)

    with pytest.raises(CheckpointError if changed else KeyError):
        fails(file, changed=changed)

    assert held_module._held == {}


def test_folder_of_many_files_is_noticed_without_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_module, "MAX_HELD_FILES", 1)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(CONTENT)
    with holding(tmp_path) as held:
        assert set(held_module._held) == {str(tmp_path / "a")}
        overwrite(tmp_path / "b")
        with pytest.raises(CheckpointError, match="it changed"):
            held.refuse_change()


def test_folder_of_too_many_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "MAX_ENTRIES", 2)
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()

    with pytest.raises(CheckpointError, match="it holds more than 2 files, and is no checkpoint"):
        stamps_of(tmp_path)


def test_what_cannot_be_held_is_left_to_its_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("none", "fifo", "loop", "a\0b"):
        with holding(tmp_path / name) as held:
            assert held.stamps == ()
            held.refuse_change()


def test_young_file_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    (tmp_path / "a").touch()
    made = (tmp_path / "a").stat().st_ctime_ns
    for after in (TIME_STEP_NS // 2, TIME_STEP_NS, -1):  # the last: a clock of another machine
        monkeypatch.setattr(time, "time_ns", lambda at=made + after: at)
        with holding(tmp_path / "a"):
            pass

    assert waited == [TIME_STEP_NS / 2 / 1e9]
