"""Files are replaced as a whole: kills, races, links, full disks, and no litter after them."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modswap.cli.app import run
from modswap.core.errors import CheckpointError
from modswap.io.raw import atomic
from modswap.io.raw.atomic import replacing
from modswap.io.raw.litter import lock
from tests.commands import no_file_above
from tests.io.raw.killing import names

WRITER = """
import os, signal, sys
from pathlib import Path
from modswap.io.formats.safetensors.rewrite import NamedRewriting
from modswap.io.raw import copying
from modswap.io.raw.atomic import replacing
from modswap.io.recognise.look import look_at
from modswap.io.rewriting import Records, Removal

source, out = map(Path, sys.argv[1:])
rewriting = NamedRewriting(look_at(source), Removal(("gate.",)), {}, {})
STEPS = (
    "open", "write", "copy_file_range", "posix_fallocate", "fdatasync", "ftruncate", "fsync",
    "chmod", "replace", "link", "unlink", "close",
)
left = 0

def dying(step):
    def call(*args, **options):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*args, **options)
    return call

for name in STEPS:
    setattr(os, name, dying(getattr(os, name)))
for line in sys.stdin:
    child = os.fork()
    if not child:
        left = int(line)
        with replacing(out, force=True) as file:
            rewriting.write(file, Records(recipe="turn " + line.strip()), checksums=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


SIDE = 1 << 16


def litter(folder: Path) -> list[Path]:
    return list(folder.glob(".modswap-*"))


def write_source(file: Path) -> None:
    import torch
    from safetensors.torch import save_file

    tensors = {f"layer.{n}": torch.randn(SIDE) for n in range(4)}
    save_file({**tensors, "gate.weight": torch.ones(3)}, file)


def test_writer_killed_before_any_of_its_steps_leaves_the_old_file_or_the_new_one(
    tmp_path: Path,
) -> None:
    source, out = tmp_path / "net.safetensors", tmp_path / "out.safetensors"
    write_source(source)
    out.write_bytes(b"old")
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(source), str(out)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert writer.stdin is not None
    assert writer.stdout is not None
    codes: list[int] = []
    written: list[str] = []
    while 0 not in codes:
        writer.stdin.write(f"{len(codes) + 1}\n")
        writer.stdin.flush()
        codes.append(int(writer.stdout.readline()))
        written.append(recipe_in(out))
    writer.communicate()

    assert set(codes[:-1]) == {-signal.SIGKILL}
    assert written[0] == "old"
    assert written[-1] == f"turn {len(codes)}"
    assert len(codes) > 10
    with replacing(tmp_path / "next", force=False) as file:
        file.write_bytes(b"x")
    assert litter(tmp_path) == []


def recipe_in(out: Path) -> str:
    """Return the recipe in a whole file, or "old"."""
    from safetensors import safe_open

    if out.read_bytes() == b"old":
        return "old"
    with safe_open(out, "pt") as opened:
        assert set(opened.keys()) == {f"layer.{n}" for n in range(4)}
        assert all(len(opened.get_tensor(name)) == SIDE for name in sorted(opened.keys()))
        recipe: str = opened.metadata()["modswap.recipe"]
    return recipe


def test_litter_of_living_writers_is_left_alone(tmp_path: Path) -> None:
    with replacing(tmp_path / "a", force=False) as first:
        first.write_bytes(b"a")
        with replacing(tmp_path / "b", force=False) as second:
            second.write_bytes(b"b")
            assert first.exists()

    assert (tmp_path / "a").read_bytes() + (tmp_path / "b").read_bytes() == b"ab"
    assert litter(tmp_path) == []


def test_file_taken_for_litter_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Path] = []

    def late(descriptor: int) -> bool:
        if not taken:  # another process is quicker, once
            taken.extend(litter(tmp_path))
            taken[0].unlink()
        return lock(descriptor)

    monkeypatch.setattr(atomic, "lock", late)

    with replacing(tmp_path / "out", force=False) as file:
        assert file != taken[0]
        file.write_bytes(b"x")

    assert (tmp_path / "out").read_bytes() == b"x"


