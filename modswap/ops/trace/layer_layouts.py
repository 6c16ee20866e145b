"""The layouts that torch's own layers take, from which the layouts of other modules follow."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from modswap.core.seen.site import LAYOUTS
from modswap.io.formats.exported.program import is_stand_in
from modswap.ops.run.describe import class_name

_CHANNELS_SECOND = (
    _ConvNd,
    _BatchNorm,
    _InstanceNorm,
    nn.GroupNorm,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.Upsample,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
)
_CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm)


def convention(module: nn.Module, rank: int) -> str | None:
    """Return the layout that a layer takes for a tensor of `rank` axes, or None if it is not known.

    Maps are of rank 4, tokens of rank 3.
    """
    cls = layer_class(module)
    if cls.__module__.startswith("modswap.nn."):
        own = getattr(module, "layout", None)  # of a module that was swapped in before
        return own if own in LAYOUTS and len(own) == rank else None
    if issubclass(cls, _CHANNELS_SECOND):
        return {4: "NCHW", 3: "NCL"}.get(rank)
    # a subclass may permute first, as channel-first layer norms do: the exact class only
    if cls in _CHANNELS_LAST:
        return {4: "NHWC", 3: "NLC"}.get(rank)
    if isinstance(module, nn.MultiheadAttention):
        return {3: "NLC" if module.batch_first else "LNC"}.get(rank)
    return None


def layer_class(module: nn.Module) -> type:
    """Return a layer's class; for a graph that torch made of one of its layers, that layer's."""
    package, _, name = class_name(module).rpartition(".")
    if is_stand_in(module) and package.startswith("torch.nn."):
        found = getattr(nn, name, None)
        return found if isinstance(found, type) else nn.Module
    return type(module)
