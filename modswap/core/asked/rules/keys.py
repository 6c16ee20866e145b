"""The keys that rules of every kind have."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictStr, WithJsonSchema
from pydantic_core import PydanticCustomError

from modswap.core.asked.conditions import COMPARISON, holds
from modswap.core.asked.rules.common import Listed, Names, Part, Positive, Text, one_or_more
from modswap.core.asked.rules.starts import Init


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


Patterns = Annotated[Listed, Field(min_length=1), one_or_more(1)]
_AnyLayout = Literal["auto", "NCHW", "NHWC", "NLC"]
Exclude = Annotated[Names, Field(description="patterns; each must exclude something")]
Classes = Annotated[
    Names,
    Field(alias="class", description="bare or dotted class name of the present module, or a list"),
]
Where = Annotated[Conditions | None, Field(description="conditions on sizes that the trace saw")]
Expect = Annotated[Positive | None, Field(description="how many sites this rule must select")]
With = Annotated[Text, Field(alias="with", description="a catalogue name, or package.module:Class")]
Args = Annotated[
    dict[StrictStr, Any],
    Field(description="arguments of the new module; those left out, or auto, are observed"),
]
Adapt = Annotated[
    StrictBool,
    Field(description="true: a projection or pooling may be added where the output differs"),
]
SiteLayout = Annotated[_AnyLayout, Field(description="layout of the site's tensors")]
ModuleLayout = Annotated[
    _AnyLayout,
    Field(description="the layout that a package.module:Class takes; auto: found by trying"),
]
TokenGrid = Annotated[
    tuple[Positive, Positive] | None,
    Field(description="[H, W]: the map that the site's tokens are; no other size is taken"),
]
Share = Annotated[
    StrictBool, Field(description="true: one new instance for all sites of this rule")
]
Prefix = Annotated[
    Text | None, Field(description="put before the names of the new module's own layers")
]
Initialisers = Annotated[
    Init | None, Field(description="initialisers of torch, for weights that begin fresh")
]
