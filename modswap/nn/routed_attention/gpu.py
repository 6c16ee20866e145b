"""Routed attention by Triton kernels that loop over the routed windows, on CUDA devices."""

from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

import torch

from modswap.nn.routed_attention.plain import among_all

MAX_HEAD_CHANNELS = 128  # channels of a head that the kernels take
OLDEST = (8, 0)  # compute capability; older devices lack the matrix instructions
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def suits(q: torch.Tensor, heads: int) -> bool:
    """Return whether the kernels take these queries, (N, P, L, c)."""
    if not q.is_cuda or q.dtype not in DTYPES or q.shape[3] // heads > MAX_HEAD_CHANNELS:
        return False
    return _has_triton() and torch.cuda.get_device_capability(q.device) >= OLDEST


def forward(  # noqa: PLR0913 - the operands of one operation
    q: torch.Tensor,
    kv: torch.Tensor,
    indices: torch.Tensor,
    weights: torch.Tensor | None,
    key_mask: torch.Tensor | None,
    *,
    heads: int,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output (N, P, L, C), and logsumexp of the logits (N, P, L, heads)."""
    from modswap.nn.routed_attention import triton_kernel

    flat = _flat(q, kv, indices, weights, key_mask)
    out, lse = triton_kernel.forward(*flat, heads=heads, scale=scale)  # (N P, heads, L)
    return out.unflatten(0, q.shape[:2]), lse.transpose(1, 2).unflatten(0, q.shape[:2]).contiguous()


def backward(  # noqa: PLR0913, PLR0917 - the operands of one operation
    grad: torch.Tensor,
    q: torch.Tensor,
    kv: torch.Tensor,
    indices: torch.Tensor,
    weights: torch.Tensor | None,
    key_mask: torch.Tensor | None,
    out: torch.Tensor,
    lse: torch.Tensor,
    *,
    heads: int,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of q, kv and weights; the last is empty without weights."""
    from modswap.nn.routed_attention import triton_kernel

    flat = _flat(q, kv, indices, weights, key_mask)
    dq, dk, dv, dweights = triton_kernel.backward(
        grad.flatten(0, 1),
        *flat,
        out=out.flatten(0, 1),
        lse=lse.flatten(0, 1).transpose(1, 2).contiguous(),
        heads=heads,
        scale=scale,
        needs_weights=weights is not None,
    )
    dkv = torch.cat([dk, dv], dim=-1).view(kv.shape)
    given = q.new_empty(0) if weights is None or dweights is None else dweights.view(weights.shape)
    return dq.view(q.shape), dkv, given


class _Flat(NamedTuple):
    """The operands over all windows of the batch."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    indices: torch.Tensor
    weights: torch.Tensor | None
    key_mask: torch.Tensor | None


def _flat(
    q: torch.Tensor,
    kv: torch.Tensor,
    indices: torch.Tensor,
    weights: torch.Tensor | None,
    key_mask: torch.Tensor | None,
) -> _Flat:
    k, v = kv.flatten(0, 1).tensor_split([q.shape[3]], dim=-1)
    return _Flat(
        q.flatten(0, 1).contiguous(),
        k.contiguous(),
        v.contiguous(),
        among_all(indices).flatten(0, 1),
        None if weights is None else weights.flatten(0, 1).contiguous(),
        None if key_mask is None else key_mask.flatten(0, 1).contiguous(),
    )
