"""The weights of linear layers into which batch norms and other layers are folded."""

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import nn

from modswap.nn.inherit.folding import Fold, folded

_NORM = Fold("layer", "norm", 0.0)


@dataclass(frozen=True, slots=True)
class TapWeights:
    """A convolution or linear map as weights, in double precision.

    Args:
        weight: (out, in / groups, …), without further axes for a linear map.
        bias: (out,).
        stride: Along each axis of the kernel, as are `padding` and `dilation`.
        padding: Zeros on both sides of the map.
        dilation: Steps from one tap to the next.
        groups: Groups of channels.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1


def map_of(layer: Any, norm: Any = None) -> TapWeights | None:
    """Return a linear layer with the batch norm behind it, if there is one, as weights.

    None if its padding is not the same on both sides.
    """
    weight = layer.weight.detach().double()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().double()
    weight, bias = _normed(weight, bias, norm)
    if isinstance(layer, nn.Linear):
        return TapWeights(weight, bias)
    padding = _padding(layer)
    if padding is None:
        return None
    sizes = (tuple(layer.stride), padding, tuple(layer.dilation))
    return TapWeights(weight, bias, *sizes, layer.groups)


def identity_of(norm: Any, like: TapWeights) -> TapWeights | None:
    """Return a batch norm alone as a map of the groups of another; None if it cannot be one."""
    channels, axes = like.weight.shape[1] * like.groups, like.weight.ndim - 2
    if channels != len(like.weight) or norm.num_features != channels:
        return None
    within = torch.arange(channels) % like.weight.shape[1]
    weight = torch.nn.functional.one_hot(within, like.weight.shape[1]).to(like.weight)
    weight, bias = _normed(weight.view(*weight.shape, *[1] * axes), like.bias * 0, norm)
    ones, zeros = (1,) * axes, (0,) * axes
    return TapWeights(weight, bias, ones, zeros, ones, like.groups)


def added(one: TapWeights, other: TapWeights) -> TapWeights | None:
    """Return the map that gives the sum of two, in the form of the first; None if it cannot.

    How the maps are padded is not looked at.
    """
    if one.stride != other.stride or one.weight.shape[:1] != other.weight.shape[:1]:
        return None
    weight = _grouped(other, one)
    if weight is None:
        return None
    found = one.weight.clone()
    for taps in product(*(range(side) for side in other.weight.shape[2:])):
        place = _place(taps, other, one)
        if place is None:
            return None
        here: tuple[Any, ...] = (..., *place)
        there: tuple[Any, ...] = (..., *taps)
        found[here] += weight[there]
    return replace(one, weight=found, bias=one.bias + other.bias)


def set_weights(layer: Any, of: TapWeights) -> None:
    """Give a layer with a bias the weights of a map."""
    with torch.no_grad():
        layer.weight.copy_(of.weight)
        layer.bias.copy_(of.bias)


def _normed(
    weight: torch.Tensor, bias: torch.Tensor, norm: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    if norm is None:
        return weight, bias
    state = {f"norm.{name}": value.detach() for name, value in norm.state_dict().items()}
    state |= {"layer.weight": weight, "layer.bias": bias}
    made = folded(state, (replace(_NORM, eps=float(norm.eps)),))
    return made["layer.weight"], made["layer.bias"]


def _padding(layer: Any) -> tuple[int, ...] | None:
    if not isinstance(layer.padding, str):
        return tuple(layer.padding)
    spans = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    if layer.padding == "valid":
        return (0,) * len(spans)
    return None if any(span % 2 for span in spans) else tuple(span // 2 for span in spans)


def _grouped(other: TapWeights, one: TapWeights) -> torch.Tensor | None:
    """Return the weights of a map in the groups of another; None if these are narrower."""
    if other.groups == one.groups:
        return other.weight if other.weight.shape[1] == one.weight.shape[1] else None
    if one.groups != 1 or other.weight.shape[1] * other.groups != one.weight.shape[1]:
        return None
    wide = one.weight.new_zeros(*one.weight.shape[:2], *other.weight.shape[2:])
    per_group, width = len(one.weight) // other.groups, other.weight.shape[1]
    for group in range(other.groups):
        rows = slice(group * per_group, (group + 1) * per_group)
        wide[rows, group * width : (group + 1) * width] = other.weight[rows]
    return wide


def _place(taps: tuple[int, ...], other: TapWeights, one: TapWeights) -> tuple[int, ...] | None:
    """Return the tap of a map that is where a tap of another one is; None if none is there."""
    found = []
    for axis, tap in enumerate(taps):
        offset = tap * other.dilation[axis] - other.padding[axis] + one.padding[axis]
        place, rest = divmod(offset, one.dilation[axis])
        if rest or not 0 <= place < one.weight.shape[2 + axis]:
            return None
        found.append(place)
    return tuple(found)
