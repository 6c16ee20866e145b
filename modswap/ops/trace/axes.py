"""Follow the axes of all tensors of a pass, to see which tokens come from a map."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from modswap.core.seen.axes import (
    Axis,
    grid_of,
    hold_windows,
    is_known,
    map_axes,
    reshaped,
    resized,
    unknown,
)
from modswap.live_values import live_tensors

Tensor = torch.Tensor
Axes = tuple[Axis, ...]


class AxesMode(TorchDispatchMode):
    """A mode that records of which factors the axes of each tensor are.

    Layers of two dimensions give rows and columns to their outputs, and the model's own images have
    them. No operation changes.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's
        self._known: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the output of an operation, and record its axes."""
        output = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in _STARTS or any(tensor in self._known for tensor in live_tensors(args)):
            for tensor in live_tensors(output):
                try:
                    axes = self._axes(name, args, tensor)
                except (IndexError, TypeError, ValueError):
                    axes = None  # an overload with other arguments: nothing is known
                self._note(tensor, axes)
        return output

    def start(self, values: Any) -> None:
        """Take floating tensors of four axes as maps (N, C, H, W)."""
        for tensor in live_tensors(values):
            if tensor.ndim == 4 and tensor.is_floating_point():
                self._note(tensor, map_axes(tensor.shape))

    def grid(self, tokens: Tensor) -> tuple[int, int] | None:
        """Return the height and width of the map that tokens (N, L, C) hold; None for no map."""
        axes = self._known.get(tokens)
        return None if axes is None or len(axes) != 3 else grid_of(axes[1])

    def holds_windows(self, tensor: Tensor) -> bool:
        """Return whether a tensor of four axes holds windows of a map."""
        axes = self._known.get(tensor)
        return axes is not None and hold_windows(axes)

    def _note(self, tensor: Tensor, axes: Axes | None) -> None:
        if axes is not None and any(map(is_known, axes)) and len(axes) == tensor.ndim:
            self._known[tensor] = axes
        elif tensor in self._known:
            del self._known[tensor]

    def _of(self, value: Any) -> Axes:
        """Return the axes of a tensor."""
        found: Axes | None = self._known.get(value)
        return found or tuple(map(unknown, value.shape))

    def _axes(self, name: str, args: tuple[Any, ...], output: Tensor) -> Axes | None:
        """Return the axes of an output of an operation; None if nothing is known."""
        if name in _FORGET:
            return None
        if name in _STARTS:
            return _STARTS[name](args, output)
        if name in _RULES and isinstance(args[0], Tensor):
            return _RULES[name](self._of(args[0]), args, output)
        given = [self._of(tensor) for tensor in live_tensors(args) if tensor.ndim]
        return _of_several(name, given, args, output)


def _of_several(name: str, given: Sequence[Axes], args: tuple[Any, ...], output: Tensor) -> Axes:
    """Return the axes of an output of an operation on several tensors."""
    if name in _PRODUCTS:
        return (*given[-2][:-1], given[-1][-1])
    if name in _JOINTS:
        return _joined(given, _JOINTS[name], args, output)
    # the tokens of an attention's output are those of the query
    return _alike(given[:1] if "attention" in name else given, output.shape)


def _joined(parts: Sequence[Axes], added: Axes, args: tuple[Any, ...], output: Tensor) -> Axes:
    """Return the axes of tensors that are put beside one another, along an axis that is added."""
    dim = (args[1] if len(args) > 1 else 0) % output.ndim
    parts = [(*axes[:dim], *added, *axes[dim:]) for axes in parts]
    along = [axes[dim] for axes in parts]
    size = output.shape[dim]
    kinds = {factor.kind for axis in along for factor in axis}
    joint = resized(along[0], size) if len(kinds) == 1 else unknown(size)
    axes = _alike(parts, output.shape)
    return (*axes[:dim], joint, *axes[dim + 1 :])


def _alike(sources: Sequence[Axes], shape: Sequence[int]) -> Axes:
    """Return the axes of an output from those of inputs that are broadcast to it."""
    found = []
    for place, size in enumerate(reversed(shape)):
        axes = [axes[-1 - place] for axes in sources if len(axes) > place]
        fitting = (axis for axis in axes if is_known(axis) and _size(axis) == size)
        found.append(next(fitting, unknown(size)))
    return tuple(reversed(found))


def _size(axis: Axis) -> int:
    return prod(factor.size for factor in axis)


def _reshaped(axes: Axes, args: tuple[Any, ...], output: Tensor) -> Axes:
    del args
    return reshaped(axes, output.shape)


def _permuted(axes: Axes, args: tuple[Any, ...], output: Tensor) -> Axes:
    del output
    return tuple(axes[dim] for dim in args[1])


def _transposed(axes: Axes, args: tuple[Any, ...], output: Tensor) -> Axes:
    del output
    first, second = (args[1], args[2]) if len(args) > 2 else (0, -1)
    swapped = list(axes)
    if swapped:
        swapped[first], swapped[second] = swapped[second], swapped[first]
    return tuple(swapped)


def _without(axes: Axes, args: tuple[Any, ...], output: Tensor) -> Axes:
    """Return the axes of an output that has lost an axis, or keeps it with another size."""
    gone = _dims(args[1] if len(args) > 1 else None, len(axes))
    if output.ndim == len(axes):
        found = zip(axes, output.shape, strict=True)
        return tuple(unknown(n) if at in gone else axis for at, (axis, n) in enumerate(found))
    return tuple(axis for at, axis in enumerate(axes) if at not in gone)


def _dims(named: Any, ndim: int) -> set[int]:
    """Return the axes that an argument names: a number, several, or none for all of them."""
    every = tuple(range(ndim))
    return {every[dim] for dim in ((named,) if isinstance(named, int) else named or every)}


def _cut(axes: Axes, args: tuple[Any, ...], output: Tensor) -> Axes:
    """Return the axes of a tensor of which a part was cut out, or that was padded."""
    del args
    return tuple(resized(axis, size) for axis, size in zip(axes, output.shape, strict=True))


def _windows(axes: Axes, args: tuple[Any, ...], output: Tensor) -> Axes:
    """Return the axes of `Tensor.unfold`, which puts the places of a window last."""
    windows = resized(axes[args[1]], output.shape[-1])
    return (*_cut(axes, args, output[..., 0]), windows)


def _of_map(args: tuple[Any, ...], output: Tensor) -> Axes | None:
    """Return the axes of the output of a layer of two dimensions."""
    del args
    return map_axes(output.shape) if output.ndim > 2 else None


def _convolved(args: tuple[Any, ...], output: Tensor) -> Axes | None:
    return None if args[1].ndim < 4 else map_axes(output.shape)


def _unfolded(args: tuple[Any, ...], output: Tensor) -> Axes | None:
    """Return the axes of `F.unfold`: (N, C k k, L), L the places of the kernel."""
    image, kernel, dilation, padding, stride = args
    sides = zip(image.shape[-2:], kernel, dilation, padding, stride, strict=True)
    high, wide = ((s + 2 * p - d * (k - 1) - 1) // step + 1 for s, k, d, p, step in sides)
    return reshaped(map_axes((*output.shape[:-1], high, wide)), output.shape)


_STARTS: Mapping[str, Callable[[tuple[Any, ...], Tensor], Axes | None]] = {
    "convolution": _convolved,
    "im2col": _unfolded,
    **dict.fromkeys(
        (
            "max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d",
            "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "pixel_shuffle",
            "pixel_unshuffle", "col2im", "grid_sampler_2d", "_upsample_bilinear2d_aa",
            "_upsample_bicubic2d_aa",
        ),
        _of_map,
    ),
}  # fmt: skip
_RULES: Mapping[str, Callable[[Axes, tuple[Any, ...], Tensor], Axes]] = {
    **dict.fromkeys(("view", "_unsafe_view", "_reshape_alias", "squeeze", "unsqueeze"), _reshaped),
    "permute": _permuted,
    **dict.fromkeys(("transpose", "t"), _transposed),
    **dict.fromkeys(("select", "unbind", "argmax", "argmin"), _without),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "max", "min", "var", "norm"), _without),
    **dict.fromkeys(("slice", "split", "split_with_sizes", "constant_pad_nd"), _cut),
    "unfold": _windows,
}
# an axis of one is added to the tensors before they are put beside one another
_JOINTS: Mapping[str, Axes] = {"cat": (), "stack": (unknown(1),)}
_PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "matmul"}
# operations that put elements in another order, so that equal sizes mean nothing
_FORGET = {"index", "index_select", "gather", "embedding", "sort", "topk", "scatter", "as_strided"}
