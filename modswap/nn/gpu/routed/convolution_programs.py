"""Triton programs of the depthwise convolution of an NHWC map, and of its weight's gradient.

The taps are laid out as (side^2 + 1, C) float32, with the bias as the last row.
"""
# mypy: disable-error-code="untyped-decorator"
# triton has no types, and its compiler reads the functions below as they are

import triton
import triton.language as tl

from modswap.nn.gpu.tiles import load_shifted


@triton.jit
def convolved(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    base: tl.tensor,
    taps: tl.tensor,
    y: tl.tensor,
    x: tl.tensor,
    shape: tl.tuple,
    step: tl.tensor,
    channels: tl.tensor,
    size: tl.tensor,
    pixels: tl.constexpr,
    block: tl.constexpr,
    side: tl.constexpr,
    sign: tl.constexpr,
) -> tl.tensor:
    """Return the depthwise convolution at some pixels, (pixels, block); its transpose for sign -1.

    Its rows are a loop: unrolled, all taps would be in registers at once.
    """
    channel = tl.arange(0, block)
    known = channel < size
    total = tl.zeros((pixels, block), tl.float32)
    for row in tl.range(0, side, num_stages=1):
        yy = y + (row - side // 2) * sign
        for column in tl.static_range(side):
            xx = x + (column - side // 2) * sign
            at = taps + (row * side + column) * channels + channel
            factor = tl.load(at, mask=known, other=0.0)
            value = load_shifted(base, yy, xx, channel, known, shape, step)
            total += value * factor[None, :]
    return total


@triton.jit
def conv_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    source: tl.tensor,
    taps: tl.tensor,
    target: tl.tensor,
    H: tl.tensor,
    W: tl.tensor,
    source_step: tl.tensor,
    target_step: tl.tensor,
    channels: tl.tensor,
    side: tl.constexpr,
    sign: tl.constexpr,
    block_x: tl.constexpr,
    block_c: tl.constexpr,
) -> None:
    """Write the depthwise convolution of a map (sign 1, with the bias), or its transpose (-1)."""
    blocks, parts = tl.cdiv(channels, block_c), tl.cdiv(W, block_x)
    pid, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    first = pid % blocks * block_c
    x = pid // blocks % parts * block_x + tl.arange(0, block_x)
    y = tl.zeros((block_x,), tl.int32) + pid // blocks // parts
    channel = first + tl.arange(0, block_c)
    known = channel < channels
    base = source + n * H * W * source_step + first
    left = channels - first
    total = convolved(
        base, taps + first, y, x, (H, W), source_step, channels, left, block_x, block_c, side, sign
    )
    if sign == 1:
        at = taps + side * side * channels + channel
        total += tl.load(at, mask=known, other=0.0)[None, :]
    where = target + n * H * W * target_step + (y * W + x)[:, None] * target_step + channel[None, :]
    mask = (x < W)[:, None] & known[None, :]
    tl.store(where, total.to(target.dtype.element_ty), mask=mask)


@triton.jit
def _store_sums(
    to: tl.tensor, sums: tl.tuple, dx: tl.tensor, channel: tl.tensor, channels: tl.tensor,
    side: tl.constexpr,
) -> None:  # fmt: skip
    """Write the sums of up to five neighbouring taps of one row."""
    for k in tl.static_range(5):
        if k < side:
            # a limit, for a scalar compared inside of a mask does not run in the interpreter
            limit = tl.where(dx + k < side, channels, 0)
            tl.store(to + k * channels, tl.sum(sums[k], 0), mask=channel < limit)


@triton.jit
def _row_sums(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    base: tl.tensor,
    slope: tl.tensor,
    sums: tl.tuple,
    y: tl.tensor,
    x: tl.tensor,
    channel: tl.tensor,
    known: tl.tensor,
    shape: tl.tuple,
    step: tl.tensor,
    side: tl.constexpr,
) -> tl.tuple:
    """Return the sums of up to five taps with some pixels added."""
    sum0, sum1, sum2, sum3, sum4 = sums
    sum0 += slope * load_shifted(base, y, x, channel, known, shape, step)
    if side > 1:
        sum1 += slope * load_shifted(base, y, x + 1, channel, known, shape, step)
        sum2 += slope * load_shifted(base, y, x + 2, channel, known, shape, step)
    if side > 3:
        sum3 += slope * load_shifted(base, y, x + 3, channel, known, shape, step)
        sum4 += slope * load_shifted(base, y, x + 4, channel, known, shape, step)
    return sum0, sum1, sum2, sum3, sum4


@triton.jit
def tap_grad_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    source: tl.tensor,
    grad: tl.tensor,
    partial: tl.tensor,
    rows: tl.tensor,
    per: tl.tensor,
    H: tl.tensor,
    W: tl.tensor,
    source_step: tl.tensor,
    channels: tl.tensor,
    side: tl.constexpr,
    block_x: tl.constexpr,
    block_c: tl.constexpr,
) -> None:
    """Sum what some rows of pixels add to the gradients of one row of taps, up to five of them."""
    pid, blocks = tl.program_id(0), tl.cdiv(channels, block_c)
    channel = pid % blocks * block_c + tl.arange(0, block_c)
    dy, dx = pid // blocks % side, pid // blocks // side * 5
    known = channel < channels
    zero = tl.zeros((block_x, block_c), tl.float32)
    sum0, sum1, sum2, sum3, sum4, all_slopes = zero, zero, zero, zero, zero, zero
    first = tl.program_id(1) * per
    for row in range(first, tl.minimum(first + per, rows)):
        n, y = (row // H).to(tl.int64), row % H
        for start in range(0, W, block_x):
            x = start + tl.arange(0, block_x)
            yy = tl.zeros((block_x,), tl.int32) + y
            at = grad + n * H * W * channels
            slope = load_shifted(at, yy, x, channel, known, (H, W), channels)
            all_slopes += slope
            base = source + n * H * W * source_step
            yy, xx = yy + dy - side // 2, x + dx - side // 2
            sums = sum0, sum1, sum2, sum3, sum4
            sum0, sum1, sum2, sum3, sum4 = _row_sums(
                base, slope, sums, yy, xx, channel, known, (H, W), source_step, side
            )
    taps = side * side + 1
    to = partial + (tl.program_id(1) * taps + dy * side + dx) * channels + channel
    _store_sums(to, (sum0, sum1, sum2, sum3, sum4), dx, channel, channels, side)
    if (dy == 0) & (dx == 0):
        to = partial + (tl.program_id(1) * taps + side * side) * channels + channel
        tl.store(to, tl.sum(all_slopes, 0), mask=known)


@triton.jit
def tap_sum_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    partial: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    parts: tl.tensor,
    channels: tl.tensor,
    side: tl.constexpr,
    biased: tl.constexpr,
    block: tl.constexpr,
    block_c: tl.constexpr,
) -> None:
    """Add up the partial gradients of one tap in a fixed order, laid out as the weight."""
    tap = tl.program_id(1)
    channel = tl.program_id(0) * block_c + tl.arange(0, block_c)
    known = channel < channels
    total = tl.zeros((block, block_c), tl.float32)
    for start in range(0, parts, block):
        part = start + tl.arange(0, block)
        where = (part[:, None] * (side * side + 1) + tap) * channels + channel[None, :]
        mask = (part < parts)[:, None] & known[None, :]
        total += tl.load(partial + where, mask=mask, other=0.0)
    value = tl.sum(total, 0)
    if tap < side * side:
        to = weight + channel * (side * side) + tap
        tl.store(to, value.to(weight.dtype.element_ty), mask=known)
    elif biased:
        tl.store(bias + channel, value.to(bias.dtype.element_ty), mask=known)
