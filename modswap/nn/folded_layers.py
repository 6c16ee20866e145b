"""The structure of a module in which layers were folded into others, without their weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from modswap.core.decided.blueprint import LayerFold

LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class ZeroOutput(nn.Module):
    """Return 0, in the place of a layer whose output is added to that of another layer.

    Shape:
        Input of any shape, output (), in the input's dtype and on its device.
    """

    def forward(self, x: torch.Tensor, *_: Any) -> torch.Tensor:
        """Return a zero that can be added to any tensor."""
        return x.new_zeros(())


def refolded(module: nn.Module, folds: Sequence[LayerFold]) -> nn.Module:
    """Give a module the structure that folds left; return the same module.

    A layer that others went into has a bias. Norms are identities, and branches give 0.

    Raises:
        ValueError: If the module has no such layers.
    """
    for fold in folds:
        layer = _layer(module, fold.layer, LINEAR)
        if layer.bias is None:
            zeros = layer.weight.new_zeros(len(layer.weight))
            layer.bias = nn.Parameter(zeros, requires_grad=layer.weight.requires_grad)
        for path in fold.norms:
            _put(module, path, NORMS, nn.Identity())
        for path in fold.branches:
            _put(module, path, (*LINEAR, *NORMS), ZeroOutput())
    return module


def _layer(module: nn.Module, path: str, kinds: tuple[type[nn.Module], ...]) -> Any:
    """Return a layer of a module, if it is of one of these classes."""
    layer = dict(module.named_modules(remove_duplicate=False)).get(path)
    if type(layer) not in kinds:
        found = "there is none" if layer is None else f"it is a {type(layer).__name__}"
        raise ValueError(f"no layer can be folded at {path!r:.60}: {found}")
    return layer


def _put(module: nn.Module, path: str, kinds: tuple[type[nn.Module], ...], new: nn.Module) -> None:
    old = _layer(module, path, kinds)
    around, _, name = path.rpartition(".")
    module.get_submodule(around).add_module(name, new.train(old.training))
