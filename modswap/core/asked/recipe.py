"""The declaration of a recipe, for the check, the help text and the JSON Schema."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    StrictBool,
    StrictInt,
    StrictStr,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError, PydanticKnownError

from modswap.core.asked.patterns import MAX_PATTERN_CHARACTERS
from modswap.core.asked.rules.common import Integer, Names, Part, Positive, Text, listed
from modswap.core.asked.rules.insert import Insert
from modswap.core.asked.rules.rule import Rule
from modswap.core.asked.source import Place, Source

Dtype = Literal[
    "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"
]  # fmt: skip
ExportWay = Literal["torchscript", "onnx", "pt2", "compile"]
FloatDtype = Literal["float32", "float64", "float16", "bfloat16"]


class Integers(Part):
    """Whole numbers drawn evenly from `low` (included) to `high` (excluded)."""

    integers: tuple[Integer, Integer] = Field(description="[low, high): high is not drawn")

    @model_validator(mode="after")
    def _in_order(self) -> "Integers":
        if self.integers[0] >= self.integers[1]:
            raise ValueError("low must be below high")
        return self


def _kind_of_fill(value: Any) -> str:
    return INTEGERS if isinstance(value, (Mapping, Integers)) else WORD


def _kind_of_input(value: Any) -> str:
    """Return the kind of an entry; an empty entry is a call without arguments."""
    if isinstance(value, Mapping):
        return CALL if not value or {"args", "kwargs"} & value.keys() else TENSOR
    return CALL if isinstance(value, CallInput) else TENSOR


# tags that pydantic puts between the keys of an error's place, for values of several kinds
KINDS = ("<tensor>", "<call>", "<integers>", "<word>", "<size>")
TENSOR, CALL, INTEGERS, WORD, SIZE = KINDS
Fill = Annotated[
    Annotated[Literal["normal", "zeros", "ones"], Tag(WORD)] | Annotated[Integers, Tag(INTEGERS)],
    Discriminator(_kind_of_fill),
]


class TensorInput(Part):
    """A tensor of the dummy input."""

    shape: tuple[Positive, ...] = Field(description="size of each axis, batch first")
    dtype: Dtype = Field("float32", description="element type")
    fill: Fill = Field(
        "normal", description="values: normal, zeros, ones or {integers: [low, high]}"
    )


class CallInput(Part):
    """A call of the model with several arguments."""

    args: tuple[Any, ...] = Field((), description="positional: tensors, numbers, strings, lists")
    kwargs: dict[StrictStr, Any] = Field(
        default_factory=dict, description="by name: the same kinds of values"
    )


Input = Annotated[
    Annotated[TensorInput, Tag(TENSOR)] | Annotated[CallInput, Tag(CALL)],
    Discriminator(_kind_of_input),
]


class ModelSource(Part):
    """The function that builds the model, for files that hold weights without code."""

    factory: Text = Field(
        description="package.module:callable, or file.py:callable relative to the recipe; also "
        "with arguments, literals: timm:create_model(model_name='resnet18')",
        json_schema_extra={"pattern": r"^[^\x00]+:[^\x00:(]+(\([^\x00]*\)\s*)?$"},
    )
    args: dict[StrictStr, Any] = Field(
        default_factory=dict, description="keyword arguments of the factory"
    )


MEMORY = r"^\s*[0-9]{1,9}(?:\.[0-9]{1,3})?\s*(?:B|[KMGT]i?B)\s*$"


class Limits(Part):
    """Limits of cost and change; the check fails beyond them."""

    max_params: Positive | None = Field(None, description="parameters of the swapped model")
    max_flops: Positive | None = Field(
        None, description="floating-point operations of one pass over the first input"
    )
    max_memory: Annotated[StrictStr, Field(pattern=MEMORY)] | Positive | None = Field(
        None, description="predicted peak memory of a training step: bytes, or 8GiB"
    )
    max_latency: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = Field(
        None, description="measured milliseconds of one pass over the first input"
    )
    min_kept: Annotated[float, Field(strict=True, ge=0, le=1)] | None = Field(
        None, description="share of the model's weights that stay as they were, 0 to 1"
    )
    max_drift: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] | None = Field(
        None, description="how far outputs may move, relative to their size, in a real pass"
    )


def _known_examination(name: str, info: ValidationInfo) -> str:
    known = (info.context or {}).get("examinations")
    if known is None or name in known:
        return name
    *names, last = (f"'{each}'" for each in known)
    expected = f"{', '.join(names)} or {last}" if names else last
    raise PydanticKnownError("literal_error", {"expected": expected})


Examined = Annotated[
    StrictStr, Field(max_length=MAX_PATTERN_CHARACTERS), AfterValidator(_known_examination)
]


NARROWER = "narrower"
InputSize = Annotated[
    Annotated[Literal["narrower"], Tag(WORD)] | Annotated[tuple[Positive, Positive], Tag(SIZE)],
    Discriminator(lambda value: WORD if isinstance(value, str) else SIZE),
]
_SIDES = [{"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 2**63}] * 2
_SIZE = {"type": "array", "prefixItems": _SIDES, "minItems": 2, "maxItems": 2}
_SIZES = {"type": "array", "items": {"anyOf": [_SIZE, {"const": NARROWER}]}}


class Verify(Part):
    """The passes and examinations that prove that the swap holds."""

    modes: tuple[Literal["eval", "train"], ...] = Field(("eval",), min_length=1)
    dtypes: tuple[FloatDtype, ...] = Field(("float32",), min_length=1)
    sizes: Annotated[
        tuple[InputSize, ...],
        BeforeValidator(listed),
        WithJsonSchema({"anyOf": [{"const": NARROWER}, _SIZES]}),
    ] = Field(
        (),
        description="further sizes (H, W), each run as well; narrower: fewer may be taken",
    )
    batches: tuple[Positive, ...] = Field(
        (1, 2, 3), description="batch sizes at which shapes are compared as well"
    )
    precisions: tuple[Literal["float32", "bfloat16", "float16", "autocast"], ...] = Field(
        ("float32", "bfloat16", "float16", "autocast"),
        description="dtypes in which shapes are compared as well, where the original runs in them",
    )
    formats: tuple[Literal["contiguous", "channels_last"], ...] = Field(
        ("contiguous", "channels_last"),
        description="memory formats of 4-D inputs in which shapes are compared",
    )
    thorough: StrictBool = Field(
        default=False, description="true: run every examination, of any length"
    )
    skip: tuple[Examined, ...] = Field((), description="examinations to leave out")
    export: tuple[ExportWay, ...] = Field(
        (), description="ways in which the swapped model is exported, and compared with itself"
    )
    optional: tuple[ExportWay | Literal["export", "limits"], ...] = Field(
        (), description="ways of `export`, or examinations, that may be impossible to make"
    )
    expect: dict[StrictStr, tuple[Positive | None, ...]] = Field(
        default_factory=dict,
        description="shapes of the model's outputs after the swap, by name: {logits: [2, 7]}; "
        "null: any size; a model that returns a tensor calls it `output`",
    )
    limits: Limits = Field(default_factory=Limits, description="what must not be exceeded")

    def may_lack(self, *names: str) -> bool:
        """Return whether the recipe calls one of the names optional."""
        return not {*names}.isdisjoint(self.optional)

    @property
    def narrower(self) -> bool:
        """Return whether the swapped model may refuse sizes that the original took."""
        return NARROWER in self.sizes

    @property
    def further_sizes(self) -> tuple[tuple[int, int], ...]:
        """Return the further input sizes (H, W)."""
        return tuple(size for size in self.sizes if not isinstance(size, str))


def _whole(value: Any) -> Any:
    # `Literal[1]` alone takes true and 1.0 as well
    if type(value) is not int:
        raise PydanticKnownError("int_type")
    return value


class Recipe(Part):
    """A recipe for `modswap replace` and `modswap check`."""

    version: Annotated[Literal[1], BeforeValidator(_whole)] = Field(
        description="of the recipe's own format"
    )
    checkpoint: Text | None = Field(
        None, description="the file, relative to the recipe, for `modswap check swap.yaml`"
    )
    allow: Names = Field((), description="classes that a pickled checkpoint may build, as --allow")
    seed: Annotated[StrictInt, Field(ge=0, lt=2**63)] = Field(
        0, description="seed of the new weights"
    )
    model: ModelSource | None = None
    inputs: tuple[Input, ...] = Field(
        (),
        description="the dummy forward pass; each entry is one call of the model; left out, one is "
        "found, and the report says which and why",
    )
    replace: tuple[Rule, ...] = Field((), min_length=1, description="rules that replace modules")
    insert: tuple[Insert, ...] = Field(
        (), min_length=1, description="the rules that put modules in beside others"
    )
    verify: Verify = Field(default_factory=Verify)

    @model_validator(mode="after")
    def _some_rule(self) -> "Recipe":
        if not self.replace and not self.insert:
            raise PydanticCustomError("no_rule", "`replace` or `insert`")
        return self

    _source: Source = PrivateAttr(default_factory=Source)

    @property
    def rules(self) -> tuple[tuple[Place, Rule | Insert], ...]:
        """Return every rule with its place, `("replace", 0)`."""
        lists: dict[str, tuple[Rule | Insert, ...]]
        lists = {"replace": self.replace, "insert": self.insert}
        return tuple(((k, n), rule) for k, rules in lists.items() for n, rule in enumerate(rules))

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
