"""The dummy input that was found, where neither the command nor the recipe gave one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # its import takes a tenth of a second
    from modswap.core.asked.recipe import CallInput, TensorInput


@dataclass(frozen=True, slots=True)
class FoundInput:
    """A dummy input that was found.

    Args:
        shown: Its calls in words: `(1, 3, 224, 224)`.
        why: The reason why it was taken.
        inputs: The calls as a recipe's `inputs`; empty if a recipe cannot say them.
    """

    shown: str
    why: str
    inputs: "tuple[TensorInput | CallInput, ...]" = ()

    @property
    def note(self) -> str:
        """Return the sentence for a report."""
        return f"no input was given: took {self.shown}, {self.why}"
