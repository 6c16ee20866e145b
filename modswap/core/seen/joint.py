"""The joint between a module and another one that is put in beside it."""

import re
from dataclasses import dataclass
from typing import Literal

Place = Literal["after", "before", "around", "instead"]
Form = Literal["add", "scale", "blend", "plain", "sum", "none"]
Key = str | int
PLACES: tuple[Place, ...] = ("after", "before", "around")


@dataclass(frozen=True, slots=True)
class Joint:
    """The place of a new module beside an old one, and the gate between them."""

    place: Place  # `instead`: both run, and the gate fades from the old one to the new one
    form: Form = "none"  # see `modswap.nn.insertion.Insertion`
    channels: int = 1  # of the gate: those of the tensor, or 1 where they are not known
    axes: int = 0  # axes of the tensor behind that of its channels
    source: tuple[Key, ...] = ()  # the input that is meant: an argument, and places inside it
    target: tuple[Key, ...] = ()  # the place of the output that is meant; empty for all of it

    @property
    def has_gate(self) -> bool:
        """Return whether a gate joins the modules."""
        return self.form not in {"plain", "sum", "none"}


def snake_case(name: str) -> str:
    """Return a class's name as that of an attribute: `SEBlock` as `se_block`."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z]{2})(?=[A-Z][a-z])", "_", name)
    return split.lower()


def free_name(wanted: str, taken: set[str]) -> str:
    """Return a name, with the first number behind it that makes it a free one."""
    number, name = 2, wanted
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    return name
