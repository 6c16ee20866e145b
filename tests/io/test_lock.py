"""Lock files, and what a checkpoint is known by."""

import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from modswap.core.errors import CheckpointError, UsageError
from modswap.core.kept.lock import Entry, Fingerprint
from modswap.io import lock
from modswap.io.lock import digest_of_recipe, fingerprint, key_of, read_lock, write_lock
from modswap.io.raw.held import stamps_of

MARK = Fingerprint(name="net.pt", nbytes=10, kind="sha256", digest="ab")
LARGE = 9 << 20  # beyond what is taken for small, where not all is read


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def entry(recipe: str) -> Entry:
    return Entry(recipe=recipe, checkpoint=MARK)


def test_lock_reads_back_and_keeps_the_entries_of_others() -> None:
    file = Path("modswap.lock")

    write_lock(file, {"b.yaml": entry("1"), "a.yaml": entry("2")})
    write_lock(file, {"b.yaml": entry("3")})

    assert read_lock(file).recipes == {"a.yaml": entry("2"), "b.yaml": entry("3")}
    assert file.read_text().endswith("}\n")
    assert [one.name for one in Path().iterdir()] == ["modswap.lock"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "l.lock: there is no lock file; write it: `modswap check RECIPE --lock`"),
        ("{", "l.lock: it is not a lock file: at 'its top': invalid json"),
        (
            '{"version": 2}',
            "l.lock: it is not a lock file: at 'version': input should be 1; rem",
        ),
        ('{"recipes": {"a": {}}}', "at 'recipes.a.recipe': field required"),
    ],
)
def test_lock_that_cannot_be_used_is_reported(text: str | None, said: str) -> None:
    if text is not None:
        Path("l.lock").write_text(text)

    with pytest.raises(UsageError) as error:
        read_lock(Path("l.lock"))

    assert said in str(error.value)


def test_folder_is_no_lock_file() -> None:
    Path("l.lock").mkdir()

    with pytest.raises(UsageError, match="the lock file cannot be read: it is a folder"):
        read_lock(Path("l.lock"))


def test_damaged_lock_is_not_written_over() -> None:
    Path("l.lock").write_text("notes of mine")

    with pytest.raises(UsageError, match="it is not a lock file"):
        write_lock(Path("l.lock"), {"a": entry("1")})

    assert Path("l.lock").read_text() == "notes of mine"


def test_recipes_are_named_as_seen_from_the_lock_file() -> None:
    assert key_of("configs/a.yaml", Path("modswap.lock")) == "configs/a.yaml"
    assert key_of(Path("configs/a.yaml").resolve(), Path("ci/modswap.lock")) == "../configs/a.yaml"


def test_recipe_is_known_by_its_bytes() -> None:
    Path("a.yaml").write_text("version: 1\n")

    assert digest_of_recipe("a.yaml") == hashlib.sha256(b"version: 1\n").hexdigest()


def test_recipe_that_cannot_be_read_again_is_reported() -> None:
    with pytest.raises(CheckpointError, match=r"none.yaml: it cannot be read: No such file"):
        digest_of_recipe("none.yaml")
    with pytest.raises(UsageError, match="standard input cannot be locked"):
        digest_of_recipe("-")


def test_small_file_is_known_by_all_its_bytes() -> None:
    Path("net.pt").write_bytes(b"abc")

    seen = fingerprint(Path("net.pt"), "net.pt")

    assert (seen.kind, seen.nbytes) == ("sha256", 3)
    assert seen.digest == hashlib.sha256(b"abc").hexdigest()


def test_missing_file_is_reported() -> None:
    with pytest.raises(CheckpointError, match=r"none.pt: it cannot be read: No such file"):
        fingerprint(Path("none.pt"), "none.pt")


