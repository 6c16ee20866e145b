"""Files changed at random: every command ends in words, in time, in bounds, and unexecuted."""

from pathlib import Path

import pytest

from tests.io.corpus.raw import records_of
from tests.io.fuzz.changes import KINDS, operations
from tests.io.fuzz.mutations import broken, fuzzed, search, verdict
from tests.io.worker import Ran, Worker

QUICK = {"pickle": 12, "directory": 8, "legacy": 6, "safetensors": 6, "recipe": 6}
TRIES = {"pickle": 300, "directory": 200, "legacy": 150, "safetensors": 150, "recipe": 150}


def check(kind: str, numbers: range, worker: Worker) -> None:
    for number in numbers:
        one = fuzzed(kind, f"ci:{number}")

        assert not broken(one, worker), f"fuzzed({kind!r}, 'ci:{number}') with {one.command}"


@pytest.mark.parametrize("kind", KINDS)
def test_changed_file_is_read_or_refused(kind: str, worker: Worker) -> None:
    check(kind, range(QUICK[kind]), worker)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_changed_files_are_read_or_refused(kind: str, worker: Worker) -> None:
    check(kind, range(QUICK[kind], TRIES[kind]), worker)


def test_same_seed_gives_the_same_file() -> None:
    for kind in KINDS:
        assert fuzzed(kind, "1") == fuzzed(kind, "1")
        assert len({fuzzed(kind, str(n)).content for n in range(20)}) > 10


def test_pickle_is_cut_into_all_of_its_operations() -> None:
    code = records_of("module")["data.pkl"]

    parts = operations(code)

    assert b"".join(parts) == code
    assert len(parts) > 100


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "it died (-9)"),
        ("import time; time.sleep(60)", "took over 0.2 s"),
    ],
)
def test_process_that_dies_or_hangs_is_reported_and_the_next_run_has_another(
    source: str, what: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.py").write_text(source)
    (tmp_path / "good.py").write_text("")
    worker = Worker(warm=False)
    try:
        seconds = 60 if "died" in what else 0.2
        ran = worker.run(["python", "bad.py"], tmp_path, seconds=seconds)
        after = worker.run(["python", "good.py"], tmp_path, seconds=60)
    finally:
        worker.close()

    assert ran.code is None
    assert what in ran.err
    assert after.code == 0


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
def test_broken_promise_is_reported(ran: Ran, left: list[str], told: str) -> None:
    assert (told in verdict(ran, left)) if told else verdict(ran, left) == ""


def test_search_says_its_seed_and_what_it_tried(
    worker: Worker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep = tmp_path / "found"

    assert search(0.01, "7", keep, worker) == 0
    assert "seed 7\n" in capsys.readouterr().out
    assert not keep.exists()
