"""Change the sizes of the tensors of a dummy call: by height and width, or by length."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from modswap.core.asked.recipe import TensorInput
from modswap.core.sizes.two_axes import Size
from modswap.ops.run.inputs import DummyCall

WHOLE_NUMBERS = {"int32", "int64"}


@dataclass(frozen=True, slots=True)
class Varied:
    """A call and the size in it that is varied."""

    call: DummyCall
    first: Size  # that size, (H, W) or (L,), as the call has it
    axis: int = 2  # of the length; 2 for a map, whose width follows

    def at(self, size: Size) -> DummyCall:
        """Return the call at another size.

        All maps follow, maps of another size in proportion, and so do tensors of the length.
        """

        def resized(tensor: TensorInput) -> TensorInput:
            shape = self._shape(tensor.shape, size)
            return tensor.model_copy(update={"shape": shape})

        return self.call.with_tensors(resized)

    def _shape(self, shape: tuple[int, ...], size: Size) -> tuple[int, ...]:
        if len(self.first) == 2:
            if len(shape) != 4:
                return shape
            sides = zip(shape[2:], size, self.first, strict=True)
            return (*shape[:2], *(max(1, side * new // old) for side, new, old in sides))
        axes = {2: (1,), 3: (self.axis,), 4: (2, 3)}.get(len(shape), ())
        (old,), (new,) = self.first, size
        return tuple(
            new if axis in axes and side == old else side for axis, side in enumerate(shape)
        )


def varied(call: DummyCall) -> Iterator[Varied]:
    """Yield the ways to vary the size of a call, the likeliest first; none without such an axis.

    The first tensor that is a map, a sequence or a list of indices decides.
    """
    for tensor in call.tensors:
        shape = tensor.shape
        if len(shape) == 4:
            yield Varied(call, shape[2:])
            return
        if len(shape) == 3 or (len(shape) == 2 and tensor.dtype in WHOLE_NUMBERS):
            yield from (Varied(call, (shape[axis],), axis) for axis in range(1, len(shape)))
            return


def without_data(call: DummyCall, dtype: torch.dtype | None, device: str) -> DummyCall:
    """Return a call with unfilled tensors; a dtype replaces float32."""

    def made(tensor: TensorInput) -> torch.Tensor:
        kind: torch.dtype = getattr(torch, tensor.dtype)
        kind = dtype if dtype is not None and kind is torch.float32 else kind
        return torch.empty(tensor.shape, dtype=kind, device=device)

    return call.with_tensors(made)
