"""Files changed at random: every command ends in words, in time, in bounds, and unexecuted."""

from pathlib import Path

import pytest

from tests.io.corpus.raw import records_of, torch_zip
from tests.io.fuzzing import KINDS, broken, fuzzed, operations, search, verdict
from tests.io.worker import Ran, Worker

TRIES = {"pickle": 300, "directory": 200, "legacy": 150, "safetensors": 150, "recipe": 150}


@pytest.mark.parametrize("kind", KINDS)
def test_changed_file_is_read_or_refused(kind: str, worker: Worker) -> None:
    for number in range(TRIES[kind]):
        one = fuzzed(kind, f"ci:{number}")

        assert not broken(one, worker), f"fuzzed({kind!r}, 'ci:{number}') with {one.command}"


def test_same_seed_gives_the_same_file() -> None:
    for kind in KINDS:
        assert fuzzed(kind, "1") == fuzzed(kind, "1")
        assert len({fuzzed(kind, str(n)).content for n in range(20)}) > 10


def test_pickle_is_cut_into_all_of_its_operations() -> None:
    code = records_of("module")["data.pkl"]

    parts = operations(code)

    assert b"".join(parts) == code
    assert len(parts) > 100


def test_process_that_dies_or_hangs_is_told_and_the_next_run_has_another(
    worker: Worker, tmp_path: Path
) -> None:
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    hang = "import time; time.sleep(60)"
    for source, what in ((kill, "it died (-9)"), (hang, "took over 1 s")):
        (tmp_path / "nets.py").write_text(source)
        (tmp_path / "net.pt").write_bytes(torch_zip("weights"))
        ran = worker.run(["tree", "net.pt", "--model", "nets.py:build"], tmp_path, seconds=1)

        assert ran.code is None
        assert what in ran.err


@pytest.mark.parametrize(
    ("ran", "left", "told"),
    [
        (Ran(0, ""), [], ""),
        (Ran(4, "error"), [], ""),
        (Ran(70, "a bug"), [], "it ended with 70: a bug"),
        (Ran(None, "it died"), [], "it ended with None: it died"),
        (Ran(3, "Traceback (most recent"), [], "it ended with 3: Traceback"),
        (Ran(3, ""), [], "said nothing"),
        (Ran(3, "error", grown=1 << 30), [], "it took 1024 MiB"),
        (Ran(3, "error"), ["canary"], "it left or took away canary"),
    ],
)
def test_broken_promise_is_told(ran: Ran, left: list[str], told: str) -> None:
    assert (told in verdict(ran, left)) if told else verdict(ran, left) == ""


def test_search_says_its_seed_and_what_it_tried(
    worker: Worker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep = tmp_path / "found"

    assert search(0.01, "7", keep, worker) == 0
    assert "seed 7\n" in capsys.readouterr().out
    assert not keep.exists()
