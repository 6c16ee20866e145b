"""Triton programs that route windows to windows: means, projections of means, and the choice."""
# mypy: disable-error-code="untyped-decorator"
# triton has no types, and its compiler reads the functions below as they are

import triton
import triton.language as tl

from modswap.nn.gpu.routed.window_programs import own_pixels

_LOWEST = tl.constexpr(-2147483648)


@triton.jit
def _window_mean(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    base: tl.tensor,
    geometry: tl.tuple,
    window: tl.tensor,
    channel: tl.tensor,
    known: tl.tensor,
    step: tl.tensor,
    block_p: tl.constexpr,
    block_c: tl.constexpr,
) -> tl.tensor:
    """Return the mean of some channels over a window's pixels on the map, (block_c,) float32."""
    H, W, wh, ww, columns, _, _, _ = geometry
    total = tl.zeros((block_p, block_c), tl.float32)
    for start in range(0, wh * ww, block_p):
        y, x, inside = own_pixels(geometry, window, start + tl.arange(0, block_p))
        where = base + (y * W + x)[:, None] * step + channel[None, :]
        mask = inside[:, None] & known[None, :]
        total += tl.load(where, mask=mask, other=0.0).to(tl.float32)
    y0, x0 = window // columns * wh, window % columns * ww
    rows = tl.maximum(tl.minimum(y0 + wh, H) - y0, 0)
    count = rows * tl.maximum(tl.minimum(x0 + ww, W) - x0, 0)
    return tl.sum(total, 0) / tl.maximum(count, 1).to(tl.float32)


@triton.jit
def _lay_out_taps(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    weight: tl.tensor,
    bias: tl.tensor,
    taps: tl.tensor,
    channel: tl.tensor,
    known: tl.tensor,
    channels: tl.tensor,
    side: tl.constexpr,
    biased: tl.constexpr,
    block_c: tl.constexpr,
) -> None:
    """Write a depthwise weight (C, 1, side, side) as rows of channels, the bias as the last."""
    for tap in range(side * side):
        value = tl.load(weight + channel * (side * side) + tap, mask=known, other=0.0)
        tl.store(taps + tap * channels + channel, value.to(tl.float32), mask=known)
    if biased:
        value = tl.load(bias + channel, mask=known, other=0.0).to(tl.float32)
    else:
        value = tl.zeros((block_c,), tl.float32)
    tl.store(taps + side * side * channels + channel, value, mask=known)


@triton.jit
def prepare_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    source: tl.tensor,
    means: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    taps: tl.tensor,
    H: tl.tensor,
    W: tl.tensor,
    wh: tl.tensor,
    ww: tl.tensor,
    columns: tl.tensor,
    magic_l: tl.tensor,
    magic_w: tl.tensor,
    magic_c: tl.tensor,
    windows: tl.tensor,
    channels: tl.tensor,
    step: tl.tensor,
    conv_channels: tl.tensor,
    side: tl.constexpr,
    biased: tl.constexpr,
    block_p: tl.constexpr,
    block_c: tl.constexpr,
) -> None:
    """Take the means of the first channels over each window; the last grid row lays out the taps.

    The taps make loads of the convolution's weights neighbours in memory.
    """
    geometry = (H, W, wh, ww, columns, magic_l, magic_w, magic_c)
    blocks = tl.cdiv(channels, block_c)
    pid, n = tl.program_id(0), tl.program_id(1)
    last = tl.num_programs(1) - (1 if side > 0 else 0)
    if (n < last) & (pid < windows * blocks):
        channel = pid % blocks * block_c + tl.arange(0, block_c)
        window, known = pid // blocks, channel < channels
        base = source + n.to(tl.int64) * H * W * step
        mean = _window_mean(base, geometry, window, channel, known, step, block_p, block_c)
        tl.store(means + (n * windows + window) * channels + channel, mean, mask=known)
    elif (n == last) & (pid * block_c < conv_channels):
        channel = pid * block_c + tl.arange(0, block_c)
        known = channel < conv_channels
        _lay_out_taps(weight, bias, taps, channel, known, conv_channels, side, biased, block_c)