@pytest.mark.parametrize("whole", [lock.MAX_WHOLE_BYTES, 0])
def test_folder_is_known_by_names_and_contents(whole: int) -> None:
    folder = Path("net")
    Path(folder, "inner").mkdir(parents=True)
    Path(folder, "inner", "a.bin").write_bytes(b"abc")
    Path(folder, "b.bin").write_bytes(b"abc")
    first = fingerprint(folder, "net", whole)

    Path(folder, "b.bin").write_bytes(b"abd")
    changed = fingerprint(folder, "net", whole)
    Path(folder, "b.bin").write_bytes(b"abc")
    Path(folder, "b.bin").rename(Path(folder, "c.bin"))
    renamed = fingerprint(folder, "net", whole)

    assert first.kind == ("sha256" if whole else "structure")
    assert first.nbytes == 6
    assert len({first.digest, changed.digest, renamed.digest}) == 3


def test_large_zip_is_known_by_its_records_checksums() -> None:
    weights = torch.zeros(LARGE // 4)
    torch.save({"a": weights, "step": 1}, "net.pt")
    first = fingerprint(Path("net.pt"), "net.pt", 0)
    torch.save({"a": weights, "step": 1}, "net.pt")
    again = fingerprint(Path("net.pt"), "net.pt", 0)

    weights[12345] = 1
    torch.save({"a": weights, "step": 1}, "net.pt")
    value = fingerprint(Path("net.pt"), "net.pt", 0)
    torch.save({"a": weights, "step": 2}, "net.pt")
    step = fingerprint(Path("net.pt"), "net.pt", 0)

    assert first == again
    assert first.kind == "structure"
    assert len({first.digest, value.digest, step.digest}) == 3


@pytest.mark.parametrize("place", [0, 8 << 20, -1])
@pytest.mark.parametrize("head", [b"", b"PK\3\4"], ids=["plain", "damaged zip"])
def test_other_large_file_is_known_by_its_head_and_pieces(place: int, head: bytes) -> None:
    content = bytearray(head + bytes(LARGE))
    Path("net.bin").write_bytes(content)
    first = fingerprint(Path("net.bin"), "net.bin", 0)

    content[place if place else 100] = 1
    Path("net.bin").write_bytes(content)
    second = fingerprint(Path("net.bin"), "net.bin", 0)

    assert first.digest != second.digest
    assert not zipfile.is_zipfile("net.bin")


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (os.mkfifo, "it is a pipe, expected a regular file"),
        (lambda file: file.symlink_to("/dev/zero"), "it is a device"),
        (
            lambda file: file.write_bytes(b"x" * (16 << 20 | 1)),
            "it is too large: it has 16,777,217",
        ),
        (lambda file: file.write_text("[" * 99_999), "its values are nested more than 100 deep"),
        (lambda file: file.write_text('{"version": 1, "version": 2}'), "it names 'version' twice"),
    ],
)
def test_lock_file_of_no_sense_is_refused_at_once(
    make: Callable[[Path], object], what: str, tmp_path: Path
) -> None:
    make(tmp_path / "x.lock")

    with pytest.raises(UsageError, match=f"the lock file cannot be read: {what}"):
        read_lock(tmp_path / "x.lock")


def test_recipe_out_of_a_pipe_cannot_be_locked() -> None:
    read, written = os.pipe()
    os.close(written)

    with pytest.raises(UsageError, match="it is no file, and cannot be locked"):
        digest_of_recipe(f"/dev/fd/{read}")
    os.close(read)


def test_empty_file_becomes_a_lock_file(tmp_path: Path) -> None:
    file = tmp_path / "x.lock"
    file.touch()

    write_lock(file, {"a": entry("1")})

    assert read_lock(file).recipes == {"a": entry("1")}


def test_what_changed_after_it_was_checked_is_not_locked() -> None:
    Path("a.yaml").write_text("version: 1\n")
    Path("net.pt").write_bytes(b"abc")
    checked = stamps_of(Path("net.pt"))

    assert fingerprint(Path("net.pt"), "net.pt", checked=checked).nbytes == 3
    Path("net.pt").write_bytes(b"abcd")
    with pytest.raises(CheckpointError, match="after it was checked"):
        fingerprint(Path("net.pt"), "net.pt", checked=checked)
    with pytest.raises(CheckpointError, match=r"a.yaml: it changed after it was checked"):
        digest_of_recipe("a.yaml", "0" * 64)
