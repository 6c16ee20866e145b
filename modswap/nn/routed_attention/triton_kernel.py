"""Routed attention on a GPU, forward and backward, without a gather and without atomic sums."""

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from modswap.nn.routed_attention.triton_programs import (
    forward_kernel,
    key_grad_kernel,
    query_grad_kernel,
    weight_grad_kernel,
)

MAX_HEAD_CHANNELS = 128  # channels of a head: a wider head does not fit a tile
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class _Launch:
    """The operands of all kernels, contiguous and of the types that the kernels read."""

    q: Tensor  # (R, Lq, heads * key_size)
    k: Tensor  # (S, Lk, heads * key_size)
    v: Tensor  # (S, Lk, heads * value_size)
    indices: Tensor  # (R, T) int64
    weights: Tensor | None  # (R, T) float32
    key_mask: Tensor | None  # (S, Lk) uint8
    heads: int
    scale: float

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return weights and mask for a kernel; the indices, unread, replace a missing tensor."""
        weights = self.indices if self.weights is None else self.weights
        return weights, self.indices if self.key_mask is None else self.key_mask

    def sizes(self) -> tuple[float, int, int, int]:
        """Return the numbers that every kernel takes after its tensors."""
        return self.scale, self.q.shape[1], self.k.shape[1], self.indices.shape[1]

    def tiles(self, queries: int, keys: int) -> dict[str, int]:
        """Return the constants for which a kernel is compiled, for numbers of queries and keys."""
        key_size, value_size = self.q.shape[2] // self.heads, self.v.shape[2] // self.heads
        wide = max(key_size, value_size) > 64
        most = 32 if self.q.dtype == torch.float32 else 64
        return {
            "masked": self.key_mask is not None,
            "key_size": key_size,
            "value_size": value_size,
            "block_q": min(most, _power(queries)),
            "block_k": min(most // 2 if wide else most, _power(keys)),
            "block_c": _power(key_size),
            "block_v": _power(value_size),
            "num_warps": 8 if wide else 4,
            "num_stages": 2,
        }


def _power(length: int) -> int:
    """Return the edge of the smallest tile that holds a length, 16 at least as `tl.dot` needs."""
    return max(16, 1 << (length - 1).bit_length())


def _prepare(
    tensors: tuple[Tensor, Tensor, Tensor, Tensor],
    weights: Tensor | None,
    key_mask: Tensor | None,
    *,
    heads: int,
    scale: float,
) -> _Launch:
    q, k, v, indices = tensors
    if q.dtype not in DTYPES or {k.dtype, v.dtype} != {q.dtype}:
        raise ValueError(
            f"q, k, v must be of one type of float32, float16 and bfloat16, "
            f"got {q.dtype}, {k.dtype}, {v.dtype}"
        )
    if q.shape[2] % heads or v.shape[2] % heads:
        raise ValueError(f"heads {heads} does not divide channels {q.shape[2]} and {v.shape[2]}")
    if max(q.shape[2], v.shape[2]) > MAX_HEAD_CHANNELS * heads:
        raise ValueError(
            f"a head may have {MAX_HEAD_CHANNELS} channels at most, "
            f"got {q.shape[2] // heads} for keys and {v.shape[2] // heads} for values"
        )
    return _Launch(
        q.contiguous(),
        k.contiguous(),
        v.contiguous(),
        indices.contiguous(),
        None if weights is None else weights.float().contiguous(),
        None if key_mask is None else key_mask.contiguous().view(torch.uint8),
        heads,
        scale,
    )


def forward(  # noqa: PLR0913 - the operands of one attention
    q: Tensor,
    k: Tensor,
    v: Tensor,
    indices: Tensor,
    weights: Tensor | None,
    key_mask: Tensor | None,
    *,
    heads: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Return the attention of every query window over its routed windows, and its log-sum-exp.

    Args:
        q: Queries (R, Lq, Cq).
        k: Keys (S, Lk, Cq).
        v: Values (S, Lk, Cv).
        indices: (R, T) int64, the windows of `k` and `v` that each query window sees; they are
            not checked against S, which would make the CPU wait for the GPU.
        weights: (R, T) factors of the routed keys and values; None: all are 1.
        key_mask: (S, Lk) bool, True where a key takes part; None: all keys.
        heads: Number of heads; a head is a run of Cq // heads and Cv // heads channels.
        scale: Factor of the scores.

    Returns:
        Output (R, Lq, Cv) of the type of `q`, zeros where no key takes part, and log-sum-exp
        (R, heads, Lq) in float32, minus infinity there.

    Raises:
        ValueError: If the types differ or are not float32, float16 or bfloat16, `heads` does not
            divide the channels, or a head has more than `MAX_HEAD_CHANNELS` of them.
    """
    call = _prepare((q, k, v, indices), weights, key_mask, heads=heads, scale=scale)
    R, Lq, T, Lk = *q.shape[:2], indices.shape[1], k.shape[1]
    out = q.new_empty((R, Lq, v.shape[2]))
    lse = q.new_empty((R, heads, Lq), dtype=torch.float32)
    if out.numel():
        tiles = call.tiles(Lq, T * Lk)
        grid = (R * triton.cdiv(Lq, tiles["block_q"]), heads)
        operands = (call.q, call.k, call.v, call.indices, *call.factors())
        with torch.cuda.device_of(q):
            forward_kernel[grid](
                *operands, out, lse, *call.sizes(), weighted=call.weights is not None, **tiles
            )
    return out, lse


