"""The values of all windows put together as a map, beside the keys and values themselves."""

from typing import Any

import torch

from modswap.nn.kernels.tracing import transformed
from modswap.nn.kernels.windows import in_place, join


def with_value_map(
    kv: torch.Tensor, qk_dim: int, rows: int, columns: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return keys and values as they are, and the map of the values.

    (N, P, h, w, c + C) -> the same, (N, rows h, columns w, C); P = rows x columns, c = `qk_dim`.
    The gradient of a plain slice would be a copy of all of `kv`, zero for the keys, only to be
    added to another gradient.
    """
    # a compiler optimises the slice itself
    if not kv.requires_grad or torch.compiler.is_compiling() or transformed(kv):
        return kv, join(kv[..., qk_dim:], rows, columns)
    both: tuple[torch.Tensor, torch.Tensor]
    both = _WithValueMap.apply(kv, qk_dim, rows, columns)  # type: ignore[no-untyped-call] # torch's own
    return both


class _WithValueMap(torch.autograd.Function):
    @staticmethod
    def forward(
        kv: torch.Tensor, qk_dim: int, rows: int, columns: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return kv.view_as(kv), join(kv[..., qk_dim:], rows, columns)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        del output
        _, ctx.qk_dim, ctx.rows, ctx.columns = inputs

    @staticmethod
    def backward(
        ctx: Any, grad: torch.Tensor, map_grad: torch.Tensor
    ) -> tuple[torch.Tensor, None, None, None]:
        # written to, as no other code holds it: the operator behind the view returns new gradients
        grad = grad.clone() if torch.is_grad_enabled() or not grad.is_contiguous() else grad
        values = in_place(grad, ctx.rows, ctx.columns)[..., ctx.qk_dim :]
        values += map_grad.reshape(values.shape)
        return grad, None, None, None
