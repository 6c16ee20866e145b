"""Texts about a module in the languages that `explain` speaks, both always there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

LANGUAGES = ("en", "zh")


class Words(NamedTuple):
    """A text in English and in Chinese."""

    en: str
    zh: str

    def into(self, language: str) -> str:
        """Return the text in one of `LANGUAGES`."""
        return self.zh if language == "zh" else self.en


NO_WORDS: Mapping[str, Words] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ModuleText:
    """The explanation of a module of the catalogue.

    Args:
        summary: Its idea in a few sentences.
        equation: The paper's equations, a line each, in the paper's symbols.
        symbols: The meaning of each symbol of the equations.
        options: The meaning of each argument of the constructor.
        steps: The explanation of each step: by the name of the function, and by the names that
            the statement sets.
    """

    summary: Words
    equation: tuple[str | Words, ...]
    symbols: Mapping[str, Words]
    options: Mapping[str, Words]
    steps: Mapping[str, Mapping[str, Words]] = field(default_factory=lambda: MappingProxyType({}))

    def equations(self, language: str) -> list[str]:
        """Return the equations, with their remarks in a language."""
        return [one.into(language) if isinstance(one, Words) else one for one in self.equation]

    def step(self, function: str, key: str) -> Words | None:
        """Return the explanation of a statement; None if it has none."""
        return self.steps.get(function, NO_WORDS).get(key)
