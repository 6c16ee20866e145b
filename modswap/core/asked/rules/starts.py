"""The keys of a rule that say how the weights of a new module begin."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictBool, StrictInt, model_validator

from modswap.core.asked.rules.common import Part, Text

Start = Literal["fresh", "inherit", "donor", "preserve"]
# torch's initialisers, with the options that each of them takes
INITIALISERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "zeros": (),
        "ones": (),
        "constant": ("val",),
        "uniform": ("a", "b"),
        "normal": ("mean", "std"),
        "trunc_normal": ("mean", "std", "a", "b"),
        "eye": (),
        "dirac": ("groups",),
        "xavier_uniform": ("gain",),
        "xavier_normal": ("gain",),
        "kaiming_uniform": ("a", "mode", "nonlinearity"),
        "kaiming_normal": ("a", "mode", "nonlinearity"),
        "orthogonal": ("gain",),
        "sparse": ("sparsity", "std"),
    }
)
WeightInit = Literal[
    "zeros",
    "ones",
    "constant",
    "uniform",
    "normal",
    "trunc_normal",
    "eye",
    "dirac",
    "xavier_uniform",
    "xavier_normal",
    "kaiming_uniform",
    "kaiming_normal",
    "orthogonal",
    "sparse",
]
BiasInit = Literal["zeros", "ones", "constant", "uniform", "normal", "trunc_normal"]
NEEDED = {"constant": "val", "sparse": "sparsity"}  # an option without a default
_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Donor(Part):
    """A module in another checkpoint, whose weights a new module takes."""

    file: Text = Field(description="the checkpoint, relative to the recipe; never executed")
    path: Text = Field("", description="the module in it; empty: the file holds that module alone")
    partial: StrictBool = Field(
        default=False, description="true: weights that fit nowhere may be left out"
    )

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.file:
            raise ValueError("`file` names a checkpoint")
        return self


class Init(Part):
    """Initialisers of torch for a new module, and their options."""

    weight: WeightInit | None = Field(
        None, description="of weights of two axes or more; norms keep their own"
    )
    bias: BiasInit | None = Field(None, description="of the biases beside such weights")
    mean: _Number | None = Field(None, description="of normal and trunc_normal; 0")
    std: Annotated[_Number, Field(gt=0)] | None = Field(
        None, description="of normal and trunc_normal, 1; of sparse, 0.01"
    )
    a: _Number | None = Field(
        None, description="least value of uniform, 0, and trunc_normal, -2; slope of kaiming, 0"
    )
    b: _Number | None = Field(None, description="largest value of uniform, 1, and trunc_normal, 2")
    val: _Number | None = Field(None, description="the value of constant")
    gain: _Number | None = Field(None, description="factor of xavier and orthogonal; 1")
    mode: Literal["fan_in", "fan_out"] | None = Field(None, description="of kaiming; fan_in")
    nonlinearity: Literal["linear", "relu", "leaky_relu", "tanh", "sigmoid", "selu"] | None = Field(
        None, description="of kaiming; leaky_relu"
    )
    groups: Annotated[StrictInt, Field(ge=1, lt=2**31)] | None = Field(
        None, description="of dirac; 1"
    )
    sparsity: Annotated[_Number, Field(ge=0, le=1)] | None = Field(
        None, description="share of zeros in each column, of sparse"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if flaw := next(self._flaws(), ""):
            raise ValueError(flaw)
        return self

    def _flaws(self) -> Iterator[str]:
        chosen = [name for name in (self.weight, self.bias) if name is not None]
        if not chosen:
            yield "`weight` or `bias` names an initialiser"
        known = {option for name in chosen for option in INITIALISERS[name]}
        takes = f"takes {', '.join(sorted(known))}" if known else "takes no option"
        for option in self.options.keys() - known:
            yield f"`{option}` is left out: {' and '.join(chosen)} {takes}"
        for option in {NEEDED.get(name, "") for name in chosen} - {"", *self.options}:
            yield f"`{option}` is given as well"
        if None not in (self.a, self.b) and self.options["a"] >= self.options["b"]:
            yield "a is below b"

    @property
    def options(self) -> dict[str, Any]:
        """Return the options that are given, by their names."""
        given = self.model_dump(exclude={"weight", "bias"}, exclude_none=True)
        return dict(given)

    def arguments(self, name: str) -> dict[str, Any]:
        """Return the options that an initialiser takes, of those that are given."""
        return {key: value for key, value in self.options.items() if key in INITIALISERS[name]}
