"""Batch norms behind linear maps, folded into them."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d)
_STATE = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, slots=True)
class Fold:
    """A linear map and the batch norm behind it, by the names of their layers."""

    linear: str
    norm: str
    eps: float

    @property
    def names(self) -> set[str]:
        """Return the names of the norm's tensors."""
        return {f"{self.norm}.{name}" for name in _STATE}

    @property
    def bias(self) -> str:
        """Return the name of the bias that the linear map has afterwards."""
        return f"{self.linear}.bias"


def folds_of(module: nn.Module) -> tuple[Fold, ...]:
    """Return the pairs of a linear map and a batch norm that follows it in the same parent."""
    return tuple(
        Fold(linear, norm, eps)
        for prefix, parent in module.named_modules()
        for linear, norm, eps in _pairs(prefix, parent)
    )


def _pairs(prefix: str, parent: nn.Module) -> Iterator[tuple[str, str, float]]:
    children = [(f"{prefix}.{name}".lstrip("."), one) for name, one in parent.named_children()]
    for (name, layer), (norm, after) in itertools.pairwise(children):
        if not (isinstance(layer, _LINEAR) and isinstance(after, _BatchNorm)):
            continue
        if after.running_var is not None and after.num_features == layer.weight.shape[0]:
            yield name, norm, float(after.eps)


def folded(state: Mapping[str, torch.Tensor], folds: tuple[Fold, ...]) -> dict[str, torch.Tensor]:
    """Return a state in which linear maps do what they and their norms did, in double precision."""
    found = dict(state)
    for fold in folds:
        weight, bias = f"{fold.linear}.weight", fold.bias
        mean, var = (state[f"{fold.norm}.running_{kind}"].double() for kind in ("mean", "var"))
        factor = (var + fold.eps).rsqrt()
        scale, offset = (state.get(f"{fold.norm}.{kind}") for kind in ("weight", "bias"))
        factor = factor if scale is None else factor * scale.double()
        before = state[bias].double() if bias in state else torch.zeros_like(mean)
        moved = (before - mean) * factor
        found[bias] = moved if offset is None else moved + offset.double()
        axes = (-1, *[1] * (state[weight].ndim - 1))
        found[weight] = state[weight].double() * factor.reshape(axes)
    return found
