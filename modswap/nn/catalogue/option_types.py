"""Types of options that several rows of the catalogue share: ranges and descriptions."""

from typing import Annotated

from pydantic import AfterValidator, Field


def _odd_or_zero(value: int) -> int:
    if value and value % 2 == 0:
        raise ValueError
    return value


AtLeast1 = Annotated[int, Field(ge=1)]
_Odd = Annotated[int, Field(ge=1), AfterValidator(_odd_or_zero)]
Odd = Annotated[_Odd, Field(json_schema_extra={"expected": "an odd number"})]
OddOrAuto = Annotated[_Odd | None, Field(json_schema_extra={"expected": "an odd number, or auto"})]
OddOrZero = Annotated[int, Field(ge=0), AfterValidator(_odd_or_zero)]

MapChannels = Annotated[
    AtLeast1 | None, Field(description="channels of the map; auto: as observed")
]
TokenChannels = Annotated[
    AtLeast1 | None, Field(description="channels of a token; auto: as observed")
]
OutChannels = Annotated[
    AtLeast1 | None, Field(description="channels of the output; auto: those that the site gives")
]
Heads = Annotated[
    AtLeast1 | None, Field(description="attention heads; auto: heads of about 32 channels")
]
Stride = Annotated[
    AtLeast1 | None,
    Field(description="pixels of the input for each of the output; auto: as the site has it"),
]
Reduction = Annotated[AtLeast1, Field(description="how many times narrower the hidden layer is")]
QkvBias = Annotated[bool, Field(description="a bias for queries, keys and values")]
AttentionDrop = Annotated[
    float, Field(ge=0, lt=1, description="probability of dropping a share, in training")
]
OutputDrop = Annotated[
    float, Field(ge=0, lt=1, description="probability of dropping an output, in training")
]
