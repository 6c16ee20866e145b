"""The base of all parts of a recipe, and the types of names in it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictStr


class Part(BaseModel):
    """Base of every part of a recipe: unknown keys refused, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


# names of files and modules: systems accept no longer names, and no NUL
Text = Annotated[StrictStr, Field(max_length=4096, pattern=r"^[^\x00]*$")]
