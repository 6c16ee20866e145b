"""Every bad input is refused by every command: in words, in time, in bounds, and unexecuted."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.fixes.calls import Call
from tests.fixes.said import errors
from tests.fixes.ways import ways
from tests.io.corpus import CASES
from tests.io.corpus.case import Case, net
from tests.io.worker import Ran, Worker

SLOW = (pytest.mark.slow,)
# of ten cases one is quick and another runs before a change lands; each has one command in turn
TIERS = ((), SLOW, (*SLOW, pytest.mark.ci), SLOW, SLOW, SLOW, SLOW, SLOW, SLOW, SLOW)
SECONDS = 10  # of the processor
MAX_WAIT_SECONDS = 120  # on a busy machine
MEMORY = 256 << 20  # bytes


def listing(folder: Path) -> list[tuple[str, int]]:
    """Return the entries of a folder, with when each last changed."""
    return sorted((str(file), file.lstat().st_mtime_ns) for file in folder.rglob("*"))


def check(case: Case, commands: Sequence[str], worker: Worker, folder: Path) -> None:
    case.write(folder)
    before = listing(folder)
    for command in commands:
        ran = worker.run(case.args(command), folder, seconds=MAX_WAIT_SECONDS)

        assert ran.code == case.codes.get(command, case.code), f"{command}: {ran}"
        said = ran.err or " ".join(ran.out.split())  # a report says it on standard output
        assert "Traceback" not in said
        assert ran.code == 0 or case.says in said, f"{command}: {ran}"
        assert ran.seconds < SECONDS, f"{command} took {ran.seconds:.1f} s"
        assert ran.grown < MEMORY, f"{command} took {ran.grown >> 20} MiB"
        check_advice(case.args(command), ran, worker, folder)
        if ran.code == 0:
            (folder / "out.pt").unlink(missing_ok=True)
        assert listing(folder) == before, command


def check_advice(args: Sequence[str], ran: Ran, worker: Worker, folder: Path) -> None:
    """Take every fix that is an option, but for full trust: its error may not come again."""
    if args[0] == "load" or not ran.code:  # its advice names arguments
        return
    for error in errors(ran.err):
        for way in ways(Call(tuple(args)), error.what, error.fix):
            # a file beside it would be run
            if "--trust" in way.taken or ".py." in f"{way.taken}.":
                continue
            again = worker.run(way.args, folder, seconds=MAX_WAIT_SECONDS)

            back = [one.what for one in errors(again.err) if one.what == error.what]
            assert again.code == 0 or not back, f"{way.taken}: {back}"


@pytest.mark.parametrize(
    ("number", "case"),
    [
        pytest.param(n, case, id=case.name, marks=TIERS[n % len(TIERS)])
        for n, case in enumerate(CASES)
    ],
)
def test_bad_input_is_refused(number: int, case: Case, worker: Worker, tmp_path: Path) -> None:
    """Try one command, in turn; all of them take longer."""
    check(case, [case.commands[number % len(case.commands)]], worker, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_refused_by_every_command(case: Case, worker: Worker, tmp_path: Path) -> None:
    check(case, case.commands, worker, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        # some of each kind in CI
        pytest.param(case, id=case.name, marks=[pytest.mark.ci] * (n % 32 == 0))
        for n, case in enumerate(CASES)
    ],
)
def test_bad_input_is_compared_or_refused(case: Case, worker: Worker, tmp_path: Path) -> None:
    case.write(tmp_path)
    torch.save(net(), tmp_path / "sound.pt")
    before = listing(tmp_path)

    ran = worker.run(["diff", case.file, "sound.pt"], tmp_path, seconds=MAX_WAIT_SECONDS)

    assert ran.code in {0, 1, 3, 4}, ran
    assert "Traceback" not in ran.out + ran.err
    assert ran.seconds < SECONDS, f"diff took {ran.seconds:.1f} s"
    assert ran.grown < MEMORY, f"diff took {ran.grown >> 20} MiB"
    assert listing(tmp_path) == before


def test_every_bad_input_has_a_name_of_its_own() -> None:
    names = [case.name for case in CASES]

    assert sorted(set(names)) == sorted(names)
