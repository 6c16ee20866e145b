"""Triton programs of ACmix's folded convolution, on queries, keys and values as they are in memory.

Output channel d * heads + h sums inputs j * D + d, j < 3 * heads, for a head of D channels. The
taps are laid out as (3 * heads, side, side, C) float32.
"""
# mypy: disable-error-code="untyped-decorator"
# triton has no types, and its compiler reads the functions below as they are

import triton
import triton.language as tl

from modswap.nn.gpu.tiles import load_shifted


@triton.jit
def _repeated(tile: tl.tensor, heads: tl.constexpr) -> tl.tensor:
    """Return a tile with every channel `heads` times, side by side."""
    if heads >= 2:
        tile = tl.interleave(tile, tile)
    if heads == 4:
        tile = tl.interleave(tile, tile)
    return tile


@triton.jit
def _own_row(W: tl.tensor, blocks: tl.tensor, block_x: tl.constexpr) -> tl.tuple:
    """Return block of channels, row and columns of this program's pixels."""
    pid, across = tl.program_id(0), tl.cdiv(W, block_x)
    x = pid // blocks % across * block_x + tl.arange(0, block_x)
    y = tl.zeros((block_x,), tl.int32) + pid // blocks // across
    return pid % blocks, y, x


@triton.jit
def mixed_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    qkv: tl.tensor,
    weight: tl.tensor,
    attended: tl.tensor,
    rate: tl.tensor,
    out: tl.tensor,
    H: tl.tensor,
    W: tl.tensor,
    size: tl.tensor,
    heads: tl.constexpr,
    side: tl.constexpr,
    block_x: tl.constexpr,
    block_d: tl.constexpr,
) -> None:
    """Write rate * attended + the convolution."""
    n = tl.program_id(1).to(tl.int64)
    first, y, x = _own_row(W, tl.cdiv(size, block_d), block_x)
    d = first * block_d + tl.arange(0, block_d)
    o = first * block_d * heads + tl.arange(0, block_d * heads)
    inside, known, wide = x < W, d < size, o < size * heads
    step = 3 * heads * size
    at = (n * H * W + y * W + x)[:, None] * (heads * size) + o[None, :]
    mask = inside[:, None] & wide[None, :]
    total = tl.load(attended + at, mask=mask, other=0.0).to(tl.float32)
    total *= tl.load(rate).to(tl.float32)
    base = qkv + n * H * W * step
    for j in tl.range(0, 3 * heads, num_stages=1):
        for row in tl.range(0, side, num_stages=1):
            yy = y + row - side // 2
            for column in tl.static_range(side):
                xx = x + column - side // 2
                value = load_shifted(base + j * size, yy, xx, d, known, (H, W), step)
                tap = (j * side + row) * side + column
                factor = tl.load(weight + tap * (heads * size) + o, mask=wide, other=0.0)
                total += _repeated(value, heads) * factor[None, :]
    tl.store(out + at, total.to(out.dtype.element_ty), mask=mask)


@triton.jit
def mixed_grad_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    grad: tl.tensor,
    weight: tl.tensor,
    grad_qkv: tl.tensor,
    H: tl.tensor,
    W: tl.tensor,
    size: tl.tensor,
    heads: tl.constexpr,
    side: tl.constexpr,
    block_x: tl.constexpr,
    block_d: tl.constexpr,
) -> None:
    """Add the gradient that the convolution gives its inputs to that of the attention."""
    j, n = tl.program_id(1), tl.program_id(2).to(tl.int64)
    first, y, x = _own_row(W, tl.cdiv(size, block_d), block_x)
    d = first * block_d + tl.arange(0, block_d)
    o = first * block_d * heads + tl.arange(0, block_d * heads)
    wide = o < size * heads
    total = tl.zeros((block_x, block_d * heads), tl.float32)
    base = grad + n * H * W * (heads * size)
    for row in tl.range(0, side, num_stages=1):
        yy = y - row + side // 2
        for column in tl.static_range(side):
            xx = x - column + side // 2
            value = load_shifted(base, yy, xx, o, wide, (H, W), heads * size)
            tap = (j * side + row) * side + column
            total += value * tl.load(weight + tap * (heads * size) + o, mask=wide, other=0.0)
    part = tl.sum(tl.reshape(total, (block_x, block_d, heads)), 2)
    at = (n * H * W + y * W + x)[:, None] * (3 * heads * size) + (j * size + d)[None, :]
    keep = (x < W)[:, None] & (d < size)[None, :]
    part += tl.load(grad_qkv + at, mask=keep, other=0.0).to(tl.float32)
    tl.store(grad_qkv + at, part.to(grad_qkv.dtype.element_ty), mask=keep)


@triton.jit
def mixed_tap_grad_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    qkv: tl.tensor,
    grad: tl.tensor,
    partial: tl.tensor,
    rows: tl.tensor,
    per: tl.tensor,
    H: tl.tensor,
    W: tl.tensor,
    size: tl.tensor,
    heads: tl.constexpr,
    block_x: tl.constexpr,
    block_d: tl.constexpr,
) -> None:
    """Sum what some rows of pixels add to the gradients of a row of 3 taps of one input."""
    pid, blocks = tl.program_id(0), tl.cdiv(size, block_d)
    d = pid % blocks * block_d + tl.arange(0, block_d)
    o = pid % blocks * block_d * heads + tl.arange(0, block_d * heads)
    j, dy = pid // blocks // 3, pid // blocks % 3
    known, wide = d < size, o < size * heads
    left = tl.zeros((block_x, block_d * heads), tl.float32)
    middle, right = left, left
    first, step = tl.program_id(1) * per, 3 * heads * size
    for row in range(first, tl.minimum(first + per, rows)):
        n, y = (row // H).to(tl.int64), row % H
        for start in range(0, W, block_x):
            x = start + tl.arange(0, block_x)
            yy = tl.zeros((block_x,), tl.int32) + y
            slopes = grad + n * H * W * (heads * size)
            slope = load_shifted(slopes, yy, x, o, wide, (H, W), heads * size)
            yy += dy - 1
            base = qkv + n * H * W * step + j * size
            near = load_shifted(base, yy, x - 1, d, known, (H, W), step)
            left += slope * _repeated(near, heads)
            near = load_shifted(base, yy, x, d, known, (H, W), step)
            middle += slope * _repeated(near, heads)
            near = load_shifted(base, yy, x + 1, d, known, (H, W), step)
            right += slope * _repeated(near, heads)
    to = partial + ((tl.program_id(1) * 3 * heads + j) * 9 + dy * 3) * (heads * size) + o
    tl.store(to, tl.sum(left, 0), mask=wide)
    tl.store(to + heads * size, tl.sum(middle, 0), mask=wide)
    tl.store(to + 2 * heads * size, tl.sum(right, 0), mask=wide)
