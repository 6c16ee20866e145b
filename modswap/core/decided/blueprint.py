"""The instructions for a new module, complete enough to make it again without a trace."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modswap.core.seen.joint import Joint
from modswap.core.seen.site import Grid, Layout


@dataclass(frozen=True, slots=True)
class Choice:
    """A value that the recipe left open, as it was chosen, with the reason."""

    name: str
    value: Any
    reason: str  # the observation that led to it
    replaces: bool = False  # whether the class has another default for it
    fixes: bool = False  # whether the module takes one size alone by it


@dataclass(frozen=True, slots=True)
class Adaptation:
    """A projection or pooling that makes the new module's output fit its site."""

    in_channels: int  # channels that the new module gives
    out_channels: int  # channels that the site gave; a 1x1 projection where they differ
    stride: tuple[int, int] = (1, 1)  # height and width of the pooling window; (1, 1) for none
    # `tuple` where the site gave a tuple of one tensor and then None, else empty
    container: str = ""
    length: int = 0  # number of items of that tuple


@dataclass(frozen=True, slots=True)
class LayerFold:
    """A linear layer of a new module that computes what other layers around it did before.

    Args:
        layer: Its path in the module; it has a bias afterwards.
        norms: Paths of batch norms whose factors are in its weights; identities now.
        branches: Paths of layers beside it whose outputs were added to its own; they give 0 now.
    """

    layer: str
    norms: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Blueprint:
    """The instructions for making a new module."""

    module: str  # catalogue name or `package.module:Class`
    args: Mapping[str, Any]  # every constructor argument, none left open; plain data
    layout: Layout | None = None  # layout of the site's tensors, where that matters
    # the layout that the module takes; where it differs, an adapter converts
    wants: Layout | None = None
    # names (or positions as text) of inputs that are always None, or a map's sizes
    ignores: tuple[str, ...] = ()
    # layers that have to be added after it, only if the rule says `adapt: true`
    adaptation: Adaptation | None = None
    # values chosen for what the recipe left open, with reasons
    choices: tuple[Choice, ...] = field(default=(), compare=False)
    # name of the keyword argument that carries the site's map, empty where the map is positional;
    # the new module always takes the map by position
    keyword: str = ""
    # names (or positions as text) of inputs that were the same tensor object as the map in every
    # call, as key and value of self-attention are; the new module does not take them
    repeats: tuple[str, ...] = ()
    # height and width of the map that the site's tokens always are, where the rule says them
    grid: Grid | None = None
    # names (or positions as text) of inputs that are not passed on, of any value
    drops: tuple[str, ...] = ()
    # whether the rule says that the output of its site changes
    changes: bool = field(default=False, compare=False)
    # how it is joined to the module that it is put in beside; None where it replaces one
    joint: Joint | None = None
    # the layers of the module that were folded into others since
    folds: tuple[LayerFold, ...] = ()

    @property
    def fits(self) -> bool:
        """Return whether the module fits its site without an adapter."""
        laid = self.layout is None or self.wants is None or self.layout == self.wants
        dropped = self.ignores or self.keyword or self.repeats or self.drops
        return laid and not dropped and self.adaptation is None
