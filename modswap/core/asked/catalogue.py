"""The facts that the catalogue lists of a replacement, as plain data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OptionEntry:
    """An option of a replacement.

    Args:
        name: As a recipe's `args` names it.
        type: In words, such as `integer, at least 1`.
        default: Its default as YAML writes it; `auto` for what is observed.
        meaning: One line.
    """

    name: str
    type: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A replacement module of the catalogue.

    Args:
        name: As a recipe's `with` names it.
        summary: The operation, in one line.
        source: Paper, year, identifier.
        shapes: Shapes of input and output.
        terms: Names of expressions in the two that follow, as `name = expression`.
        flops: Expression for the FLOPs of one sample.
        memory: Expression for the bytes that one sample needs meanwhile.
        options: Options that a recipe may set.
        example: A rule in YAML.
    """

    name: str
    summary: str
    source: str
    shapes: str
    terms: tuple[str, ...]
    flops: str
    memory: str
    options: tuple[OptionEntry, ...]
    example: str
