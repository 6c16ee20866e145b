"""Kinds of values that several parts of a recipe hold."""

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    WithJsonSchema,
)

from modswap.core.asked.patterns import MAX_PATTERN_CHARACTERS


def listed(value: Any) -> Any:
    """Return a text as a list of one; any other value as it is."""
    return [value] if isinstance(value, str) else value


def one_or_more(least: int) -> WithJsonSchema:
    """Return the schema of a text, or of a list of at least so many."""
    name = {"type": "string", "maxLength": MAX_PATTERN_CHARACTERS}
    return WithJsonSchema({"anyOf": [name, {"type": "array", "items": name, "minItems": least}]})


Listed = Annotated[
    tuple[Annotated[StrictStr, Field(max_length=MAX_PATTERN_CHARACTERS)], ...],
    BeforeValidator(listed),
]
Names = Annotated[Listed, one_or_more(0)]
# names of files and modules: systems accept no longer names, and no NUL
Text = Annotated[StrictStr, Field(max_length=4096, pattern=r"^[^\x00]*$")]
# torch holds whole numbers in 64 bits
Integer = Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]
Positive = Annotated[StrictInt, Field(gt=0, lt=2**63)]


class Part(BaseModel):
    """Base of every part of a recipe: unknown keys refused, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
