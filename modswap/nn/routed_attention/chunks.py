"""Routed attention window by window: rows of keys and values are picked into a small buffer."""

from collections.abc import Iterator

import torch

from modswap.nn.routed_attention.plain import among_all, by_head

CHUNK_BYTES = 1 << 20  # of picked keys and values: more leave the cache, fewer are mostly overhead


class Picker:
    """Keys and values of the windows that some windows are routed to, picked into one buffer.

    Operands as in `Operands`: (N, P, K, c + C), (N, P, T), (N, P, T) and (N, P, K).
    """

    def __init__(
        self,
        kv: torch.Tensor,
        indices: torch.Tensor,
        weights: torch.Tensor | None,
        key_mask: torch.Tensor | None,
    ) -> None:
        N, P, K, channels = kv.shape
        self.topk = indices.shape[2]
        self.keys, self.channels = K, channels
        self.source = kv.reshape(N * P, K, channels)
        self.rows = among_all(indices).flatten()  # (N P T,)
        self.weights = None if weights is None else weights.reshape(-1, 1, 1)  # (N P T, 1, 1)
        self.mask = None if key_mask is None else key_mask.reshape(N * P, K)
        nbytes = self.topk * K * channels * kv.element_size()
        self.step = max(1, min(N * P, CHUNK_BYTES // nbytes))
        self.windows = N * P
        self.buffer = kv.new_empty(self.step * self.topk, K, channels)

    def chunks(self) -> Iterator[tuple[slice, slice]]:
        """Yield the windows of each chunk, and the rows that they pick."""
        for start in range(0, self.windows, self.step):
            end = min(start + self.step, self.windows)
            yield slice(start, end), slice(start * self.topk, end * self.topk)

    def pick(self, rows: slice) -> torch.Tensor:
        """Return picked rows: (windows T, K, c + C), in the buffer."""
        picked = self.buffer[: rows.stop - rows.start]
        return torch.index_select(self.source, 0, self.rows[rows], out=picked)

    def shared_out(self, picked: torch.Tensor) -> torch.Tensor:
        """Return rows of picked windows as the keys of each window: (windows, T K, c + C)."""
        return picked.view(-1, self.topk * self.keys, self.channels)

    def allowed(self, rows: slice) -> torch.Tensor | None:
        """Return the mask of picked keys that take part: (windows, 1, 1, T K)."""
        if self.mask is None:
            return None
        return self.mask.index_select(0, self.rows[rows]).view(-1, 1, 1, self.topk * self.keys)


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
    N, P, L, c = q.shape
    C = kv.shape[3] - c
    exact = torch.float64 if q.dtype is torch.float64 else torch.float32
    out = q.new_empty(N * P, L, heads, C // heads)
    lse = q.new_empty(N * P, L, heads, dtype=exact)
    queries = by_head(q.reshape(N * P, L, c), heads)  # (N P, heads, L, c / heads)
    picker = Picker(kv, indices, weights, key_mask)
    for windows, rows in picker.chunks():
        picked = picker.pick(rows)
        if picker.weights is not None:
            picked.mul_(picker.weights[rows])
        k, v = picker.shared_out(picked).tensor_split([c], dim=-1)
        some, logs = _attention(
            queries[windows], by_head(k, heads), by_head(v, heads), picker.allowed(rows), scale
        )
        out[windows] = some.transpose(1, 2)
        lse[windows] = logs.transpose(1, 2)
    return out.view(N, P, L, C), lse.view(N, P, L, heads)


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
    N, P, L, c = q.shape
    dq = q.new_empty(N * P, L, heads, c // heads)
    picker = Picker(kv, indices, weights, key_mask)
    # adding rows to whole windows is fastest on contiguous tensors
    dkv = torch.zeros_like(picker.source, memory_format=torch.contiguous_format)
    dweights = q.new_empty(0 if weights is None else weights.numel())
    back = torch.empty_like(picker.buffer)  # (chunk T, K, c + C)
    parts = [by_head(t.reshape(N * P, L, -1), heads) for t in (grad, q, out)]
    logs = lse.reshape(N * P, L, heads).transpose(1, 2)  # (N P, heads, L)
    for windows, rows in picker.chunks():
        picked = picker.pick(rows)
        factors = None if picker.weights is None else picker.weights[rows]
        used = picked if factors is None else picked * factors
        k, v = (by_head(t, heads) for t in picker.shared_out(used).tensor_split([c], dim=-1))
        dy, some, y = (part[windows] for part in parts)
        dsome, dk, dv = _gradients(
            dy, (some, k, v), (y, logs[windows]), picker.allowed(rows), scale
        )  # (windows, heads, L or T K, channels / heads)
        dq[windows] = dsome.transpose(1, 2)
        returned = back[: rows.stop - rows.start]
        keys, values = picker.shared_out(returned).tensor_split([c], dim=-1)
        keys.unflatten(-1, (heads, -1)).copy_(dk.transpose(1, 2))
        values.unflatten(-1, (heads, -1)).copy_(dv.transpose(1, 2))
        if factors is not None:
            dweights[rows] = (returned * picked).sum((1, 2))
            returned.mul_(factors)
        dkv.flatten(1).index_add_(0, picker.rows[rows], returned.flatten(1))
    given = dweights if weights is None else dweights.view(weights.shape)
    return dq.view(q.shape), dkv.view(kv.shape), given


# torch's own fused kernels for the CPU; private, so that a later torch may lack them
_FLASH = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_FLASH_BACKWARD = getattr(
    torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None
)


def _fused(q: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> bool:
    """Return whether the fused kernels take these tensors."""
    known = _FLASH is not None and _FLASH_BACKWARD is not None
    # on the meta device, where tensors have no data, their cost is predicted
    here = q.device.type in {"cpu", "meta"}
    return known and here and q.shape[3] == v.shape[3] and mask is None


def _attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return softmax attention (B, heads, L, C), and logsumexp of the logits (B, heads, L)."""
    if _FLASH is not None and _fused(q, v, mask):
        out, lse = _FLASH(q, k, v, scale=scale)
        return out, lse
    logits = _logits(q, k, mask, scale)
    lse = logits.logsumexp(-1)
    return _shares(logits, lse).to(v.dtype) @ v, lse


def _logits(
    q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> torch.Tensor:
    exact = torch.float64 if q.dtype is torch.float64 else torch.float32
    logits = (q * scale @ k.transpose(-1, -2)).to(exact)  # (B, heads, L, T K)
    return logits if mask is None else logits.masked_fill(~mask, float("-inf"))


def _shares(logits: torch.Tensor, lse: torch.Tensor) -> torch.Tensor:
    """Return the softmax; zeros where no key takes part."""
    return (logits - lse.masked_fill(lse.isinf(), 0)[..., None]).exp()


def _gradients(
    grad: torch.Tensor,
    inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    results: tuple[torch.Tensor, torch.Tensor],
    mask: torch.Tensor | None,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of queries, keys and values, each of its operand's shape."""
    (q, k, v), (out, lse) = inputs, results
    if _FLASH_BACKWARD is not None and _fused(q, v, mask):
        no_dropout, causal = 0.0, False
        dq, dk, dv = _FLASH_BACKWARD(grad, q, k, v, out, lse, no_dropout, causal, scale=scale)
        return dq, dk, dv
    shares = _shares(_logits(q, k, mask, scale), lse)  # (B, heads, L, T K)
    dv = shares.to(v.dtype).transpose(-1, -2) @ grad
    through = grad @ v.transpose(-1, -2)  # (B, heads, L, T K)
    own = (grad * out).sum(-1, keepdim=True)  # (B, heads, L, 1)
    dlogits = ((through - own) * shares * scale).to(q.dtype)
    return dlogits @ k, dlogits.transpose(-1, -2) @ q, dv
