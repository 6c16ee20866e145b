"""Deciding what a swap changed in what depends on what."""

from collections.abc import Iterable
from dataclasses import dataclass

CLEAR = 1e-4  # relative change of an output that no rounding makes
STILL = 1e-6  # below it nothing changed


@dataclass(frozen=True, slots=True)
class Moves:
    """How far two modules' outputs move when the same thing is changed.

    Args:
        cause: What was changed, in words.
        old: Largest change of the original's outputs, relative to their size.
        new: The same of the new module.
    """

    cause: str
    old: float
    new: float

    @property
    def lost(self) -> bool:
        """Return whether it moved the original, and does not move the new module."""
        return self.old > CLEAR and self.new <= STILL

    @property
    def gained(self) -> bool:
        """Return whether it moves the new module, and never moved the original."""
        return self.old <= STILL and self.new > CLEAR


def is_causal(backward: Iterable[float], forward: float) -> bool:
    """Return whether tokens of the original see earlier ones, and no later ones.

    A module that treats each token alone has no order that could be lost.

    Args:
        backward: How far the outputs of earlier tokens move with later inputs.
        forward: How far those of later tokens move with earlier inputs.
    """
    return all(one <= STILL for one in backward) and forward > CLEAR


def ignored(moves: Iterable[Moves]) -> tuple[str, ...]:
    """Return the inputs that moved the original and do not move the new module."""
    return tuple(one.cause for one in moves if one.lost)