def backward(  # noqa: PLR0913, PLR0917 - the operands of one attention and its results
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    indices: Tensor,
    weights: Tensor | None,
    key_mask: Tensor | None,
    out: Tensor,
    lse: Tensor,
    *,
    heads: int,
    scale: float,
    needs_weights: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return the gradients of `q`, `k`, `v` and, if wanted, `weights`, else None in its place.

    Every sum is taken in a fixed order, so that two runs give the same bits. The operands are those
    of `forward`, `out` and `lse` its results, `grad_out` (R, Lq, Cv) the gradient of its output.

    Raises:
        ValueError: As `forward`, or if the gradient of weights that are None is wanted.
    """
    if needs_weights and weights is None:
        raise ValueError("the gradient of weights was asked for, and weights is None")
    call = _prepare((q, k, v, indices), weights, key_mask, heads=heads, scale=scale)
    grad_out = grad_out.to(q.dtype).contiguous()
    with torch.cuda.device_of(q):
        grad_q, delta = _query_grad(call, grad_out, out.contiguous(), lse)
        grad_k, grad_v = _key_grad(call, grad_out, lse, delta)
        if weights is None or not needs_weights:
            return grad_q, grad_k, grad_v, None
        return grad_q, grad_k, grad_v, _weight_grad(call, grad_out, lse, delta).to(weights.dtype)


def _query_grad(call: _Launch, grad_out: Tensor, out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of the queries, and sum(out * grad_out) of each head (R, heads, Lq)."""
    grad_q, delta = torch.empty_like(call.q), torch.empty_like(lse)
    if grad_q.numel():
        R, Lq = call.q.shape[:2]
        tiles = call.tiles(Lq, call.indices.shape[1] * call.k.shape[1])
        grid = (R * triton.cdiv(Lq, tiles["block_q"]), call.heads)
        operands = (call.q, call.k, call.v, call.indices, *call.factors())
        results = (out, lse, grad_out, delta, grad_q)
        query_grad_kernel[grid](
            *operands, *results, *call.sizes(), weighted=call.weights is not None, **tiles
        )
    return grad_q, delta


def _key_grad(call: _Launch, grad_out: Tensor, lse: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of the keys and the values."""
    grad_k, grad_v = torch.empty_like(call.k), torch.empty_like(call.v)
    if grad_k.numel():
        S, Lk = call.k.shape[:2]
        tiles = call.tiles(call.indices.shape[1] * call.q.shape[1], Lk)
        grid = (S * triton.cdiv(Lk, tiles["block_k"]), call.heads)
        pairs, first = _pickers(call.indices, S)
        operands = (call.q, call.k, call.v, pairs, first, *call.factors())
        results = (lse, grad_out, delta, grad_k, grad_v)
        key_grad_kernel[grid](
            *operands, *results, *call.sizes(), weighted=call.weights is not None, **tiles
        )
    return grad_k, grad_v


def _weight_grad(call: _Launch, grad_out: Tensor, lse: Tensor, delta: Tensor) -> Tensor:
    """Return the gradient of the weights, (R, T) float32."""
    R, T = call.indices.shape
    parts = lse.new_empty((R, T, call.heads))
    if parts.numel():
        tiles = call.tiles(call.q.shape[1], call.k.shape[1])
        operands = (call.q, call.k, call.v, call.indices, *call.factors())
        results = (lse, grad_out, delta, parts)
        weight_grad_kernel[R * T, call.heads](*operands, *results, *call.sizes(), **tiles)
    return parts.sum(2)  # (R, T)


def _pickers(indices: Tensor, windows: int) -> tuple[Tensor, Tensor]:
    """Return the places of `indices` (R, T) sorted by window, and the start of each window.

    Places (R * T,) in the flattened `indices`, and (windows + 1,) of which the items s and s + 1
    bound the places that hold window s; both int32, for GPUs are slow to divide int64.
    """
    picked, pairs = indices.flatten().sort(stable=True)
    edges = torch.arange(windows + 1, device=indices.device)
    return pairs.int(), torch.searchsorted(picked, edges, out_int32=True)
