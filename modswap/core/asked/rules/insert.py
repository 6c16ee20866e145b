"""The declaration of a rule that puts modules in beside others."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)

from modswap.core.asked.rules.common import Listed, Names, Part, Positive, Text, one_or_more
from modswap.core.asked.rules.rule import Conditions
from modswap.core.asked.rules.starts import Donor, Init
from modswap.core.seen.joint import PLACES, Key, Place

_Patterns = Annotated[Listed, Field(min_length=1), one_or_more(1)]
_Position = Annotated[StrictInt, Field(ge=0, lt=256)]
_Name = Annotated[StrictStr, Field(min_length=1, max_length=256)]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, (str, int)) and not isinstance(value, bool) else value


_Where = Annotated[
    tuple[_Position | _Name, ...] | None,
    BeforeValidator(_as_list),
    Field(max_length=8),
]


def _identifier(value: str) -> str:
    if not value.isidentifier():
        raise ValueError("it is a name of letters, digits and _")
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

    after: _Patterns | None = Field(
        None, description="patterns of modules whose output the new module takes"
    )
    before: _Patterns | None = Field(
        None, description="patterns of modules whose input it takes, for that module alone"
    )
    around: _Patterns | None = Field(
        None, description="patterns of modules to which it is a parallel branch"
    )
    exclude: Names = Field((), description="patterns; each must exclude something")
    class_: Names = Field(
        (), alias="class", description="bare or dotted class name of the present module, or a list"
    )
    where: Conditions | None = Field(None, description="conditions on sizes that the trace saw")
    expect: Positive | None = Field(None, description="how many modules this rule must select")
    with_: Text = Field(alias="with", description="a catalogue name, or package.module:Class")
    name: _ChildName | None = Field(
        None, description="of the new child; the module's name in snake case by default"
    )
    args: dict[StrictStr, Any] = Field(
        default_factory=dict,
        description="arguments of the new module; those left out, or auto, are observed",
    )
    adapt: StrictBool = Field(
        default=False,
        description="true: a projection or pooling may be added where the output differs",
    )
    layout: Literal["auto", "NCHW", "NHWC", "NLC"] = Field(
        "auto", description="layout of the tensor that it takes"
    )
    wants: Literal["auto", "NCHW", "NHWC", "NLC"] = Field(
        "auto", description="the layout that a package.module:Class takes; auto: found by trying"
    )
    grid: tuple[Positive, Positive] | None = Field(
        None, description="[H, W]: the map that the tokens are; no other size is taken"
    )
    input: _Where = Field(
        None,
        description="the input that is meant, before or around a module: its position or name, or "
        "a list of them into nested ones",
    )
    output: _Where = Field(
        None, description="the output that is meant, after or around a module, likewise"
    )
    share: StrictBool = Field(
        default=False, description="true: one new instance for all modules of this rule"
    )
    prefix: Text | None = Field(
        None, description="put before the names of the new module's own layers"
    )
    donor: Donor | None = Field(None, description="a module whose weights the new one takes")
    init: Init | None = Field(
        None, description="initialisers of torch, for weights that begin fresh"
    )
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
            raise ValueError(f"one of `after`, `before` and `around` is there, not {named}")
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
