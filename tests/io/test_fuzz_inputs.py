"""Inputs that the fuzzer found are replayed by every reader: read or refused, and nothing runs.

Covers the files of tests/io/fuzz but `changes` and `mutations`, which tests/io/test_fuzz.py covers.
"""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.io.fuzz import guided, targets
from tests.io.fuzz.guided import Ended, main
from tests.io.fuzz.inputs import ARCHIVE, MAX_ARCHIVE_BYTES, keep, kept, runner
from tests.io.fuzz.targets import TARGETS, Target
from tests.io.fuzz.watch import RanError, nothing_runs


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", TARGETS)
def test_every_input_is_read_or_refused(name: str) -> None:
    with runner(TARGETS[name]) as run:
        for data in [*TARGETS[name].seeds(), *kept().get(name, ())]:
            run(data)


@pytest.mark.parametrize("name", ["pickle", "rewrite", "recipe", "distributed", "load_pickle"])
def test_sound_input_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target whose sound inputs were refused would fuzz nothing."""
    monkeypatch.setattr(targets, "REFUSED", ())
    with runner(TARGETS[name]) as run:
        run(next(iter(TARGETS[name].seeds())))


def test_inputs_of_every_target_are_kept_and_small() -> None:
    assert set(kept()) == set(TARGETS)
    assert ARCHIVE.stat().st_size <= MAX_ARCHIVE_BYTES


def test_archive_gives_back_the_inputs_and_is_the_same_each_time(tmp_path: Path) -> None:
    inputs = {"b": [b"two", b"", b"two"], "a": [b"\xff\0"]}
    first, second = tmp_path / "1.tar.xz", tmp_path / "2.tar.xz"

    keep(inputs, first)
    keep(dict(reversed(inputs.items())), second)

    assert kept(first) == {"a": [b"\xff\0"], "b": [b"", b"two"]}
    assert first.read_bytes() == second.read_bytes()
    assert kept(tmp_path / "none") == {}


def _run(code: Callable[[], object]) -> Target:
    def run(data: bytes, folder: Path) -> None:
        del folder
        if data:
            code()

    return Target(run, lambda: [b""], lambda data, _: data)


@pytest.mark.parametrize(
    "code",
    [
        lambda: os.system("true"),
        lambda: importlib.import_module("no_such_package_of_a_file"),
        lambda: Path("canary").write_text("x"),
        lambda: os.open("canary", os.O_WRONLY | os.O_CREAT),
    ],
    ids=["a program", "an import", "a file elsewhere", "a descriptor elsewhere"],
)
def test_code_that_an_input_runs_is_noticed(
    code: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with runner(_run(code)) as run, pytest.raises(RanError):
        run(b"x")

    assert not list(tmp_path.iterdir())


def test_files_in_the_folder_of_an_input_may_be_written(tmp_path: Path) -> None:
    with nothing_runs(tmp_path):
        (tmp_path / "net.pt").write_bytes(b"x")
    os.system("true")  # outside the block nothing is watched


@pytest.mark.parametrize("name", TARGETS)
def test_changes_keep_to_bytes_and_differ(name: str) -> None:
    target = TARGETS[name]
    for data in [*target.seeds(), b"", b"\xff{"]:
        changed = {target.change(data, Random(seed)) for seed in range(8)}

        assert all(isinstance(one, bytes) for one in changed)
        assert len(changed) > 1


def test_search_divides_the_time_and_counts_the_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {}

    def search(name: str, seconds: int, *_: object) -> Ended:
        asked[name] = seconds
        return Ended(name, 10, 20, b"TypeError" if name == "text" else b"")

    monkeypatch.setattr(guided, "search", search)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())

    code = main(["--minutes", "1", "--jobs", "2", "--target", "text", "--target", "zip"])

    assert code == 1
    assert asked == {"text": 60, "zip": 60}
    assert "20 branches, FOUND A FAULT\nTypeError" in capsys.readouterr().out


def test_without_atheris_the_search_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(SystemExit):
        main([])

    assert "pip install -e '.[fuzz]'" in capsys.readouterr().err


@pytest.mark.slow
def test_search_guided_by_coverage_learns_inputs(tmp_path: Path) -> None:
    pytest.importorskip("atheris")

    ended = guided.search("text", 2, [b"{}"], tmp_path / "new", tmp_path / "found")

    assert not ended.said, ended.said
    assert ended.tried > 10
    assert ended.covered > 10
    assert guided.merged("text", tmp_path / "new", tmp_path / "merged")
