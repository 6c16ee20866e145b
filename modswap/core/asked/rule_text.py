"""A recipe that was made of options of the command line."""

from collections.abc import Mapping
from dataclasses import dataclass

COMMAND_LINE = "<command line>"  # in place of a recipe's file


@dataclass(frozen=True, slots=True)
class RuleText:
    """A recipe of one rule as YAML, with the option that gave each of its keys.

    A key is known by its place: `("replace", 0, "match")`.
    """

    text: str
    options: Mapping[tuple[str | int, ...], str]
