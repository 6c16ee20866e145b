"""The text of a recipe, and the place of each key in it: a line of a file, or an option."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

COMMAND_LINE = "<command line>"  # in place of a recipe's file

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a recipe was read from, so that errors can name file, line and column."""

    name: str = "<recipe>"  # file name as the user gave it, or `<stdin>`
    text: str = ""  # the recipe's text
    # line and column, counted from 1, of every key and list item
    lines: Mapping[Place, tuple[int, int]] = field(default_factory=dict)
    folder: str = "."  # folder against which the recipe's own file names are resolved
    # the option that gave each key, where the recipe was made of options of the command line
    options: Mapping[Place, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the text in hexadecimal."""
        return sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()

    def at(self, *place: str | int) -> str:
        """Return `file:line:column` of a key, or of the nearest key around it; or its option."""
        if self.options:
            ends = range(len(place), -1, -1)
            return next((self.options[place[:n]] for n in ends if place[:n] in self.options), "")
        line, column = self.line(*place)
        return f"{self.name}:{line}:{column}" if line else self.name

    def line(self, *place: str | int) -> tuple[int, int]:
        """Return line and column of a key, or of the nearest key around it; 0, 0 if unknown."""
        for end in range(len(place), -1, -1):
            if place[:end] in self.lines:
                return self.lines[place[:end]]
        return (0, 0)


@dataclass(frozen=True, slots=True)
class RuleText:
    """A recipe of one rule as YAML, with the option that gave each of its keys.

    A key is known by its place: `("replace", 0, "match")`.
    """

    text: str
    options: Mapping[Place, str]
