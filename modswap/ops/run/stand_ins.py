"""Make tensors that have shapes, dtypes and strides, but no data, to run a model on."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from modswap.live_values import changed_tensors, map_tensors
from modswap.nn.fake_tensors import fake_mode, made_fake
from modswap.ops.run.quick_outputs import QuickOutputs

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
    outside their parameters and buffers, or that ask for devices, fail on it. Floating stand-ins
    are of `dtype`, if one is given.
    """
    with torch.device("meta"):
        named = _stand_ins(model, lambda tensor: tensor.detach().to("meta"), dtype)
        yield named, partial(map_tensors, lambda tensor: tensor.to("meta"))


@contextmanager
def fake_values(
    model: nn.Module, dtype: torch.dtype | None = None
) -> Iterator[tuple[dict[str, torch.Tensor], Callable[[Any], Any]]]:
    """Give fake stand-ins for a model's tensors, and a function that makes inputs fake.

    No byte of the model's tensors is read. Tensors that the model makes or keeps outside its
    parameters and buffers stay real. Floating stand-ins are of `dtype`, if one is given.
    """
    with fake_mode() as mode, QuickOutputs():
        named = _stand_ins(model, partial(made_fake, mode), dtype)
        yield named, partial(map_tensors, partial(made_fake, mode))


def _stand_ins(
    model: nn.Module, make: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype | None
) -> dict[str, torch.Tensor]:
    """Return the stand-in of each name; two names of one tensor share a stand-in."""
    return changed_tensors(
        model, lambda tensor: make(tensor).to(dtype if tensor.is_floating_point() else None)
    )
