"""The properties of an outcome."""

from modswap.core.errors import CheckpointError
from modswap.core.kept.outcome import Outcome


def test_outcome_without_an_error_ends_with_zero() -> None:
    outcome = Outcome("replace", "net.pt", "swap.yaml")

    assert outcome.ok
    assert outcome.exit_code == 0


def test_outcome_with_an_error_ends_with_its_code() -> None:
    outcome = Outcome("replace", "net.pt", "swap.yaml", error=CheckpointError("full"))

    assert not outcome.ok
    assert outcome.exit_code == 3
