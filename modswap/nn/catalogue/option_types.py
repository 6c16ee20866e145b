"""Ranges of options that several rows of the catalogue share."""

from typing import Annotated

from pydantic import AfterValidator, Field


def _odd_or_zero(value: int) -> int:
    if value and value % 2 == 0:
        raise ValueError
    return value


AtLeast1 = Annotated[int, Field(ge=1)]
Odd = Annotated[int, Field(ge=1), AfterValidator(_odd_or_zero)]
OddOrZero = Annotated[int, Field(ge=0), AfterValidator(_odd_or_zero)]
Probability = Annotated[float, Field(ge=0, lt=1)]
