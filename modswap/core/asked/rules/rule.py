"""The declaration of a rule that replaces modules."""

from typing import Annotated, Literal

from pydantic import Field, StrictInt, model_validator

from modswap.core.asked.rules.common import Part, Text
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
from modswap.core.asked.rules.starts import Donor, Start


class Rule(Part):
    """The modules to replace, and the new module."""

    match: Patterns = Field(description="a path pattern or a list of them")
    exclude: Exclude = ()
    class_: Classes = ()
    where: Where = None
    expect: Expect = None
    with_: With
    args: Args = Field(default_factory=dict)
    adapt: Adapt = False
    layout: SiteLayout = "auto"
    wants: ModuleLayout = "auto"
    grid: TokenGrid = None
    input: Annotated[StrictInt, Field(ge=0, lt=256)] | Text | None = Field(
        None, description="position or name of the input that is passed on; no other one is"
    )
    output: Literal["same", "changed"] = Field(
        "same",
        description="changed: outputs may have other sizes, as those of a new head; so it is for "
        "torch.nn:Linear with out_features and torch.nn:Conv2d of kernel_size 1 with out_channels, "
        "and for any convolution with out_channels that gives the model's output",
    )
    share: Share = False
    prefix: Prefix = None
    start: Start = Field(
        "fresh",
        description="how the new weights begin: fresh; inherit: from the old module, where that is "
        "possible; donor: from a module of another file; preserve: fresh, and the old module "
        "stays, with a gate of 0 between both, so that the model computes what it did",
    )
    donor: Donor | None = Field(None, description="with `start: donor`: the module")
    init: Initialisers = None

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
