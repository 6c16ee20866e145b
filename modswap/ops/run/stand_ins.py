"""Make tensors that have shapes, dtypes and strides, but no data, to run a model on."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from modswap.live_values import changed_tensors, map_tensors
from modswap.nn.fake_tensors import fake_mode, made_fake
from modswap.ops.run.quick_outputs import QuickOutputs

_Given = AbstractContextManager[tuple[dict[str, torch.Tensor], Callable[[Any], Any]]]
StandIns = Callable[[nn.Module, torch.dtype | None], _Given]


@contextmanager
def meta_values(
    model: nn.Module,
    dtype: torch.dtype | None = None,
    kept: dict[str, torch.Tensor] | None = None,
) -> Iterator[tuple[dict[str, torch.Tensor], Callable[[Any], Any]]]:
    """Give stand-ins on the meta device, and a function that moves inputs there.

    This is quicker than fake tensors, which take seconds to import. Models that keep tensors
    outside their parameters and buffers, or that ask for devices, fail on it. Floating stand-ins
    are of `dtype`, if one is given. Those that are `kept` from an earlier pass serve again.
    """
    named = kept or _stand_ins(model, lambda tensor: tensor.detach().to("meta"), dtype)
    with torch.device("meta"):
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


class KeptStandIns:
    """Meta stand-ins of a model for pass after pass, for as long as it holds the same tensors."""

    def __init__(self) -> None:
        self._made: dict[str, torch.Tensor] = {}
        self._forms: list[tuple[Any, ...]] = []

    def __call__(self, model: nn.Module, dtype: torch.dtype | None) -> _Given:
        """Give the stand-ins as `meta_values` does; new ones where a pass changed their form."""
        if not self._made or self._forms != _forms(self._made):
            with meta_values(model, dtype) as (self._made, _):
                self._forms = _forms(self._made)
        return meta_values(model, dtype, self._made)


def _forms(named: Mapping[str, torch.Tensor]) -> list[tuple[Any, ...]]:
    return [(one.shape, one.stride(), one.dtype, one.requires_grad) for one in named.values()]


def _stand_ins(
    model: nn.Module, make: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype | None
) -> dict[str, torch.Tensor]:
    """Return the stand-in of each name; two names of one tensor share a stand-in."""
    return changed_tensors(
        model, lambda tensor: make(tensor).to(dtype if tensor.is_floating_point() else None)
    )
