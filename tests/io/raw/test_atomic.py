"""A whole new file or the old one: kills, races, links, and what they leave behind."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from modswap.core.errors import CheckpointError
from modswap.io.raw import atomic
from modswap.io.raw.atomic import lock, replacing

KILLS = 200
WORKER = """
import sys
from pathlib import Path
from modswap.io.raw.atomic import replacing
from modswap.io.recognise.look import look_at
from modswap.io.rewriting import Records
from modswap.io.formats.safetensors.rewrite import NamedRewriting

source, out = map(Path, sys.argv[1:])
rewriting = NamedRewriting(look_at(source), ("gate.",), {}, {})
for line in sys.stdin:
    import os
    child = os.fork()
    if not child:
        with replacing(out, force=True) as file:
            rewriting.write(file, Records(recipe=line.strip()), checksums=True)
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


def litter(folder: Path) -> list[Path]:
    return list(folder.glob(".modswap-*"))


def write_source(file: Path) -> None:
    import torch
    from safetensors.torch import save_file

    tensors = {f"layer.{n}": torch.randn(1 << 18) for n in range(4)}
    save_file({**tensors, "gate.weight": torch.ones(3)}, file)


def test_killed_writer_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    from safetensors import safe_open

    source, out = tmp_path / "net.safetensors", tmp_path / "out.safetensors"
    write_source(source)
    out.write_bytes(b"old")
    chance = random.Random(0)
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(source), str(out)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert worker.stdin is not None
    assert worker.stdout is not None
    whole = 0
    for turn in range(KILLS):
        worker.stdin.write(f"turn {turn}\n")
        worker.stdin.flush()
        child = int(worker.stdout.readline())
        time.sleep(chance.uniform(0, 0.06))
        with suppress(ProcessLookupError):  # it was done already
            os.kill(child, signal.SIGKILL)
        assert worker.stdout.readline() == "gone\n"
        if out.read_bytes() == b"old":
            continue
        with safe_open(out, "pt") as opened:
            whole += opened.metadata()["modswap.recipe"] == f"turn {turn}"
            assert set(opened.keys()) == {f"layer.{n}" for n in range(4)}
            assert all(len(opened.get_tensor(name)) == 1 << 18 for name in opened.keys())  # noqa: SIM118
    worker.stdin.close()
    worker.wait()
    worker.stdout.close()

    assert 0 < whole < KILLS  # some were in time, some were not
    with replacing(tmp_path / "next", force=False) as file:
        file.write_bytes(b"x")
    assert litter(tmp_path) == []


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
        if os.path.isdir(f"/proc/self/fd/{descriptor}") == folder:  # noqa: PTH112 - a link to a place
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


def test_full_disk_is_told_with_what_is_free(tmp_path: Path) -> None:
    source, out = tmp_path / "net.safetensors", tmp_path / "out.safetensors"
    write_source(source)
    out.write_bytes(b"old")
    program = (
        "import resource, signal, sys; from modswap.cli.app import run\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    (tmp_path / "swap.yaml").write_text(
        "version: 1\nreplace: [{match: gate, with: SEBlock, layout: NCHW, args: {channel: 64}}]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "replace", str(source), "-c", str(tmp_path / "swap.yaml"),
         "-o", str(out), "--force", "--no-forward"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 3, done.stdout + done.stderr
    assert "no space left to write it (" in " ".join(done.stdout.split())
    assert out.read_bytes() == b"old"
    assert litter(tmp_path) == []
