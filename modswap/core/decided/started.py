"""The record of the start of a new module's weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Started:
    """The start of a new module's weights.

    Args:
        start: `fresh`, `inherit` or `donor`.
        mapped: Where the weights that did not begin fresh come from, by their names in the module.
        notes: Sentences for the report.
        valued: Whether the values are in the module; false where no weights were read.
    """

    start: str = "fresh"
    mapped: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()
    valued: bool = True

    def under(self, prefix: str) -> "Started":
        """Return the same for a module around the one whose weights these are."""
        mapped = {f"{prefix}{name}": source for name, source in self.mapped.items()}
        return replace(self, mapped=mapped)


FRESH = Started()
