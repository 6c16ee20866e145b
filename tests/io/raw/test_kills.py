"""Writers are killed, or fail, at every system call that changes files: nothing is lost."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.io.raw.killing import NEW, RECIPE, Ended, Killer, names, swap_args, why_not

WHY = why_not()
pytestmark = pytest.mark.skipif(bool(WHY), reason=WHY)
ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EACCES)
REMOVING = {"unlink", "unlinkat", "rmdir", "rename"}
MAX_STEPS = 200
SLOW = [pytest.mark.slow, pytest.mark.ci]


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    """Yield a process that puts files and folders in their place."""
    made = Killer(command=False)
    yield made
    made.close()


@pytest.fixture(scope="module")
def command() -> Iterator[Killer]:
    """Yield a process that runs the command; torch is imported once."""
    made = Killer(command=True)
    yield made
    made.close()


def contents(place: Path) -> dict[str, bytes]:
    """Return everything in a folder, or a file under an empty name; nothing if it is missing."""
    if place.is_file():
        return {"": place.read_bytes()}
    return {
        str(file.relative_to(place)): str(file.readlink()).encode()
        if file.is_symlink()
        else file.read_bytes()
        for file in place.rglob("*")
        if file.is_symlink() or file.is_file()
    }


def write_old(out: Path, what: str) -> None:
    if what == "folder":
        (out / "kept").mkdir(parents=True)
        # so it is known as one that was written before
        (out / "modswap.json").write_text('{"recipe": "old", "receipt": "old"}')
        (out / "kept" / "old").write_text("old")
    elif what == "file":
        out.write_text("old")


# (what is written, what is there before, whether the system can exchange folders)
PUTS = [
    pytest.param("file", "file", True, id="file"),
    pytest.param("file", "", True, id="new file", marks=SLOW),
    pytest.param("folder", "folder", True, id="folder"),
    pytest.param("folder", "", True, id="new folder", marks=SLOW),
    pytest.param("folder", "folder", False, id="folder in steps"),
]


def remove(place: Path) -> None:
    for inner in sorted(place.rglob("*"), reverse=True) if place.is_dir() else ():
        inner.rmdir() if inner.is_dir() and not inner.is_symlink() else inner.unlink()
    if place.is_dir():
        place.rmdir()
    else:
        place.unlink(missing_ok=True)


def new(what: str) -> dict[str, bytes]:
    return dict.fromkeys(NEW if what == "folder" else ("",), b"new")


@pytest.mark.parametrize(("what", "before", "exchange"), PUTS)
def test_killed_before_any_step_leaves_the_old_or_the_new(
    what: str, before: str, exchange: bool, killer: Killer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_old(out, before)
    old, seen = contents(out), list[dict[str, bytes]]()
    code: int | None = None
    while code is None:
        remove(out)
        write_old(out, before)

        ended = killer.run(["put", what, out], kill=len(seen) + 1, exchange=exchange)
        left = contents(out)
        seen.append(left)

        assert left in (old, new(what)) or not (exchange or left), ended.steps
        again = killer.run(["put", what, tmp_path / "out"])
        assert (again.code, again.said) == (0, "")
        assert contents(out) == new(what)
        assert names(tmp_path) == ["out"], ended.steps
        code = ended.code
    assert code == 0
    assert seen[0] == old
    assert len(seen) > 5
    assert ({} in seen) == (not exchange or not before)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_folder_that_lost_its_place_gets_it_back_before_another_is_written(
    what: str, killer: Killer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_old(out, "folder")
    old = contents(out)
    steps = killer.run(["put", "folder", out], exchange=False).steps
    remove(out)
    write_old(out, "folder")
    between = len(steps) - steps[::-1].index("rename", steps[::-1].index("rename") + 1)
    killer.run(["put", "folder", out], exchange=False, kill=between)
    assert not out.exists()

    failed = killer.run(["put", what, out], fail=(3, errno.EIO))

    assert failed.code == 3
    assert contents(out) == old
    assert killer.run(["put", "folder", out]).code == 0
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(("what", "before", "exchange"), PUTS)
@pytest.mark.parametrize(
    "number",
    [
        errno.EIO,
        pytest.param(errno.ENOSPC, marks=SLOW),
        *(pytest.param(number, marks=pytest.mark.slow) for number in ERRORS[2:]),
    ],
    ids=errno.errorcode.get,
)
def test_error_of_any_step_leaves_the_old_and_no_litter(
    number: int, what: str, before: str, exchange: bool, killer: Killer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    codes = []
    for step in range(1, MAX_STEPS):
        remove(out)
        write_old(out, before)
        old = contents(out)

        ended = killer.run(["put", what, out], fail=(step, number), exchange=exchange)
        failed = ended.steps[step - 1] if len(ended.steps) >= step else ""

        codes.append(ended.code)
        assert ended.code in {0, 3}, ended.said
        assert contents(out) == (new(what) if ended.code == 0 else old), failed
        if ended.code:
            assert "it cannot be written: " in ended.said or "no space left" in ended.said
        if failed in REMOVING:  # what was not removed, the next run removes
            assert killer.run(["put", what, out]).code == 0
        assert set(names(tmp_path)) <= {"out"}, failed
        if not failed:
            break
    assert codes[-1] == 0
    assert codes.count(3) > 2


def write_input(folder: Path, end: str) -> None:
    """Write a model, as a file or a folder, and the recipe."""
    import torch
    from safetensors.torch import save_file

    weights = {"gate.weight": torch.ones(8, 8, 1, 1), "stem.weight": torch.ones(999)}
    (folder / "swap.yaml").write_text(RECIPE)
    if end:
        save_file(weights, folder / f"in{end}")
        return
    (folder / "in" / "sub").mkdir(parents=True)
    save_file(weights, folder / "in" / "model.safetensors")
    (folder / "in" / "sub" / "words.txt").write_text("words")
    (folder / "in" / "words.txt").symlink_to("sub/words.txt")


def sweep(command: Killer, folder: Path, end: str, before: str, *, exchange: bool) -> list[Ended]:
    """Kill a swap before each of its steps; return how each ended."""
    write_input(folder, end)
    source, out, args = folder / f"in{end}", folder / f"out{end}", swap_args(folder, end)
    whole = contents(source)
    assert command.run(args).code == 0
    made, there = contents(out), set(names(folder))
    ends: list[Ended] = []
    while not ends or ends[-1].code is None:
        remove(out)
        write_old(out, before)
        old = contents(out)
        ends.append(command.run(args, kill=len(ends) + 1, exchange=exchange))
        left = contents(out)
        assert left in (old, made) or not (exchange or left), ends[-1].steps
        again = command.run(args)
        assert again.code == 0, again.said
        assert contents(out) == made
        assert contents(source) == whole
        assert set(names(folder)) == there, ends[-1].steps
    return ends


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "before", "exchange"),
    [
        pytest.param(".safetensors", "file", True, marks=pytest.mark.ci),
        (".safetensors", "", True),
        ("", "folder", True),
        ("", "", True),
        ("", "folder", False),
    ],
)
def test_swap_that_is_killed_before_any_step_loses_nothing(
    end: str, before: str, exchange: bool, command: Killer, tmp_path: Path
) -> None:
    ends = sweep(command, tmp_path, end, before, exchange=exchange)

    assert ends[-1].code == 0
    assert len(ends) > (20 if not end else 10)
    put = "renameat2" if before == "folder" and exchange else "rename"
    assert put in ends[-1].steps or end


@pytest.mark.slow
@pytest.mark.parametrize("end", [".safetensors", ""])
@pytest.mark.parametrize("number", [errno.EIO, errno.EDQUOT], ids=errno.errorcode.get)
def test_swap_whose_step_fails_ends_with_code_3_and_the_old_output(
    number: int, end: str, command: Killer, tmp_path: Path
) -> None:
    write_input(tmp_path, end)
    out, args = tmp_path / f"out{end}", swap_args(tmp_path, end)
    assert command.run(args).code == 0
    made, there = contents(out), set(names(tmp_path))
    step, failed = 0, "first"
    while failed:
        step += 1
        remove(out)
        write_old(out, "file" if end else "folder")
        old = contents(out)
        ended = command.run(args, fail=(step, number))
        failed = ended.steps[step - 1] if len(ended.steps) >= step else ""
        assert ended.code in {0, 3}, ended.said
        assert contents(out) == (made if ended.code == 0 else old), failed
        if failed not in REMOVING:
            assert set(names(tmp_path)) == there, failed
