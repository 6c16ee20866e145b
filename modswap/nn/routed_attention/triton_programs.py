"""The Triton programs of routed attention, each for a block of a GPU.

Every program treats the T routed windows of a query window as one axis of T * Lk keys and reads
each key in place, so that no tile is wasted at any number of tokens of a window. From a key
window to the queries that picked it, a sorted list of the (query window, t) pairs replaces the
indices, so that no sum needs atomic operations. A weight w of a routed window acts on its scores
and values, not on its keys: q (w k) = w (q k).
"""
# mypy: disable-error-code="untyped-decorator"
# triton has no types, and its compiler reads the functions below as they are

import triton
import triton.language as tl

_LOG2_E = tl.constexpr(1.4426950408889634)  # the programs' exponentials are powers of 2


@triton.jit
def _load_head(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    base: tl.tensor,
    row: tl.tensor,
    keep: tl.tensor,
    heads: tl.tensor,
    head: tl.tensor,
    size: tl.constexpr,
    block: tl.constexpr,
) -> tl.tensor:
    """Return a head of some rows, (rows, block), zeros where a row or channel is left out."""
    channel = tl.arange(0, block)
    at = base + row[:, None] * (heads * size) + (head * size + channel)[None, :]
    return tl.load(at, mask=keep[:, None] & (channel < size)[None, :], other=0.0)


