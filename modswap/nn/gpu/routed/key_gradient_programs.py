"""The Triton program of the gradients of keys and values on a projected map."""
# mypy: disable-error-code="untyped-decorator"
# triton has no types, and its compiler reads the functions below as they are

import triton
import triton.language as tl

from modswap.nn.gpu.routed.convolution_programs import convolved
from modswap.nn.gpu.routed.window_programs import listed_pixels, own_pixels, own_program
from modswap.nn.gpu.tiles import load_tile, store_tile

_LOG2_E = tl.constexpr(1.4426950408889634)  # the programs' exponentials are powers of 2


@triton.jit
def _queries(
    source: tl.tuple, geometry: tl.tuple, spot: tl.tensor, sizes: tl.tuple, even: tl.constexpr
) -> tl.tuple:
    """Return tiles of some queries and gradients, and the queries' log-sum-exp and delta.

    The log-sum-exp of a query that takes no part is infinite, so that no key has a share in it.
    """
    query_at, grad_at, level_at, offset_at, listed, amount, step, grad_step = source
    keep = spot < amount
    y, x = listed_pixels(geometry, listed, spot, keep)
    if not even:
        keep = keep & (y < geometry[0]) & (x < geometry[1])
    at = y * geometry[1] + x
    query = load_tile(query_at, at, keep, step, sizes[0], sizes[2], False)  # noqa: FBT003 - Triton's functions have no keywords
    slope = load_tile(grad_at, at, keep, grad_step, sizes[1], sizes[3], False)  # noqa: FBT003 - as above
    level = tl.load(level_at + at, mask=keep, other=float("inf"))
    return query, slope, level, tl.load(offset_at + at, mask=keep, other=0.0)


@triton.jit
def _sums(  # noqa: PLR0913, PLR0917 - a program's parts take its tiles one by one
    key: tl.tensor,
    value: tl.tensor,
    source: tl.tuple,
    geometry: tl.tuple,
    scale: tl.tensor,
    sizes: tl.tuple,
    block_k: tl.constexpr,
    block_q: tl.constexpr,
    even: tl.constexpr,
    precision: tl.constexpr,
) -> tl.tuple:
    """Return the gradients of keys, before the scale, and values, over all their pickers."""
    total_k = tl.zeros((block_k, sizes[2]), tl.float32)
    total_v = tl.zeros((block_k, sizes[3]), tl.float32)
    for start in range(0, source[5], block_q):
        spot = start + tl.arange(0, block_q)
        query, slope, level, offset = _queries(source, geometry, spot, sizes, even)
        score = tl.dot(key, tl.trans(query), input_precision=precision) * (scale * _LOG2_E)
        share = tl.exp2(score - level[None, :])  # (block_k, block_q)
        part = tl.dot(value, tl.trans(slope), input_precision=precision)
        total_v = tl.dot(share.to(slope.dtype), slope, total_v, input_precision=precision)
        part = share * (part - offset[None, :])
        total_k = tl.dot(part.to(query.dtype), query, total_k, input_precision=precision)
    return total_k, total_v


@triton.jit
def key_grad_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    qkv: tl.tensor,
    pickers: tl.tensor,
    counts: tl.tensor,
    lse: tl.tensor,
    grad: tl.tensor,
    delta: tl.tensor,
    grad_qkv: tl.tensor,
    taps: tl.tensor,
    scale: tl.tensor,
    H: tl.tensor,
    W: tl.tensor,
    wh: tl.tensor,
    ww: tl.tensor,
    columns: tl.tensor,
    magic_l: tl.tensor,
    magic_w: tl.tensor,
    magic_c: tl.tensor,
    heads: tl.tensor,
    kd: tl.constexpr,
    vd: tl.constexpr,
    block_c: tl.constexpr,
    block_v: tl.constexpr,
    block_q: tl.constexpr,
    block_k: tl.constexpr,
    even: tl.constexpr,
    side: tl.constexpr,
    added: tl.constexpr,
    precision: tl.constexpr,
) -> None:
    """Write the gradients of a block of a window's keys and values, from all queries that see it.

    The values' gradient has that of the convolution: its transpose, or what is `added` from before.
    """
    geometry = (H, W, wh, ww, columns, magic_l, magic_w, magic_c)
    n, windows, window, head, place = own_program(heads, wh * ww, block_k)
    step, grad_step = heads * (2 * kd + vd), heads * vd
    image, pixels = qkv + n * H * W * step, n * H * W
    grad_at = grad + pixels * grad_step + head * vd
    y, x, inside = own_pixels(geometry, window, place)
    own = y * W + x
    key_at, value_at = heads * kd + head * kd, 2 * heads * kd + head * vd
    key = load_tile(image + key_at, own, inside, step, kd, block_c, False)  # noqa: FBT003 - Triton's functions have no keywords
    value = load_tile(image + value_at, own, inside, step, vd, block_v, False)  # noqa: FBT003 - as above
    lines = (n * heads + head) * H * W
    listed = pickers + (n * windows + window) * windows
    amount = tl.load(counts + n * windows + window) * wh * ww
    source = (
        image + head * kd, grad_at, lse + lines, delta + lines, listed, amount, step, grad_step
    )  # fmt: skip
    total_k, total_v = _sums(
        key, value, source, geometry, scale, (kd, vd, block_c, block_v), block_k, block_q,
        even, precision,
    )  # fmt: skip
    to = grad_qkv + pixels * step
    store_tile(to + key_at, total_k * scale, own, inside, step, kd, block_c)
    if added:
        total_v += load_tile(to + value_at, own, inside, step, vd, block_v, False).to(tl.float32)  # noqa: FBT003 - as above
    if side > 0:
        total_v += convolved(
            grad_at, taps + head * vd, y, x, (H, W), grad_step, grad_step, vd,
            block_k, block_v, side, -1,
        )  # fmt: skip
    store_tile(to + value_at, total_v, own, inside, step, vd, block_v)