def test_lock_of_another_is_noticed(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as first, (tmp_path / "x").open("rb") as second:
        assert lock(first.fileno())
        assert not lock(second.fileno())


def test_two_writers_without_force_make_one_file(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def write(content: str, meanwhile: str = "") -> None:
        with replacing(out, force=False) as file:
            if meanwhile:
                write(meanwhile)
            file.write_text(content)

    with pytest.raises(CheckpointError, match="it exists"):
        write("late", "early")

    assert out.read_bytes() == b"early"
    assert litter(tmp_path) == []


@pytest.mark.parametrize("there", [True, False])
def test_file_system_without_links_is_written_to(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def refuse(*given: object) -> None:
        if there:
            out.write_bytes(b"early")
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", refuse)

    if there:
        with (
            pytest.raises(CheckpointError, match="it exists"),
            replacing(out, force=False) as file,
        ):
            file.write_bytes(b"x")
        assert out.read_bytes() == b"early"
        return
    with replacing(out, force=False) as file:
        file.write_bytes(b"x")
    assert out.read_bytes() == b"x"


@pytest.mark.parametrize("folder", [True, False])
def test_flush_that_fails_matters_for_files_only(
    folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = os.fsync

    def refuse(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}") == folder:  # noqa: PTH112 - a link to the open file
            raise OSError(errno.EIO, "no")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    out = tmp_path / "out"

    if folder:
        with replacing(out, force=False) as file:
            file.write_bytes(b"x")
        assert out.read_bytes() == b"x"
        return
    with (
        pytest.raises(CheckpointError, match="it cannot be written: no"),
        replacing(out, force=False) as file,
    ):
        file.write_bytes(b"x")
    assert not out.exists()


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL])
def test_flush_of_a_new_folder_fails_if_the_disk_does(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = os.fsync

    def refuse(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "sub":
            raise OSError(number, "no")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)

    def put() -> None:
        with replacing(tmp_path / "out", force=False, folder=True) as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / "file").write_text("x")
            (folder / "dangling").symlink_to("gone")

    if number == errno.EINVAL:  # a file system that cannot flush folders
        put()
        assert names(tmp_path / "out") == ["dangling", "sub"]
        return
    with pytest.raises(CheckpointError, match="it cannot be written: no"):
        put()
    assert names(tmp_path) == []


@pytest.mark.parametrize("folder", [True, False])
@pytest.mark.parametrize("step", ["lock", "open"])
def test_error_of_the_first_steps_leaves_no_litter(
    step: str, folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, refused = os.open, list[object]()

    def refuse(place: object, *given: Any, **options: Any) -> int:
        if not refused and (step == "lock" or given == (os.O_RDONLY if folder else os.O_RDWR,)):
            refused.append(place)
            raise OSError(errno.EIO, "no")
        return opened(place, *given, **options)  # type: ignore[arg-type] # as it was given

    monkeypatch.setattr(*((atomic, "lock") if step == "lock" else (os, "open")), refuse)

    with (
        pytest.raises(CheckpointError, match="it cannot be written: no"),
        replacing(tmp_path / "out", force=False, folder=folder),
    ):
        pass

    assert names(tmp_path) == []
    assert refused


@pytest.mark.parametrize("folder", [True, False])
def test_folder_that_vanishes_meanwhile_is_reported(folder: bool, tmp_path: Path) -> None:
    parent = tmp_path / "there"
    parent.mkdir()

    with (
        pytest.raises(CheckpointError, match="it cannot be written: No such file or directory"),
        replacing(parent / "out", force=True, folder=folder),
    ):
        shutil.rmtree(parent)

    assert names(tmp_path) == []


def test_folder_walked_to_be_flushed_may_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    with (
        pytest.raises(CheckpointError, match="it cannot be written: no"),
        replacing(tmp_path / "out", force=True, folder=True),
    ):
        monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.undo()

    assert not (tmp_path / "out").exists()


def test_file_gets_the_permissions_of_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "out").touch(0o640)

    with replacing(tmp_path / "out", force=True) as file:
        file.write_text("new")

    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o640


def test_full_disk_is_reported_with_the_free_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "net.safetensors", tmp_path / "out.safetensors"
    write_source(source)
    out.write_bytes(b"old")
    recipe = tmp_path / "swap.yaml"
    recipe.write_text(
        "version: 1\nreplace: [{match: gate, with: SEBlock, layout: NCHW, args: {channel: 64}}]\n"
    )
    args = ["replace", source, "-c", recipe, "-o", out, "--force", "--no-forward"]

    with no_file_above(1 << 19):
        code = run([str(arg) for arg in args])

    assert code == 3
    assert "no space left to write it (" in " ".join(capsys.readouterr().out.split())
    assert out.read_bytes() == b"old"
    assert litter(tmp_path) == []
