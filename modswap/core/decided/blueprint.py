"""The instructions for a new module, complete enough to make it again without a trace."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modswap.core.seen.site import Layout


@dataclass(frozen=True, slots=True)
class Choice:
    """A value that the recipe left open, as it was chosen, with the reason.

    Args:
        name: Name of the argument.
        value: The chosen value.
        reason: The observation that led to it.
    """

    name: str
    value: Any
    reason: str


@dataclass(frozen=True, slots=True)
class Adaptation:
    """A projection or pooling that makes the new module's output fit its site.

    Args:
        in_channels: Channels that the new module gives.
        out_channels: Channels that the site gave; a 1x1 projection where they differ.
        stride: Height and width of the pooling window; (1, 1) for none.
        container: `tuple` where the site gave a tuple of one tensor and then None, else empty.
        length: Number of items of that tuple.
    """

    in_channels: int
    out_channels: int
    stride: tuple[int, int] = (1, 1)
    container: str = ""
    length: int = 0


@dataclass(frozen=True, slots=True)
class Blueprint:
    """The instructions for making a new module.

    Args:
        module: Catalogue name or `package.module:Class`.
        args: Every constructor argument, none left open; plain data.
        layout: Layout of the site's tensors, where that matters.
        wants: The layout that the module takes; an adapter goes around it where it differs.
        ignores: Names (or positions as text) of inputs that are always None, or a map's sizes.
        adaptation: Layers that have to be added after it, only if the rule says `adapt: true`.
        choices: Values chosen for what the recipe left open, with reasons.
        keyword: Name of the keyword by which the site is given its map, empty where by position;
            the new module is given it by position then.
        repeats: Names (or positions as text) of inputs that were the map's very tensor in every
            call, as key and value of self-attention are; the new module is not given them.
    """

    module: str
    args: Mapping[str, Any]
    layout: Layout | None = None
    wants: Layout | None = None
    ignores: tuple[str, ...] = ()
    adaptation: Adaptation | None = None
    choices: tuple[Choice, ...] = field(default=(), compare=False)
    keyword: str = ""
    repeats: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Return whether the module can stand at its site as it is, without an adapter."""
        laid = self.layout is None or self.wants is None or self.layout == self.wants
        dropped = self.ignores or self.keyword or self.repeats
        return laid and not dropped and self.adaptation is None