@triton.jit
def project_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    means: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,
    rows: tl.tensor,
    channels: tl.tensor,
    outputs: tl.tensor,
    biased: tl.constexpr,
    split: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
) -> None:
    """Compute means (rows, channels) @ weight.T + bias in float32, (rows, outputs).

    bfloat16 weights are exact in bfloat16, and a mean is the sum of three such numbers: `split`.
    """
    row = tl.program_id(0) * block_m + tl.arange(0, block_m)
    column = tl.program_id(1) * block_n + tl.arange(0, block_n)
    here, there = row < rows, column < outputs
    total = tl.zeros((block_m, block_n), tl.float32)
    for start in range(0, channels, block_k):
        channel = start + tl.arange(0, block_k)
        known = channel < channels
        a_at = means + row[:, None] * channels + channel[None, :]
        b_at = weight + column[:, None] * channels + channel[None, :]
        a = tl.load(a_at, mask=here[:, None] & known[None, :], other=0.0)
        b = tl.load(b_at, mask=there[:, None] & known[None, :], other=0.0)
        if split:
            high = a.to(tl.bfloat16)
            a -= high.to(tl.float32)
            middle = a.to(tl.bfloat16)
            a -= middle.to(tl.float32)
            total = tl.dot(a.to(tl.bfloat16), tl.trans(b), total)
            total = tl.dot(middle, tl.trans(b), total)
            total = tl.dot(high, tl.trans(b), total)
        else:
            total = tl.dot(a, tl.trans(b.to(tl.float32)), total, input_precision="tf32x3")
    if biased:
        total += tl.load(bias + column, mask=there, other=0.0).to(tl.float32)[None, :]
    mask = here[:, None] & there[None, :]
    tl.store(out + row[:, None] * outputs + column[None, :], total, mask=mask)


@triton.jit
def _affinities(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    base: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    windows: tl.tensor,
    qk: tl.tensor,
    scale: tl.tensor,
    block_r: tl.constexpr,
    block_p: tl.constexpr,
    block_c: tl.constexpr,
) -> tl.tensor:
    """Return mean queries times mean keys of an image's windows, (block_r, block_p) float32."""
    here, there = row < windows, column < windows
    total = tl.zeros((block_r, block_p), tl.float32)
    for start in range(0, qk, block_c):
        channel = start + tl.arange(0, block_c)
        known = channel < qk
        a_at = base + row[:, None] * (2 * qk) + channel[None, :]
        b_at = base + qk + column[:, None] * (2 * qk) + channel[None, :]
        a = tl.load(a_at, mask=here[:, None] & known[None, :], other=0.0)
        b = tl.load(b_at, mask=there[:, None] & known[None, :], other=0.0)
        total = tl.dot(a * scale, tl.trans(b), total, input_precision="ieee")
    return total


@triton.jit
def route_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    means: tl.tensor,
    index: tl.tensor,
    scale: tl.tensor,
    windows: tl.tensor,
    qk: tl.tensor,
    topk: tl.tensor,
    valid_rows: tl.tensor,
    valid_columns: tl.tensor,
    columns: tl.tensor,
    masked: tl.constexpr,
    block_r: tl.constexpr,
    block_p: tl.constexpr,
    block_c: tl.constexpr,
) -> None:
    """Write the `topk` windows whose mean keys go best with each window's mean query, best first.

    Affinities are compared as whole numbers of the same order: of equal ones the lower window is
    picked, and none twice, even where they are infinite or nan.
    """
    n = tl.program_id(1)
    row = tl.program_id(0) * block_r + tl.arange(0, block_r)
    column = tl.arange(0, block_p)
    base = means + n.to(tl.int64) * windows * 2 * qk
    total = _affinities(base, row, column, windows, qk, scale, block_r, block_p, block_c)
    if masked:  # windows without a pixel come last
        seen = (column // columns < valid_rows) & (column % columns < valid_columns)
        total = tl.where(seen[None, :], total, float("-inf"))
    bits = total.to(tl.int32, bitcast=True)
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    bits = tl.where((column < windows)[None, :], tl.maximum(bits, _LOWEST + 1), _LOWEST)
    for t in range(topk):
        _, place = tl.max(bits, 1, return_indices=True, return_indices_tie_break_left=True)
        at = (n * windows + row) * topk + t
        tl.store(index + at, place.to(tl.int32), mask=row < windows)
        bits = tl.where(column[None, :] == place[:, None], _LOWEST, bits)


@triton.jit
def pickers_kernel(
    index: tl.tensor,
    pickers: tl.tensor,
    counts: tl.tensor,
    windows: tl.tensor,
    topk: tl.tensor,
    block: tl.constexpr,
) -> None:
    """Write the windows that picked each window, in ascending order, and how many there are."""
    own, n = tl.program_id(0), tl.program_id(1)
    count = 0
    for start in range(0, windows, block):
        row = start + tl.arange(0, block)
        here = row < windows
        hit = tl.zeros((block,), tl.int32)
        for t in range(topk):
            picked = tl.load(index + (n * windows + row) * topk + t, mask=here, other=-1)
            hit |= (picked == own).to(tl.int32)
        place = count + tl.cumsum(hit, 0) - 1
        tl.store(pickers + (n * windows + own) * windows + place, row, mask=hit > 0)
        count += tl.sum(hit, 0)
    tl.store(counts + n * windows + own, count)
