"""Every bad input is refused by every command: in words, in time, in bounds, and unexecuted."""

from pathlib import Path

import pytest

from tests.io.corpus import CASES
from tests.io.corpus.case import Case
from tests.io.worker import Worker

SECONDS = 10
MEMORY = 256 << 20  # bytes


def listing(folder: Path) -> list[tuple[str, int]]:
    """Return what stands in a folder, with when each last changed."""
    return sorted((str(file), file.lstat().st_mtime_ns) for file in folder.rglob("*"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_refused(case: Case, worker: Worker, tmp_path: Path) -> None:
    case.write(tmp_path)
    before = listing(tmp_path)
    for command in case.commands:
        ran = worker.run(case.args(command), tmp_path, seconds=SECONDS)

        assert ran.code == case.codes.get(command, case.code), f"{command}: {ran}"
        said = ran.err or " ".join(ran.out.split())  # a report says it on standard output
        assert "Traceback" not in said
        assert ran.code == 0 or case.says in said, f"{command}: {ran}"
        assert ran.grown < MEMORY, f"{command} took {ran.grown >> 20} MiB"
        if ran.code == 0:
            (tmp_path / "out.pt").unlink(missing_ok=True)
        assert listing(tmp_path) == before, command


def test_every_bad_input_has_a_name_of_its_own() -> None:
    names = [case.name for case in CASES]

    assert sorted(set(names)) == sorted(names)
