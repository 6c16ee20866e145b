"""Sites made by hand, as a trace records them."""

from dataclasses import replace
from math import isqrt

from modswap.core.seen.site import Call, Layout, Site
from modswap.core.seen.values import Group, Plain, TensorInfo, Value

NONE = Plain("NoneType", "None")


def tensor(*shape: int, dtype: str = "float32") -> TensorInfo:
    """Return a tensor of this shape."""
    return TensorInfo(shape, dtype)


def number(value: int) -> Plain:
    """Return a whole number."""
    return Plain("int", str(value))


def group(*items: Value, kind: str = "tuple") -> Group:
    """Return a tuple of values."""
    return Group(kind, tuple(map(str, range(len(items)))), items)


def call(*args: Value, output: Value | None = None, **kwargs: Value) -> Call:
    """Return a call that gives back its first input, or what is said."""
    inputs = (*args, *kwargs.values())
    return Call(args, tuple(kwargs.items()), inputs[0] if output is None else output)


def site(
    *calls: Call | TensorInfo,
    layout: Layout | None = "NCHW",
    reason: str = "",
    flattened: bool = True,
) -> Site:
    """Return a site at `stage.attn` with these calls; a tensor is a call's input and output.

    Tokens (N, L, C) whose number is a square come from a flattened map, unless it is said that none
    was `flattened`.
    """
    made = tuple(one if isinstance(one, Call) else call(one) for one in calls)
    made = tuple(map(_from_a_map, made)) if flattened else made
    return Site("stage.attn", "net.Attention", calls=made, layout=layout, layout_reason=reason)


def _from_a_map(one: Call) -> Call:
    named = ((name, value) for name, value in one.named if isinstance(value, TensorInfo))
    sides = {name: isqrt(value.shape[1]) for name, value in named if len(value.shape) == 3}
    shapes = {name: value.shape for name, value in one.named if isinstance(value, TensorInfo)}
    square = {name: side for name, side in sides.items() if side**2 == shapes[name][1]}
    return replace(one, grids=tuple((name, (side, side)) for name, side in square.items()))
