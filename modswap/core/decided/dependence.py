"""Compare which outputs depend on which inputs, before and after a swap."""

from collections.abc import Iterable
from dataclasses import dataclass

CLEAR_RATIO = 1e-4  # relative change of an output that is more than rounding
STILL_RATIO = 1e-6  # a smaller change counts as none


@dataclass(frozen=True, slots=True)
class InputChange:
    """The change of the outputs of two modules when the same input is changed."""

    cause: str  # name of the input
    old: float  # largest change of the original's outputs, relative to their size
    new: float  # the same of the new module

    @property
    def lost(self) -> bool:
        """Return whether the input changed the original, and does not change the new module."""
        return self.old > CLEAR_RATIO and self.new <= STILL_RATIO

    @property
    def gained(self) -> bool:
        """Return whether the input changes the new module, and never changed the original."""
        return self.old <= STILL_RATIO and self.new > CLEAR_RATIO


def is_causal(backward: Iterable[float], forward: float) -> bool:
    """Return whether tokens of the original see earlier ones, and no later ones.

    `backward` are changes of the outputs of earlier tokens with later inputs, `forward` is that of
    later tokens with earlier inputs. A module that treats each token alone has no order to lose.
    """
    return all(change <= STILL_RATIO for change in backward) and forward > CLEAR_RATIO