@triton.jit
def _store_head(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    base: tl.tensor,
    tile: tl.tensor,
    row: tl.tensor,
    keep: tl.tensor,
    heads: tl.tensor,
    head: tl.tensor,
    size: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Write a tile (rows, block) to where `_load_head` reads it."""
    channel = tl.arange(0, block)
    at = base + row[:, None] * (heads * size) + (head * size + channel)[None, :]
    tl.store(at, tile.to(base.dtype.element_ty), mask=keep[:, None] & (channel < size)[None, :])


@triton.jit
def _own_tokens(length: tl.tensor, block: tl.constexpr) -> tl.tensor:
    """Return this program's window, its tokens in the window (block,), and which of them exist."""
    blocks = tl.cdiv(length, block)
    token = tl.program_id(0) % blocks * block + tl.arange(0, block)
    return (tl.program_id(0) // blocks).to(tl.int64), token, token < length


@triton.jit
def _weight_of(
    weights: tl.tensor,
    pair: tl.tensor,
    keep: tl.tensor,
    weighted: tl.constexpr,
    block: tl.constexpr,
) -> tl.tensor:
    """Return the weights (block,) of some (query window, t) pairs; ones without weights."""
    if weighted:
        return tl.load(weights + pair, mask=keep, other=0.0)
    else:  # noqa: RET505 - Triton also compiles the code behind a return
        return tl.full((block,), 1.0, tl.float32)


@triton.jit
def _taking_part(
    key_mask: tl.tensor, row: tl.tensor, keep: tl.tensor, masked: tl.constexpr
) -> tl.tensor:
    """Return which of the keys that exist take part."""
    if masked:
        keep = keep & (tl.load(key_mask + row, mask=keep, other=0) != 0)
    return keep


@triton.jit
def _routed_keys(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    indices: tl.tensor,
    weights: tl.tensor,
    key_mask: tl.tensor,
    window: tl.tensor,
    start: tl.tensor,
    topk: tl.tensor,
    key_len: tl.tensor,
    weighted: tl.constexpr,
    masked: tl.constexpr,
    block: tl.constexpr,
) -> tl.tensor:
    """Return rows, mask and weights, each (block,), of the routed keys from `start` on."""
    place = start + tl.arange(0, block)
    keep = place < topk * key_len
    pair = window * topk + place // key_len
    row = tl.load(indices + pair, mask=keep, other=0) * key_len + place % key_len
    weight = _weight_of(weights, pair, keep, weighted, block)
    return row, _taking_part(key_mask, row, keep, masked), weight


@triton.jit
def _recall(lse: tl.tensor, delta: tl.tensor, line: tl.tensor, keep: tl.tensor) -> tl.tensor:
    """Return the log-sum-exp, in powers of 2, and the delta of some queries, each (block,)."""
    level = tl.load(lse + line, mask=keep, other=0.0) * _LOG2_E
    return level, tl.load(delta + line, mask=keep, other=0.0)


@triton.jit
def forward_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    q: tl.tensor,
    k: tl.tensor,
    v: tl.tensor,
    indices: tl.tensor,
    weights: tl.tensor,
    key_mask: tl.tensor,
    out: tl.tensor,
    lse: tl.tensor,
    scale: tl.tensor,
    query_len: tl.tensor,
    key_len: tl.tensor,
    topk: tl.tensor,
    weighted: tl.constexpr,
    masked: tl.constexpr,
    key_size: tl.constexpr,
    value_size: tl.constexpr,
    block_q: tl.constexpr,
    block_k: tl.constexpr,
    block_c: tl.constexpr,
    block_v: tl.constexpr,
) -> None:
    """Attend one block of a query window, one head, to all its routed keys by an online softmax."""
    head, heads = tl.program_id(1), tl.num_programs(1)
    window, token, inside = _own_tokens(query_len, block_q)
    at = window * query_len + token
    query = _load_head(q, at, inside, heads, head, key_size, block_c)  # (block_q, block_c)
    top = tl.full((block_q,), -float("inf"), tl.float32)
    total = tl.zeros((block_q,), tl.float32)
    mixed = tl.zeros((block_q, block_v), tl.float32)
    for start in range(0, topk * key_len, block_k):
        row, keep, weight = _routed_keys(
            indices, weights, key_mask, window, start, topk, key_len, weighted, masked, block_k
        )
        key = _load_head(k, row, keep, heads, head, key_size, block_c)  # (block_k, block_c)
        value = _load_head(v, row, keep, heads, head, value_size, block_v)  # (block_k, block_v)
        score = tl.dot(query, tl.trans(key), input_precision="ieee")  # (block_q, block_k)
        score = tl.where(keep[None, :], score * (weight * scale * _LOG2_E)[None, :], -float("inf"))
        higher = tl.maximum(top, tl.max(score, 1))
        pivot = tl.where(higher == -float("inf"), 0.0, higher)  # no key yet: not inf - inf
        share = tl.exp2(score - pivot[:, None])
        shrink = tl.exp2(top - pivot)
        total = total * shrink + tl.sum(share, 1)
        share = (share * weight[None, :]).to(value.dtype)
        mixed = mixed * shrink[:, None] + tl.dot(share, value, input_precision="ieee")
        top = higher
    some = tl.where(total > 0, total, 1.0)
    _store_head(out, mixed / some[:, None], at, inside, heads, head, value_size, block_v)
    line = (window * heads + head) * query_len + token
    tl.store(lse + line, (top + tl.log2(some)) / _LOG2_E, mask=inside)


@triton.jit
def query_grad_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    q: tl.tensor,
    k: tl.tensor,
    v: tl.tensor,
    indices: tl.tensor,
    weights: tl.tensor,
    key_mask: tl.tensor,
    out: tl.tensor,
    lse: tl.tensor,
    grad_out: tl.tensor,
    delta: tl.tensor,
    grad_q: tl.tensor,
    scale: tl.tensor,
    query_len: tl.tensor,
    key_len: tl.tensor,
    topk: tl.tensor,
    weighted: tl.constexpr,
    masked: tl.constexpr,
    key_size: tl.constexpr,
    value_size: tl.constexpr,
    block_q: tl.constexpr,
    block_k: tl.constexpr,
    block_c: tl.constexpr,
    block_v: tl.constexpr,
) -> None:
    """Compute delta = sum(out * grad_out) and the gradient of one block of a query window."""
    head, heads = tl.program_id(1), tl.num_programs(1)
    window, token, inside = _own_tokens(query_len, block_q)
    at = window * query_len + token
    line = (window * heads + head) * query_len + token
    query = _load_head(q, at, inside, heads, head, key_size, block_c)  # (block_q, block_c)
    grad = _load_head(grad_out, at, inside, heads, head, value_size, block_v)
    result = _load_head(out, at, inside, heads, head, value_size, block_v)
    level = tl.load(lse + line, mask=inside, other=0.0) * _LOG2_E
    offset = tl.sum(grad.to(tl.float32) * result.to(tl.float32), 1)  # (block_q,)
    tl.store(delta + line, offset, mask=inside)
    total = tl.zeros((block_q, block_c), tl.float32)
    for start in range(0, topk * key_len, block_k):
        row, keep, weight = _routed_keys(
            indices, weights, key_mask, window, start, topk, key_len, weighted, masked, block_k
        )
        key = _load_head(k, row, keep, heads, head, key_size, block_c)  # (block_k, block_c)
        value = _load_head(v, row, keep, heads, head, value_size, block_v)  # (block_k, block_v)
        score = tl.dot(query, tl.trans(key), input_precision="ieee")  # (block_q, block_k)
        score = score * (weight * scale * _LOG2_E)[None, :]
        share = tl.where(keep[None, :], tl.exp2(score - level[:, None]), 0.0)
        slope = tl.dot(grad, tl.trans(value), input_precision="ieee") * weight[None, :]
        slope = share * (slope - offset[:, None]) * weight[None, :]
        total += tl.dot(slope.to(key.dtype), key, input_precision="ieee")
    _store_head(grad_q, total * scale, at, inside, heads, head, key_size, block_c)


