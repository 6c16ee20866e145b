"""Of the processes that torchrun started one prints, and one says why all end."""

from pathlib import Path

import pytest

from modswap.cli import ranks
from modswap.cli.app import run
from tests.core.test_launch import OF_TORCHRUN


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in OF_TORCHRUN.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "1" / "error.json"))
    monkeypatch.setattr(ranks, "_PRINTED_SECONDS", 0.0)
    return tmp_path


def test_one_process_says_why_a_run_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks.may_complain()
    assert ranks.may_complain()
    monkeypatch.setattr("os.getpid", lambda: 1)
    assert not ranks.may_complain()


def test_every_process_complains_without_a_folder_of_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(folder / "gone" / "1" / "error.json"))
    assert ranks.may_complain()
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE")
    assert ranks.may_complain()


def test_commands_that_share_no_work_are_refused_under_torchrun(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["tree", "net.pt"]) == 2
    said = capsys.readouterr()
    assert "torchrun started 4 processes" in said.err
    assert "run it without torchrun" in said.err
    assert not said.out
