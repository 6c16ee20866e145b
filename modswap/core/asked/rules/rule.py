"""The declaration of a rule that replaces modules."""

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from modswap.core.asked.conditions import COMPARISON, holds
from modswap.core.asked.rules.common import Listed, Names, Part, Positive, Text, one_or_more
from modswap.core.asked.rules.starts import Donor, Init, Start


def _comparison(value: Any) -> Any:
    if value is None:
        return value
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole or (isinstance(value, str) and value.isascii()):
        try:
            holds(value, None)  # raises for what is no comparison
        except ValueError:
            pass
        else:
            return value
    raise PydanticCustomError("comparison", "a number, or a comparison")


Comparison = Annotated[
    str | int | None,
    BeforeValidator(_comparison),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": COMPARISON},
                {"type": "integer", "minimum": 0, "exclusiveMaximum": 10**18},
                {"type": "null"},
            ]
        }
    ),
    Field(description="a number, or a comparison such as '>=128'"),
]


class Conditions(Part):
    """Conditions on the sizes that the trace saw at a site."""

    channels: Comparison = None
    height: Comparison = None
    width: Comparison = None
    tokens: Comparison = None
    calls: Comparison = None


class Rule(Part):
    """The modules to replace, and the new module."""

    match: Annotated[Listed, Field(min_length=1), one_or_more(1)] = Field(
        description="a path pattern or a list of them"
    )
    exclude: Names = Field((), description="patterns; each must exclude something")
    class_: Names = Field(
        (), alias="class", description="bare or dotted class name of the present module, or a list"
    )
    where: Conditions | None = Field(None, description="conditions on sizes that the trace saw")
    expect: Positive | None = Field(None, description="how many sites this rule must select")
    with_: Text = Field(alias="with", description="a catalogue name, or package.module:Class")
    args: dict[StrictStr, Any] = Field(
        default_factory=dict,
        description="arguments of the new module; those left out, or auto, are observed",
    )
    adapt: StrictBool = Field(
        default=False,
        description="true: a projection or pooling may be added where the output differs",
    )
    layout: Literal["auto", "NCHW", "NHWC", "NLC"] = Field(
        "auto", description="layout of the site's tensors"
    )
    wants: Literal["auto", "NCHW", "NHWC", "NLC"] = Field(
        "auto", description="the layout that a package.module:Class takes; auto: found by trying"
    )
    grid: tuple[Positive, Positive] | None = Field(
        None, description="[H, W]: the map that the site's tokens are; no other size is taken"
    )
    input: Annotated[StrictInt, Field(ge=0, lt=256)] | Text | None = Field(
        None, description="position or name of the input that is passed on; no other one is"
    )
    output: Literal["same", "changed"] = Field(
        "same",
        description="changed: outputs may have other sizes, as those of a new head; so it is for "
        "torch.nn:Linear with out_features and torch.nn:Conv2d of kernel_size 1 with out_channels",
    )
    share: StrictBool = Field(
        default=False, description="true: one new instance for all sites of this rule"
    )
    prefix: Text | None = Field(
        None, description="put before the names of the new module's own layers"
    )
    start: Start = Field(
        "fresh",
        description="how the new weights begin: fresh; inherit: from the old module, where that is "
        "possible; donor: from a module of another file; preserve: fresh, and the old module "
        "stays, with a gate of 0 between both, so that the model computes what it did",
    )
    donor: Donor | None = Field(None, description="with `start: donor`: the module")
    init: Init | None = Field(
        None, description="initialisers of torch, for weights that begin fresh"
    )

    @property
    def beside(self) -> bool:
        """Return whether the new module goes in beside the old one, which stays."""
        return self.start == "preserve"

    @model_validator(mode="after")
    def _one_output(self) -> "Rule":
        if self.adapt and self.output == "changed":
            raise ValueError("`adapt` is false where `output` is changed")
        if self.start == "preserve" and self.output == "changed":
            raise ValueError("`output` is the same where `start` is preserve")
        return self

    @model_validator(mode="after")
    def _one_donor(self) -> "Rule":
        if self.start == "donor" and self.donor is None:
            raise ValueError("`donor` is given where `start` is donor: `{file: F, path: P}`")
        if self.start != "donor" and self.donor is not None:
            raise ValueError("`start` is donor where `donor` is given")
        return self
