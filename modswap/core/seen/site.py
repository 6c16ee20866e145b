"""A place in the model where a module sits, with everything that the trace saw there."""

from dataclasses import dataclass, field, replace
from typing import Literal

from modswap.core.finding import Settings
from modswap.core.seen.joint import Form, Joint
from modswap.core.seen.values import TensorInfo, Value, tensors

Layout = Literal["NCHW", "NHWC", "NLC"]
Grid = tuple[int, int]  # height and width of a map
LAYOUTS: tuple[Layout, ...] = ("NCHW", "NHWC", "NLC")
BY_RULE = "set by the rule"  # the reason for a layout that the user named
# settings of a rule that are worth trying where a layout is in doubt
ANY_SITE_LAYOUT: Settings = tuple(("layout", layout) for layout in LAYOUTS)
ANY_MODULE_LAYOUT: Settings = tuple(("wants", layout) for layout in LAYOUTS)
ANY_LAYOUT: Settings = ANY_SITE_LAYOUT + ANY_MODULE_LAYOUT


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a module."""

    args: tuple[Value, ...]  # positional inputs
    kwargs: tuple[tuple[str, Value], ...]  # keyword inputs by name, in the order given
    output: Value
    # for each tensor among the inputs, in order, the index of the first one that is the same
    # object; empty where all of them are different ones
    same: tuple[int, ...] = ()
    # height and width of the map that was flattened into the tokens (N, L, C) of an input, by its
    # name, as a pass showed; other inputs are left out
    grids: tuple[tuple[str, Grid], ...] = field(default=(), compare=False)
    # names of the inputs of four axes that hold windows of maps, as a pass showed
    windows: tuple[str, ...] = field(default=(), compare=False)

    @property
    def named(self) -> tuple[tuple[str, Value], ...]:
        """Return every input with its name, or its position as text."""
        by_position = ((str(position), value) for position, value in enumerate(self.args))
        return (*by_position, *self.kwargs)

    @property
    def firsts(self) -> tuple[int, ...]:
        """Return for each tensor the index of the first that is the same object."""
        return self.same or tuple(range(sum(1 for value in self.inputs for _ in tensors(value))))

    def repeats(self, name: str) -> tuple[str, ...]:
        """Return the names of the other inputs that are the same tensor object as an input.

        The name of an input may be its position as text.
        """
        firsts = iter(self.firsts)
        found: dict[str, int] = {}
        for one, value in self.named:
            places = [next(firsts) for _ in tensors(value)]
            if isinstance(value, TensorInfo):
                found[one] = places[0]
        return tuple(one for one, first in found.items() if one != name and first == found[name])

    def grid(self, name: str) -> Grid | None:
        """Return the height and width of the map that an input's tokens come from, if seen."""
        return dict(self.grids).get(name)

    @property
    def inputs(self) -> tuple[Value, ...]:
        """Return all inputs, positional ones first."""
        return (*self.args, *(value for _, value in self.kwargs))

    def __str__(self) -> str:
        given = [*map(str, self.args), *(f"{name}={value}" for name, value in self.kwargs)]
        return f"({', '.join(given)}) -> {self.output}"


@dataclass(frozen=True, slots=True)
class Site:
    """A module path with its class, calls, layout, device and dtype."""

    path: str
    class_name: str  # dotted class name, such as `torch.nn.modules.conv.Conv2d`
    aliases: tuple[str, ...] = ()  # other paths of the same module object
    # every call that the trace saw, in order; empty if it was never reached
    calls: tuple[Call, ...] = ()
    layout: Layout | None = None  # layout of its maps or tokens, where it is known
    layout_reason: str = ""  # the reason for the layout, or for its being unknown
    # `NCL` or `LNC` where a layer that takes its own tensor says that: no layout of a rule
    other_layout: str = ""
    # layouts of the further tensors of its first call, by the names of the inputs, with reasons
    layouts: tuple[tuple[str, Layout | None, str], ...] = ()
    params: int = 0  # number of parameter elements, shared ones once
    nbytes: int = 0  # bytes of its parameters and buffers
    dtype: str = "float32"  # floating dtype of its parameters, else of its first input
    device: str = "cpu"  # device of its parameters, else of its first input
    training: bool = False  # its own training flag before the trace
    trainable: bool = True  # whether any parameter asks for a gradient; true when it has none
    channels_last: bool = False  # whether its 4-D parameters have the channels_last memory format
    # heights and widths of the maps that were seen before it, of as many samples and channels as
    # the tokens that it is given; empty where it is given no tokens
    grids: tuple[Grid, ...] = ()
    # names of the positional inputs of its forward, as far as its calls use them
    names: tuple[str, ...] = ()
    # height and width of the map that its tokens are by the rule; None where the rule does not say
    grid: Grid | None = None
    # what may change of its output, as its rule says: nothing, the number of channels, or all sizes
    changes: Literal["", "channels", "sizes"] = ""
    # whether the model's output is made of its output, and no layer of weights reads that; None
    # where that is not known
    is_last: bool | None = None
    carrier: str = ""  # the input that is its map, by position or name, as the rule says
    unused: tuple[str, ...] = ()  # inputs on which its module's output does not depend
    # the module beside which it is a place for another one; None for a module of the model
    beside: "Site | None" = None
    joint: Joint | None = None  # how a new module is joined there

    @property
    def paths(self) -> tuple[str, ...]:
        """Return the path and its aliases."""
        return (self.path, *self.aliases)

    @property
    def short_class(self) -> str:
        """Return the bare class name."""
        return self.class_name.rsplit(".", 1)[-1]

    @property
    def input(self) -> TensorInfo | None:
        """Return the first tensor of the first call, or None."""
        for call in self.calls:
            for value in call.inputs:
                for tensor in tensors(value):
                    return tensor
        return None

    @property
    def output(self) -> Value | None:
        """Return the output of the first call, or None."""
        return self.calls[0].output if self.calls else None


@dataclass(frozen=True, slots=True)
class Extent:
    """The sizes of a map or of a row of tokens, in any layout."""

    channels: int  # C or E
    height: int | None  # H, or None for tokens
    width: int | None  # W, or None for tokens
    tokens: int  # L, or H x W for a map


def extent(shape: tuple[int, ...], layout: Layout) -> Extent | None:
    """Return the sizes of a tensor of this shape and layout, or None if the rank does not fit.

    The shape is (N, C, H, W), (N, H, W, C) or (N, L, C) as `layout` says.
    """
    if layout == "NLC" and len(shape) == 3:
        return Extent(shape[2], None, None, shape[1])
    if layout == "NCHW" and len(shape) == 4:
        return Extent(shape[1], shape[2], shape[3], shape[2] * shape[3])
    if layout == "NHWC" and len(shape) == 4:
        return Extent(shape[3], shape[1], shape[2], shape[1] * shape[2])
    return None


def gated(site: Site, joint: Joint, form: Form) -> Joint:
    """Return how a module is joined at a site in a form, with a gate for each channel.

    Where it is not known which axis holds the channels, the gate is one number.
    """
    tensor = next(tensors(site.calls[0].output), None) if site.calls else None
    layout = site.layout
    if tensor is None or layout is None or len(tensor.shape) != len(layout):
        return replace(joint, form=form)
    axis = layout.index("C")
    return replace(joint, form=form, channels=tensor.shape[axis], axes=len(layout) - 1 - axis)