@triton.jit
def key_grad_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    q: tl.tensor,
    k: tl.tensor,
    v: tl.tensor,
    pairs: tl.tensor,
    first: tl.tensor,
    weights: tl.tensor,
    key_mask: tl.tensor,
    lse: tl.tensor,
    grad_out: tl.tensor,
    delta: tl.tensor,
    grad_k: tl.tensor,
    grad_v: tl.tensor,
    scale: tl.tensor,
    query_len: tl.tensor,
    key_len: tl.tensor,
    topk: tl.tensor,
    weighted: tl.constexpr,
    masked: tl.constexpr,
    key_size: tl.constexpr,
    value_size: tl.constexpr,
    block_q: tl.constexpr,
    block_k: tl.constexpr,
    block_c: tl.constexpr,
    block_v: tl.constexpr,
) -> None:
    """Sum the gradients of one block of a key window over all queries that picked the window."""
    head, heads = tl.program_id(1), tl.num_programs(1)
    window, token, inside = _own_tokens(key_len, block_k)
    row = window * key_len + token
    begin = tl.load(first + window)
    queries = (tl.load(first + window + 1) - begin) * query_len
    keep = _taking_part(key_mask, row, inside, masked)
    key = _load_head(k, row, keep, heads, head, key_size, block_c)  # (block_k, block_c)
    value = _load_head(v, row, keep, heads, head, value_size, block_v)  # (block_k, block_v)
    total_k = tl.zeros((block_k, block_c), tl.float32)
    total_v = tl.zeros((block_k, block_v), tl.float32)
    for start in range(0, queries, block_q):
        place = start + tl.arange(0, block_q)
        picked = place < queries
        pair = tl.load(pairs + begin + place // query_len, mask=picked, other=0)
        picker = (pair // topk).to(tl.int64)
        at = picker * query_len + place % query_len
        line = (picker * heads + head) * query_len + place % query_len
        query = _load_head(q, at, picked, heads, head, key_size, block_c)  # (block_q, block_c)
        grad = _load_head(grad_out, at, picked, heads, head, value_size, block_v)
        level, offset = _recall(lse, delta, line, picked)
        score = tl.dot(key, tl.trans(query), input_precision="ieee")  # (block_k, block_q)
        slope = tl.dot(value, tl.trans(grad), input_precision="ieee")  # (block_k, block_q)
        weight = _weight_of(weights, pair, picked, weighted, block_q)
        score = score * (weight * scale * _LOG2_E)[None, :] - level[None, :]
        share = tl.where(keep[:, None] & picked[None, :], tl.exp2(score), 0.0)
        slope = share * (slope * weight[None, :] - offset[None, :]) * weight[None, :]
        total_k += tl.dot(slope.to(query.dtype), query, input_precision="ieee")
        total_v += tl.dot((share * weight[None, :]).to(grad.dtype), grad, input_precision="ieee")
    _store_head(grad_k, total_k * scale, row, inside, heads, head, key_size, block_c)
    _store_head(grad_v, total_v, row, inside, heads, head, value_size, block_v)


@triton.jit
def weight_grad_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    q: tl.tensor,
    k: tl.tensor,
    v: tl.tensor,
    indices: tl.tensor,
    weights: tl.tensor,
    key_mask: tl.tensor,
    lse: tl.tensor,
    grad_out: tl.tensor,
    delta: tl.tensor,
    grad_weights: tl.tensor,
    scale: tl.tensor,
    query_len: tl.tensor,
    key_len: tl.tensor,
    topk: tl.tensor,
    masked: tl.constexpr,
    key_size: tl.constexpr,
    value_size: tl.constexpr,
    block_q: tl.constexpr,
    block_k: tl.constexpr,
    block_c: tl.constexpr,
    block_v: tl.constexpr,
) -> None:
    """Compute a head's part of the gradient of the weight of a (query window, t) pair."""
    head, heads = tl.program_id(1), tl.num_programs(1)
    pair = tl.program_id(0)
    window = (pair // topk).to(tl.int64)
    picked = tl.load(indices + pair)
    weight = tl.load(weights + pair)
    total = tl.zeros((block_q,), tl.float32)
    for begin in range(0, query_len, block_q):
        token = begin + tl.arange(0, block_q)
        inside = token < query_len
        at = window * query_len + token
        line = (window * heads + head) * query_len + token
        query = _load_head(q, at, inside, heads, head, key_size, block_c)  # (block_q, block_c)
        grad = _load_head(grad_out, at, inside, heads, head, value_size, block_v)
        level, offset = _recall(lse, delta, line, inside)
        for start in range(0, key_len, block_k):
            place = start + tl.arange(0, block_k)
            row = picked * key_len + place
            keep = _taking_part(key_mask, row, place < key_len, masked)
            key = _load_head(k, row, keep, heads, head, key_size, block_c)  # (block_k, block_c)
            value = _load_head(v, row, keep, heads, head, value_size, block_v)
            score = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
            share = tl.exp2(score * (weight * _LOG2_E) - level[:, None])  # (block_q, block_k)
            share = tl.where(keep[None, :], share, 0.0)
            slope = tl.dot(grad, tl.trans(value), input_precision="ieee")  # (block_q, block_k)
            slope += (slope * weight - offset[:, None]) * score
            total += tl.sum(share * slope, 1)
    tl.store(grad_weights + pair * heads + head, tl.sum(total, 0))
