"""Repeat a recorded call of a site with random tensors."""

import ast
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from modswap.core.seen.site import Call, Layout
from modswap.core.seen.values import Group, Plain, TensorInfo, Value
from modswap.ops.run.random_weights import UnfitError

MAX_SMALL_PIXELS = 256  # of a small map
HALVES = {"float16", "bfloat16"}


@dataclass(slots=True, eq=False)
class CallInputs:
    """The tensors of a call, and a way to make the call with other tensors."""

    call: Call  # as recorded, or with a larger batch
    leaves: tuple[torch.Tensor, ...]  # one for each tensor in the call
    labels: tuple[str, ...]  # of the leaves; tensors passed twice are one
    same: tuple[int, ...]  # for each leaf the index of the first that is the same tensor
    # of the modules that were run on it, by the identity of the module
    outputs: dict[int, list[torch.Tensor]] = field(default_factory=dict)

    def live(self, leaves: Sequence[torch.Tensor]) -> tuple[list[Any], dict[str, Any]]:
        """Return positional and keyword inputs made of these tensors."""
        rest = iter([leaves[first] for first in self.same])
        args = [_live(value, rest) for value in self.call.args]
        return args, {name: _live(value, rest) for name, value in self.call.kwargs}

    def changed(
        self, index: int, part: slice, axis: int = 0, *, flip: bool = False
    ) -> tuple[torch.Tensor, ...]:
        """Return the leaves; a part of one leaf, and of its repeats, has other values.

        With `flip` 0 becomes 1 and 1 becomes 0, as drawn numbers may be equal.
        """
        was = self.leaves[index]
        leaf = 1 - was if flip else other_values(was, self.labels[index])
        if was.ndim:
            where = (slice(None),) * axis + (part,)
            drawn, leaf = leaf, was.clone()
            leaf[where] = drawn[where]
        shared = self.same[index]
        return tuple(
            leaf if first == shared else one
            for one, first in zip(self.leaves, self.same, strict=True)
        )

    def changed_together(
        self, indices: Collection[int], part: slice, axis: int = 0, *, flip: Collection[int] = ()
    ) -> tuple[torch.Tensor, ...]:
        """Return the leaves with several of them changed, those in `flip` flipped."""
        leaves = self.leaves
        for index in indices:
            changed = self.changed(index, part, axis, flip=index in flip)
            leaves = tuple(
                new if first == index else kept
                for new, kept, first in zip(changed, leaves, self.same, strict=True)
            )
        return leaves


def make_inputs(call: Call, names: tuple[str, ...]) -> CallInputs:
    """Return a call with random tensors in it; `names` are those of the positional inputs.

    Raises:
        UnfitError: If a value in it is known by its class only.
    """
    names = (*names, *(name for name, _ in call.kwargs))
    values = zip(names, call.inputs, strict=True)
    labelled = [one for name, value in values for one in _labelled(name, value)]
    made = [_made(info, label) for label, info in labelled]
    leaves = tuple(made[first] for first in call.firsts)
    shared: dict[int, list[str]] = {}
    for first, (label, _) in zip(call.firsts, labelled, strict=True):
        shared.setdefault(first, []).append(label)
    labels = tuple(" = ".join(shared[first]) for first in call.firsts)
    inputs = CallInputs(call, leaves, labels, call.firsts)
    inputs.live(leaves)
    return inputs


def enlarged(call: Call, axis: int, batch: int, to: int) -> Call:
    """Return a call whose tensors of a batch size along an axis have another size there."""

    def grown(shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape[axis : axis + 1] != (batch,):
            return shape
        return (*shape[:axis], to, *shape[axis + 1 :])

    return _reshaped(call, grown)


def shrunk(call: Call, layout: Layout | None) -> Call:
    """Return a call whose maps are halved until they are small; tokens stay as they are."""
    axes = {"NCHW": (2, 3), "NHWC": (1, 2)}.get(layout or "")

    def halved(shape: tuple[int, ...]) -> tuple[int, ...]:
        if axes is None or len(shape) != 4:
            return shape
        sides = dict(zip(axes, _halved(*(shape[axis] for axis in axes)), strict=True))
        return tuple(sides.get(axis, side) for axis, side in enumerate(shape))

    return _reshaped(call, halved)


def _reshaped(call: Call, shape_of: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Call:
    """Return a call whose tensors have other shapes."""

    def reshaped(value: Value) -> Value:
        if isinstance(value, Group):
            return replace(value, items=tuple(map(reshaped, value.items)))
        if isinstance(value, TensorInfo):
            return replace(value, shape=shape_of(value.shape))
        return value

    kwargs = tuple((name, reshaped(value)) for name, value in call.kwargs)
    return replace(call, args=tuple(map(reshaped, call.args)), kwargs=kwargs)


def _halved(high: int, wide: int) -> tuple[int, int]:
    """Return the sides of a map, halved while they are even and the map is large."""
    while high % 2 == wide % 2 == 0 and high * wide > MAX_SMALL_PIXELS:
        high, wide = high // 2, wide // 2
    return high, wide


def _labelled(name: str, value: Value) -> Iterator[tuple[str, TensorInfo]]:
    if isinstance(value, TensorInfo):
        yield name, value
    elif isinstance(value, Group):
        for key, item in zip(value.names, value.items, strict=True):
            yield from _labelled(f"{name}[{key}]", item)


def _live(value: Value, leaves: Iterator[torch.Tensor]) -> Any:
    if isinstance(value, TensorInfo):
        return next(leaves)
    if isinstance(value, Plain):
        return _plain(value)
    items = [_live(item, leaves) for item in value.items]
    if value.kind in {"dict", "OrderedDict"}:
        return dict(zip(map(_key, value.names), items, strict=True))
    if value.kind not in {"tuple", "list", "Size"}:
        raise UnfitError(f"it is given a {value.kind}, which cannot be made from the recorded call")
    return items if value.kind == "list" else tuple(items)


def _key(name: str) -> int | str:
    return int(name) if name.isdigit() else name


def _plain(value: Plain) -> Any:
    if value.kind in {"int", "bool", "str", "NoneType", "float"}:
        try:
            return float(value.text) if value.kind == "float" else ast.literal_eval(value.text)
        except (ValueError, SyntaxError):
            pass  # shortened
    raise UnfitError(f"it is given a {value.kind}, which cannot be made from the recorded call")


def _made(info: TensorInfo, label: str) -> torch.Tensor:
    dtype: torch.dtype = getattr(torch, "float32" if info.dtype in HALVES else info.dtype)
    return other_values(torch.empty(info.shape, dtype=dtype), label)


def other_values(like: torch.Tensor, label: str) -> torch.Tensor:
    """Return random values of a tensor's shape and dtype, as an input of this name takes them.

    Masks and whole numbers are 0 and 1. Along the last axis the first is always 0 and the second 1,
    so that no row is masked completely, whether 1 masks or not.
    """
    if (like.is_floating_point() or like.is_complex()) and not is_mask(like, label):
        return torch.randn(like.shape, dtype=like.dtype)
    if like.numel() == 1 and not like.is_floating_point() and like.item() in {0, 1}:
        return 1 - like if like.dtype is not torch.bool else ~like
    drawn = torch.randint(0, 2, like.shape)
    if like.ndim and like.shape[-1] > 2:
        drawn[..., 0], drawn[..., 1] = 0, 1
    return drawn.to(like.dtype)


def is_mask(like: torch.Tensor, label: str) -> bool:
    """Return whether an input is a mask, by its name or its dtype."""
    return "mask" in label.lower() or like.dtype is torch.bool
