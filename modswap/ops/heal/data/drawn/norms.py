"""Batch norms with the statistics of a training, and how far an input's own are from them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from modswap.ops.heal.measures.passes import outputs_of, still
from modswap.ops.heal.samples import Batch


class TrainedNorm(NamedTuple):
    """A batch norm, with the path of its module."""

    path: str
    module: nn.Module
    mean: torch.Tensor
    var: torch.Tensor
    eps: float


class _ReachedError(Exception):
    """The pass has reached the norm whose input is wanted."""


def trained_norms(model: nn.Module) -> list[TrainedNorm]:
    """Return the norms of a model that hold the statistics of a training.

    They are known by their buffers, so that the frozen and fused ones of libraries count too. Those
    of a fresh norm, mean 0 and variance 1, say nothing.
    """
    found = []
    for path, module in model.named_modules():
        mean, var = (getattr(module, name, None) for name in ("running_mean", "running_var"))
        if not isinstance(mean, torch.Tensor) or not isinstance(var, torch.Tensor):
            continue
        if mean.ndim == 1 and (mean.any() or (var != 1).any()):
            eps = float(getattr(module, "eps", 1e-5))
            found.append(TrainedNorm(path, module, mean.float(), var.float(), eps))
    return found


def first_norm(
    model: nn.Module, norms: list[TrainedNorm], batch: Batch
) -> tuple[TrainedNorm, torch.Tensor] | None:
    """Return the norm that a pass reaches first, and its input (N, C, …); None without one."""
    reached: list[tuple[TrainedNorm, torch.Tensor]] = []

    def hook(norm: TrainedNorm) -> Callable[..., None]:
        def stop(_: nn.Module, args: tuple[Any, ...]) -> None:
            reached.append((norm, args[0].float()))
            raise _ReachedError

        return stop

    handles = [norm.module.register_forward_pre_hook(hook(norm)) for norm in norms]
    try:
        with still(model):
            outputs_of(model, batch)
    except _ReachedError:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return reached[0] if reached else None


def misfit(norm: TrainedNorm, given: torch.Tensor) -> torch.Tensor:
    """Return how far inputs of a norm (G, N, C, …) are from its training, for each of G groups."""
    axes = [axis for axis in range(1, given.ndim) if axis != 2]
    return misfit_of(norm, given.mean(axes), given.var(axes, correction=0))


def misfit_of(norm: TrainedNorm, mean: torch.Tensor, var: torch.Tensor) -> torch.Tensor:
    """Return how far means and variances (G, C) are from those of a norm, for each of G groups.

    It is the divergence of two normal distributions, in both directions, over all channels.
    """
    var, own = var + norm.eps, norm.var + norm.eps
    apart = (mean - norm.mean) ** 2
    both = (var + apart) / own + (own + apart) / var
    return (both / 2 - 1).clamp(max=MAX_MISFIT).mean(1)


MAX_MISFIT = 20.0  # of a channel, so that one without a signal does not decide
