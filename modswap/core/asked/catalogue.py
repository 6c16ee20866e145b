"""The facts that the catalogue lists of a replacement, as plain data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OptionEntry:
    """An option of a replacement."""

    name: str  # as a recipe's `args` names it
    type: str  # in words, such as `integer, at least 1`
    default: str  # its default as YAML writes it; `auto` for what is observed
    meaning: str  # one line


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A replacement module of the catalogue."""

    name: str  # as a recipe's `with` names it
    summary: str  # the operation, in one line
    source: str  # paper, year, identifier
    shapes: str  # shapes of input and output
    terms: tuple[str, ...]  # names of expressions in the two that follow, as `name = expression`
    flops: str  # expression for the FLOPs of one sample
    memory: str  # expression for the bytes that one sample needs meanwhile
    options: tuple[OptionEntry, ...]
    example: str  # a rule in YAML
    spellings: tuple[str, ...] = ()  # other names of the module
