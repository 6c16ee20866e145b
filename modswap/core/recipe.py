"""What a recipe may say: one declaration for the check, the help text and the JSON Schema."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    PrivateAttr,
    StrictBool,
    StrictInt,
    StrictStr,
    WithJsonSchema,
    model_validator,
)

Dtype = Literal[
    "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"
]  # fmt: skip
FloatDtype = Literal["float32", "float64", "float16", "bfloat16"]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Names = Annotated[
    tuple[StrictStr, ...],
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a recipe was read from, so that errors can name file, line and column.

    Args:
        name: File name as the user gave it, or `<stdin>`.
        text: The recipe's text.
        lines: Line and column, counted from 1, of every key and list item.
        folder: Folder against which the recipe's own file names are resolved.
    """

    name: str = "<recipe>"
    text: str = ""
    lines: Mapping[Place, tuple[int, int]] = field(default_factory=dict)
    folder: str = "."

    def at(self, *place: str | int) -> str:
        """Return `file:line:column` of a key, or of the nearest key around it."""
        for end in range(len(place), -1, -1):
            if place[:end] in self.lines:
                line, column = self.lines[place[:end]]
                return f"{self.name}:{line}:{column}"
        return self.name


class Part(BaseModel):
    """Base of every part of a recipe: unknown keys refused, nothing changes afterwards."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, protected_namespaces=()
    )


class Integers(Part):
    """Whole numbers drawn evenly from `low` (included) to `high` (excluded)."""

    integers: tuple[StrictInt, StrictInt] = Field(description="[low, high): high is not drawn")

    @model_validator(mode="after")
    def _in_order(self) -> "Integers":
        if self.integers[0] >= self.integers[1]:
            raise ValueError("low must be below high")
        return self


class TensorInput(Part):
    """One tensor of the dummy input."""

    shape: tuple[PositiveInt, ...] = Field(description="size of each axis, batch first")
    dtype: Dtype = Field("float32", description="element type")
    fill: Literal["normal", "zeros", "ones"] | Integers = Field(
        "normal", description="what it holds: normal, zeros, ones or {integers: [low, high]}"
    )


class CallInput(Part):
    """One call of the model with several arguments."""

    args: tuple[Any, ...] = Field((), description="positional: tensors, numbers, strings, lists")
    kwargs: dict[StrictStr, Any] = Field(default_factory=dict, description="by name, likewise")


class ModelSource(Part):
    """How to build the model, for files that hold weights without code."""

    factory: StrictStr = Field(
        description="package.module:callable, or file.py:callable relative to the recipe"
    )
    args: dict[StrictStr, Any] = Field(
        default_factory=dict, description="keyword arguments of the factory"
    )


Comparison = Annotated[
    StrictStr | StrictInt,
    Field(description="a number, or a comparison such as '>=128'"),
]


class Conditions(Part):
    """What must hold for what the trace saw at a site."""

    channels: Comparison | None = None
    height: Comparison | None = None
    width: Comparison | None = None
    tokens: Comparison | None = None
    calls: Comparison | None = None


class Rule(Part):
    """Which modules, and what goes in."""

    match: Names = Field(description="a path pattern or a list of them", min_length=1)
    exclude: Names = Field((), description="patterns; each must exclude something")
    class_: Names = Field(
        (), alias="class", description="bare or dotted class name of the present module, or a list"
    )
    where: Conditions | None = Field(None, description="conditions on what the trace saw")
    expect: PositiveInt | None = Field(None, description="how many sites this rule must select")
    with_: StrictStr = Field(alias="with", description="a catalogue name, or package.module:Class")
    args: dict[StrictStr, Any] = Field(
        default_factory=dict,
        description="arguments of the new module; what is left out, or says auto, is observed",
    )
    adapt: StrictBool = Field(
        default=False,
        description="true: a projection or pooling may be added where the output differs",
    )
    layout: Literal["auto", "NCHW", "NHWC", "NLC"] = Field(
        "auto", description="how the site's tensors lie"
    )
    wants: Literal["auto", "NCHW", "NHWC", "NLC"] = Field(
        "auto", description="the layout that a package.module:Class takes; auto: found by trying"
    )
    share: StrictBool = Field(
        default=False, description="true: one new instance for all sites of this rule"
    )
    prefix: StrictStr | None = Field(
        None, description="put before the names of the new module's own layers"
    )
    start: Literal["fresh"] = Field("fresh", description="how the new weights begin")


class Verify(Part):
    """Which passes prove that the swap holds."""

    modes: tuple[Literal["eval", "train"], ...] = Field(("eval",), min_length=1)
    dtypes: tuple[FloatDtype, ...] = Field(("float32",), min_length=1)
    sizes: tuple[tuple[PositiveInt, PositiveInt], ...] = Field(
        (), description="further input sizes (H, W), each run as well"
    )


class Recipe(Part):
    """A recipe for `modswap replace` and `modswap check`."""

    version: Literal[1] = Field(description="of the recipe's own format")
    checkpoint: StrictStr | None = Field(
        None, description="the file, relative to the recipe, for `modswap check swap.yaml`"
    )
    allow: Names = Field((), description="classes that a pickled checkpoint may build")
    seed: Annotated[StrictInt, Field(ge=0, lt=2**63)] = Field(
        0, description="for what is initialised afresh"
    )
    model: ModelSource | None = None
    inputs: tuple[TensorInput | CallInput, ...] = Field(
        (), description="the dummy forward pass; each entry is one call of the model"
    )
    replace: tuple[Rule, ...] = Field(min_length=1, description="the rules")
    verify: Verify = Field(default_factory=Verify)

    _source: Source = PrivateAttr(default_factory=Source)

    @property
    def source(self) -> Source:
        """Return where the recipe was read from."""
        return self._source

    def read_from(self, source: Source) -> "Recipe":
        """Return the same recipe with the place it was read from."""
        copy = self.model_copy()
        copy._source = source  # noqa: SLF001 - of our own class
        return copy

    def at(self, *place: str | int) -> str:
        """Return `file:line:column` of a key, or of the nearest key around it."""
        return self._source.at(*place)
