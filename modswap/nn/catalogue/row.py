"""The record of a catalogue row, and the check of its arguments in a recipe."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from modswap.core.asked.rules.rule import Rule
from modswap.core.decided.blueprint import Blueprint
from modswap.core.errors import RecipeError, together
from modswap.core.finding import HERE, Settings
from modswap.core.seen.site import Site
from modswap.core.words.nearest import did_you_mean, in_question, nearest

if TYPE_CHECKING:
    from torch import nn

AUTO = "auto"


class Conflict(NamedTuple):
    """Two options that exclude each other.

    Args:
        option: The option whose line the error names.
        what: The conflict, with both values.
        fix: The remedy.
        settings: Options with values that could mend it.
    """

    option: str
    what: str
    fix: str
    settings: Settings = ()


class Options(BaseModel):
    """Base of a row's options; the value None is replaced by the observation at the site."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )

    def conflicts(self) -> Iterator[Conflict]:
        """Yield the pairs of options that exclude each other at every site."""
        yield from ()


class Fit(Protocol):
    """The decision how a module is made for a site; needs no torch."""

    def __call__(self, site: Site, options: Any, *, adapt: bool) -> Blueprint:
        """Return how to make the module for a site.

        The options are of the row's own class; None means the value of the site. `adapt` allows a
        projection or pooling behind the module.

        Raises:
            ShapeError: If it cannot be fitted to the site.
        """


class SampleCost(NamedTuple):
    """The cost of a module for one sample."""

    flops: int  # multiplications and additions, two for each pair of them
    memory: int  # bytes beside input, output and weights, at the worst moment without gradients


@dataclass(frozen=True, slots=True)
class Replacement:
    """A row of the catalogue.

    Args:
        name: Name in recipes; the class's own name.
        summary: Description in one line.
        source: Paper, year and identifier.
        shapes: Shapes of input and output.
        options: Class of the options.
        fit: Chooses the options that the recipe leaves open.
        module: The class.
        flops: Multiplications and additions for one sample, two for each pair of them: an
            expression of H and W (or L = H*W), the options and the terms, as Python reads it.
        memory: Bytes that the forward pass needs for one sample beside input, output and weights,
            at the worst moment without gradients: such an expression, with `itemsize` bytes a
            number. Buffers of a fixed size, a megabyte or so, are left out.
        example: A rule in YAML.
        terms: Expressions that both use, by name; they may call `ceil`.
        spellings: Other names of the same module in other libraries and papers.
        gates: Whether it returns its input multiplied by weights.
    """

    name: str
    summary: str
    source: str
    shapes: str
    options: type[Options]
    fit: Fit
    module: "Callable[..., nn.Module]"
    flops: str
    memory: str
    example: str
    terms: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    spellings: tuple[str, ...] = ()
    gates: bool = False

    def cost(
        self, args: Mapping[str, Any], height: int, width: int, itemsize: int = 4
    ) -> SampleCost:
        """Return the cost of the module for one sample.

        Args:
            args: Its arguments, all of them, as a blueprint has them.
            height: Height of its map.
            width: Width of its map.
            itemsize: Bytes of a number.
        """
        known = {"H": height, "W": width, "L": height * width, "itemsize": itemsize, **args}
        names = {"__builtins__": {}, "ceil": ceil, "max": max, "min": min}
        for name, term in self.terms.items():
            known[name] = eval(term, names, known)  # noqa: S307 - the row's own code
        flops, memory = (eval(text, names, known) for text in (self.flops, self.memory))  # noqa: S307 - the row's own code
        return SampleCost(int(flops), int(memory))


def attention_example(name: str, args: str) -> str:
    """Return a rule in YAML that puts the row's module in place of all attention modules."""
    return f'- match: "**.attn"\n  with: {name}\n  args: {{{args}}}\n'


def read_options(row: Replacement, args: Mapping[str, Any], at: Callable[[str], str]) -> Options:
    """Return a rule's arguments as the row's options; `auto` leaves an option open.

    `at` gives the `file:line:column` of an argument.

    Raises:
        RecipeError: If arguments are unknown or wrong or exclude each other; names all of them.
    """
    given = _without_open(row, args)
    errors = wrong_values(row, args, at)
    sound = {name: value for name, value in given.items() if name not in errors}
    options = row.options.model_validate(sound)
    for conflict in options.conflicts():
        if conflict.option not in errors:
            wrong = RecipeError(
                conflict.what, at(conflict.option), conflict.fix, settings=conflict.settings
            )
            errors[conflict.option] = wrong
    if errors:
        # in the order of the recipe
        order = [*args, *errors]
        raise together([errors[name] for name in sorted(errors, key=order.index)])
    return options


def wrong_values(
    row: Replacement, args: Mapping[str, Any], at: Callable[[str], str]
) -> dict[str, RecipeError]:
    """Return an error for each argument that the row does not have, or whose value it cannot take.

    `at` gives the `file:line:column` of an argument.
    """
    given = _without_open(row, args)
    errors: dict[str, RecipeError] = {}
    try:
        row.options.model_validate(given)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            name = str(problem["loc"][0])
            errors.setdefault(name, _sentence(row, name, problem, given[name], at(name)))
    return errors


def _without_open(row: Replacement, args: Mapping[str, Any]) -> dict[str, Any]:
    known = row.options.model_fields
    return {name: v for name, v in args.items() if name not in known or not is_auto(v)}


def is_auto(value: Any) -> bool:
    """Return whether an argument's value in a recipe leaves it open."""
    return isinstance(value, str) and value == AUTO


def _sentence(
    row: Replacement, name: str, problem: ErrorDetails, value: Any, where: str
) -> RecipeError:
    known = list(row.options.model_fields)
    if problem["type"] == "extra_forbidden":
        what = f"{row.name} has no argument {name!r}"
        if name in _rule_keys():
            return RecipeError(what, where, f"`{name}` belongs to the rule, beside `args`")
        return RecipeError(what, where, did_you_mean(name, known) or f"it has {', '.join(known)}")
    schema = row.options.model_json_schema()["properties"][name]
    what = f"{name} is {value!r:.80}, expected {expectation(schema)}"
    near = nearest(value, _choices(schema)) if isinstance(value, str) else ()
    fix = in_question(near) or f"correct `{name}`, or leave it out"
    settings = tuple((HERE, choice) for choice in near)
    return RecipeError(what, where, fix, settings=settings)


def _rule_keys() -> list[str]:
    return [field.alias or name for name, field in Rule.model_fields.items()]


def _choices(schema: Mapping[str, Any]) -> list[str]:
    inner = [choice for part in schema.get("anyOf", ()) for choice in _choices(part)]
    return [*schema.get("enum", ()), *inner]


def expectation(schema: Mapping[str, Any]) -> str:
    """Return the values of an option in words, from its part of the JSON Schema."""
    if "expected" in schema:
        return str(schema["expected"])
    if "anyOf" in schema:
        parts = [expectation(part) for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join([*parts, AUTO])
    if "enum" in schema:
        *first, last = map(repr, schema["enum"])
        return f"{', '.join(first)} or {last}" if first else last
    words = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}
    kind = words.get(schema.get("type", ""), "a value")
    return f"{kind} of at least {schema['minimum']}" if "minimum" in schema else kind
