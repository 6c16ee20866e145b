"""Make tensors that have shapes, dtypes and strides, but no data, to run a model on."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from modswap.nn.fake_tensors import fake_mode
from modswap.ops.run.leaves import map_tensors

StandIns = Callable[
    [nn.Module, torch.dtype | None],
    AbstractContextManager[tuple[dict[str, torch.Tensor], Callable[[Any], Any]]],
]


@contextmanager
def meta_values(
    model: nn.Module, dtype: torch.dtype | None = None
) -> Iterator[tuple[dict[str, torch.Tensor], Callable[[Any], Any]]]:
    """Give stand-ins on the meta device, and a function that moves inputs there.

    This is quicker than fake tensors, which take seconds to import. Models that keep tensors
    outside their parameters and buffers, or that ask for devices, fail on it.

    Args:
        model: The model.
        dtype: Replaces the floating dtype of the stand-ins; None keeps it.
    """
    stand_ins: dict[int, torch.Tensor] = {}

    def meta(tensor: torch.Tensor) -> torch.Tensor:
        # a tensor with two names keeps both: one stand-in
        if id(tensor) not in stand_ins:
            cast = dtype if tensor.is_floating_point() else None
            stand_ins[id(tensor)] = tensor.detach().to("meta").to(cast)
        return stand_ins[id(tensor)]

    def moved(value: Any) -> Any:
        return map_tensors(lambda tensor: tensor.to("meta"), value)

    with torch.device("meta"):
        named = {n: meta(p) for n, p in model.named_parameters(remove_duplicate=False)}
        named.update({n: meta(b) for n, b in model.named_buffers(remove_duplicate=False)})
        yield named, moved


@contextmanager
def fake_values(
    model: nn.Module, dtype: torch.dtype | None = None
) -> Iterator[tuple[dict[str, torch.Tensor], Callable[[Any], Any]]]:
    """Give fake stand-ins for a model's tensors, and a function that makes inputs fake.

    No byte of the model's tensors is read. Tensors that the model makes or keeps outside its
    parameters and buffers are let through.

    Args:
        model: The model.
        dtype: Replaces the floating dtype of the stand-ins; None keeps it.
    """
    stand_ins: dict[int, torch.Tensor] = {}

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        # a tensor with two names keeps both: one stand-in
        if id(tensor) not in stand_ins:
            stand_in = _made_fake(tensor, mode)
            if dtype is not None and tensor.is_floating_point():
                stand_in = stand_in.to(dtype)
            stand_ins[id(tensor)] = stand_in
        return stand_ins[id(tensor)]

    def fake_inputs(value: Any) -> Any:
        return map_tensors(mode.from_tensor, value)

    with fake_mode() as mode:
        named = {n: fake(p) for n, p in model.named_parameters(remove_duplicate=False)}
        named.update({n: fake(b) for n, b in model.named_buffers(remove_duplicate=False)})
        yield named, fake_inputs


def _made_fake(tensor: torch.Tensor, mode: FakeTensorMode) -> torch.Tensor:
    """Return a fake tensor with the strides of another; making plain ones anew is quicker."""
    if type(tensor) in {torch.Tensor, nn.Parameter} and tensor.layout is torch.strided:
        device = tensor.device
        if device.type != "meta":
            size, stride = tensor.shape, tensor.stride()
            return torch.empty_strided(size, stride, dtype=tensor.dtype, device=device)
    made: torch.Tensor = mode.from_tensor(tensor)
    return made
