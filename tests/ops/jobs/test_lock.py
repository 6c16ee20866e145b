"""Lock files: they are written where all checks hold, and later outcomes are compared with them."""

from dataclasses import replace
from pathlib import Path

import pytest

from modswap.core.errors import DriftError, UsageError
from modswap.core.kept.outcome import Outcome
from modswap.ops.jobs.lock import compared, lock, locked_entries


@pytest.fixture
def outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    monkeypatch.chdir(tmp_path)
    Path("net.pt").write_bytes(b"weights")
    Path("swap.yaml").write_text("version: 1\nreplace: []\n")
    return Outcome("check", "net.pt", "swap.yaml")


LOCK = Path("modswap.lock")


def test_same_files_agree_with_their_lock(outcome: Outcome) -> None:
    assert lock([outcome], LOCK)

    (entry,) = locked_entries(["swap.yaml"], LOCK)

    assert compared(outcome, entry, LOCK) == outcome


def test_nothing_is_written_unless_all_recipes_hold(outcome: Outcome) -> None:
    failed = replace(outcome, error=UsageError("wrong"))

    assert not lock([outcome, failed], LOCK)
    assert not LOCK.exists()


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("swap.yaml", "version: 1\nreplace: [] # more\n", "swap.yaml: recipe was "),
        ("net.pt", "other weights", "swap.yaml: checkpoint was net.pt ("),
    ],
)
def test_each_fact_that_differs_is_an_error(
    outcome: Outcome, file: str, text: str, said: str
) -> None:
    lock([outcome], LOCK)
    (entry,) = locked_entries(["swap.yaml"], LOCK)
    Path(file).write_text(text)

    error = compared(outcome, entry, LOCK).error

    assert isinstance(error, DriftError)
    assert str(error).startswith(said)
    assert error.more == ()


def test_recipe_without_an_entry_is_refused(outcome: Outcome) -> None:
    lock([outcome], LOCK)

    with pytest.raises(UsageError, match=r"^other.yaml: modswap.lock has no entry for it"):
        locked_entries(["swap.yaml", "other.yaml"], LOCK)
