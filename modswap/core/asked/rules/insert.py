"""The declaration of a rule that puts modules in beside others."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from modswap.core.asked.rules.common import Part, one_or_more
from modswap.core.asked.rules.keys import (
    Adapt,
    Args,
    Classes,
    Exclude,
    Expect,
    Initialisers,
    ModuleLayout,
    Patterns,
    Prefix,
    Share,
    SiteLayout,
    TokenGrid,
    Where,
    With,
)
from modswap.core.asked.rules.starts import Donor
from modswap.core.seen.joint import PLACES, Key, Place

_Position = Annotated[StrictInt, Field(ge=0, lt=256)]
_Name = Annotated[StrictStr, Field(min_length=1, max_length=256)]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, (str, int)) and not isinstance(value, bool) else value


_Keys: list[dict[str, Any]] = [
    {"type": "integer", "minimum": 0, "exclusiveMaximum": 256},
    {"type": "string", "minLength": 1, "maxLength": 256},
]
_Tensor = Annotated[
    Annotated[tuple[_Position | _Name, ...], Field(max_length=8)] | None,
    BeforeValidator(_as_list),
    WithJsonSchema(
        {
            "anyOf": [
                *_Keys,
                {"type": "array", "items": {"anyOf": _Keys}, "maxItems": 8},
                {"type": "null"},
            ]
        }
    ),
]
_Place = Annotated[Patterns | None, one_or_more(1)]  # null in a recipe is no place


def _identifier(value: str) -> str:
    if not value.isidentifier():
        raise PydanticCustomError("child_name", "a name of letters, digits and _")
    return value


_ChildName = Annotated[
    StrictStr,
    Field(max_length=256, json_schema_extra={"pattern": "^[^\\W\\d]\\w*$"}),
    AfterValidator(_identifier),
]


class Insert(Part):
    """The modules beside which a new module is put, and the new module."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [place]} for place in PLACES]}
    )

    after: _Place = Field(None, description="patterns of modules whose output the new module takes")
    before: _Place = Field(
        None, description="patterns of modules whose input it takes, for that module alone"
    )
    around: _Place = Field(None, description="patterns of modules to which it is a parallel branch")
    exclude: Exclude = ()
    class_: Classes = ()
    where: Where = None
    expect: Expect = None
    with_: With
    name: _ChildName | None = Field(
        None, description="of the new child; the module's name in snake case by default"
    )
    args: Args = Field(default_factory=dict)
    adapt: Adapt = False
    layout: SiteLayout = "auto"
    wants: ModuleLayout = "auto"
    grid: TokenGrid = None
    input: _Tensor = Field(
        None,
        description="the input that is meant, before or around a module: its position or name, or "
        "a list of them into nested ones",
    )
    output: _Tensor = Field(
        None, description="the output that is meant, after or around a module, likewise"
    )
    share: Share = False
    prefix: Prefix = None
    donor: Donor | None = Field(None, description="a module whose weights the new one takes")
    init: Initialisers = None
    start: Literal["preserve", "fresh"] = Field(
        "preserve",
        description="preserve: behind a gate of 0, so that the model computes what it did; fresh: "
        "without a gate",
    )

    @model_validator(mode="after")
    def _one_place(self) -> "Insert":
        given = [name for name in PLACES if getattr(self, name) is not None]
        if len(given) != 1:
            named = " and ".join(f"`{name}`" for name in given) or "none"
            what = "one of `after`, `before` and `around`, not {named}"
            raise PydanticCustomError("place", what, {"named": named})
        if self.place == "after" and self.input is not None:
            raise ValueError("`input` goes with `before` and `around`")
        if self.place == "before" and self.output is not None:
            raise ValueError("`output` goes with `after` and `around`")
        return self

    @property
    def beside(self) -> bool:
        """Return whether the new module goes in beside the old one, which stays."""
        return True

    @property
    def place(self) -> Place:
        """Return where the new module goes."""
        return next(name for name in PLACES if getattr(self, name) is not None)

    @property
    def match(self) -> tuple[str, ...]:
        """Return the patterns of the modules that it goes beside."""
        patterns: tuple[str, ...] = getattr(self, self.place)
        return patterns

    @property
    def source(self) -> tuple[Key, ...]:
        """Return the input that is meant; empty for the first tensor."""
        return self.input or ()

    @property
    def target(self) -> tuple[Key, ...]:
        """Return the output that is meant; empty for the only tensor."""
        return self.output or ()
