"""What a row of the catalogue holds, and reading the options that a recipe gives for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from modswap.core.blueprint import Blueprint
from modswap.core.errors import RecipeError, together
from modswap.core.nearest import did_you_mean
from modswap.core.site import Site


class Options(BaseModel):
    """Base of what a recipe may set for one module; None stands for what is observed."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), strict=True)


class Fit(Protocol):
    """Decides how to make a module for a site; builds nothing."""

    def __call__(self, site: Site, options: Any, *, adapt: bool) -> Blueprint:
        """Return how to make the module.

        Raises:
            ShapeError: If it cannot be fitted to the site.
            RecipeError: If the options do not go together.
        """


@dataclass(frozen=True, slots=True)
class Replacement:
    """A row of the catalogue.

    Args:
        name: As a recipe's `with` names it.
        summary: What it does, in one line.
        source: Paper, year, identifier.
        shapes: What it takes and gives.
        options: What a recipe may set under `args`.
        fit: Decides how to make it for a site.
        module: The layer.
        example: A rule in YAML.
    """

    name: str
    summary: str
    source: str
    shapes: str
    options: type[Options]
    fit: Fit
    module: Callable[..., nn.Module]
    example: str


def read_options(row: Replacement, args: Mapping[str, Any], at: Callable[[str], str]) -> Any:
    """Return the options of a rule, checked.

    Args:
        row: The row of the catalogue.
        args: What the rule says under `args`; `auto` is as good as left out.
        at: Gives the place of an argument in the recipe.

    Raises:
        RecipeError: If any argument is unknown or of a wrong type or range; all are named.
    """
    given = {name: value for name, value in args.items() if value != "auto"}
    try:
        return row.options.model_validate(given)
    except ValidationError as error:
        known = list(row.options.model_fields)
        unknown = [RecipeError(f"{row.name} has no argument {name!r}", at(name), _hint(name, known))
                   for name in args if name not in known]  # fmt: skip
        found = {str(e["loc"][0]): e for e in error.errors() if e["type"] != "extra_forbidden"}
        wrong = [
            RecipeError(f"{name} is {given[name]!r}, {_expected(detail)}", at(name), "correct it")
            for name, detail in found.items()
        ]
        raise together([*unknown, *wrong]) from None


def _hint(name: str, known: list[str]) -> str:
    if name == "layout":
        return "say `layout` beside `args`, not inside"
    return did_you_mean(name, known) or f"it has {', '.join(known)}"


def _expected(detail: Any) -> str:
    message = str(detail["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
    return f"expected {message[:1].lower()}{message[1:]}"
