"""Routed attention that picks windows in chunks that fit the cache, and again backward."""
# ruff: noqa: ARG001 - of a signature, shapes on fake tensors read a part

from collections.abc import Iterator
from typing import Any

import torch

from modswap.nn.routed_attention import chunks, gpu
from modswap.nn.routed_attention.plain import Operands, plain_attention

Optional = torch.Tensor | None


def picking_attention(operands: Operands) -> torch.Tensor:
    """Return the result of `plain_attention`; the memory grows with the sizes of q and kv alone."""
    out: torch.Tensor = _attend(*operands)[0]
    return out


# operators in torch's registry: compiled graphs and fake tensors record a single step of known
# shapes instead of an unrolled loop over chunks
@torch.library.custom_op("modswap::routed_attention", mutates_args=())
def _attend(  # noqa: PLR0913, PLR0917 - the operands of one operation
    q: torch.Tensor,
    kv: torch.Tensor,
    indices: torch.Tensor,
    weights: Optional,
    key_mask: Optional,
    heads: int,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output (N, P, L, C), and logsumexp of the logits (N, P, L, heads)."""
    forward = gpu.forward if gpu.suits(q, heads) else chunks.forward
    return forward(q, kv, indices, weights, key_mask, heads=heads, scale=scale)


@_attend.register_fake
def _attend_fake(  # noqa: PLR0913, PLR0917 - the operator's own signature
    q: torch.Tensor,
    kv: torch.Tensor,
    indices: torch.Tensor,
    weights: Optional,
    key_mask: Optional,
    heads: int,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    N, P, L, c = q.shape
    exact = torch.float64 if q.dtype is torch.float64 else torch.float32
    out = q.new_empty(N, P, L, kv.shape[3] - c)
    return out, q.new_empty(N, P, L, heads, dtype=exact)


@torch.library.custom_op("modswap::routed_attention_backward", mutates_args=())
def _attend_backward(  # noqa: PLR0913, PLR0917 - the operands of one operation
    grad: torch.Tensor,
    q: torch.Tensor,
    kv: torch.Tensor,
    indices: torch.Tensor,
    weights: Optional,
    key_mask: Optional,
    out: torch.Tensor,
    lse: torch.Tensor,
    heads: int,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of q, kv and weights; the last is empty without weights."""
    backward = gpu.backward if gpu.suits(q, heads) else chunks.backward
    saved = (q, kv, indices, weights, key_mask, out, lse)
    return backward(grad, *saved, heads=heads, scale=scale)


@_attend_backward.register_fake
def _attend_backward_fake(  # noqa: PLR0913, PLR0917 - the operator's own signature
    grad: torch.Tensor,
    q: torch.Tensor,
    kv: torch.Tensor,
    indices: torch.Tensor,
    weights: Optional,
    key_mask: Optional,
    out: torch.Tensor,
    lse: torch.Tensor,
    heads: int,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    given = q.new_empty(0) if weights is None else weights
    return tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in (q, kv, given))  # type: ignore[return-value] # three


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    *tensors, heads, scale = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.heads, ctx.scale = heads, scale


def _gradients(ctx: Any, grad: torch.Tensor, _: torch.Tensor) -> tuple[Optional, ...]:
    *tensors, out, lse = ctx.saved_tensors
    heads, scale = ctx.heads, ctx.scale
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (grad, *tensors)):
        found = iter(_differentiably(grad, tensors, heads, scale))
    else:
        found = iter(_attend_backward(grad.contiguous(), *tensors, out, lse, heads, scale))
    q, kv, weights = next(found), next(found), next(found, None)
    return q, kv, None, weights if tensors[3] is not None else None, None, None, None


def _differentiably(
    grad: torch.Tensor, tensors: list[Any], heads: int, scale: float
) -> Iterator[torch.Tensor]:
    """Yield the gradients of q, kv and weights, themselves differentiable."""
    q, kv, indices, weights, key_mask = tensors
    out = plain_attention(Operands(q, kv, indices, weights, key_mask, heads, scale))
    wanted = [t for t in (q, kv, weights) if t is not None]
    yield from torch.autograd.grad(
        out, wanted, grad, create_graph=True, allow_unused=True, materialize_grads=True
    )


_attend.register_autograd(_gradients, setup_context=_keep)
