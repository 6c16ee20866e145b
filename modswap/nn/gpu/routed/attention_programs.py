"""Triton programs of routed attention on a projected map: forward, and the queries' gradient.

A program has one head of a block of a window's pixels, and reads the keys and values of the routed
windows by the places of their pixels, as one axis of topk * L keys. Where they fit one tile
(`single`) there is no running softmax, and the backward pass needs no output.

Triton keeps constants in tuples only where they are written into a call, and by index.
`sizes` are the channels of a head of keys and of values, and the tiles that hold them; `source` is
where keys and values of the head begin, the list of routed windows, the number of keys, and the
channels of a pixel; `even`, `masked` and `whole` say that windows cover the map exactly, that
pixels outside of it take no part, and that no tile of keys has a gap.
"""
# mypy: disable-error-code="untyped-decorator"
# triton has no types, and its compiler reads the functions below as they are

import triton
import triton.language as tl

from modswap.nn.gpu.routed.convolution_programs import convolved
from modswap.nn.gpu.routed.window_programs import own_pixels, own_program, routed_keys
from modswap.nn.gpu.tiles import load_tile, store_tile

_LOG2_E = tl.constexpr(1.4426950408889634)  # the programs' exponentials are powers of 2


@triton.jit
def _keys_and_values(
    source: tl.tuple,
    geometry: tl.tuple,
    spot: tl.tensor,
    sizes: tl.tuple,
    modes: tl.tuple,
) -> tl.tuple:
    """Return tiles of some routed keys and values, and which keys take part."""
    key_at, value_at, picked, amount, step = source
    at, real, keep = routed_keys(geometry, picked, spot, amount, modes[0], modes[1])
    key = load_tile(key_at, at, real, step, sizes[0], sizes[2], modes[2])
    value = load_tile(value_at, at, real, step, sizes[1], sizes[3], modes[2])
    return key, value, keep


@triton.jit
def _attend_once(  # noqa: PLR0913, PLR0917 - a program's parts take its tiles one by one
    query: tl.tensor,
    source: tl.tuple,
    geometry: tl.tuple,
    scale: tl.tensor,
    sizes: tl.tuple,
    modes: tl.tuple,
    block_k: tl.constexpr,
    precision: tl.constexpr,
) -> tl.tuple:
    """Return unscaled output, sum and highest score of queries whose keys are in one tile."""
    spot = tl.arange(0, block_k)
    key, value, keep = _keys_and_values(source, geometry, spot, sizes, modes)
    score = tl.dot(query, tl.trans(key), input_precision=precision) * scale
    if not modes[2]:
        score = tl.where(keep[None, :], score, float("-inf"))
    top = tl.max(score, 1)
    share = tl.exp2(score - top[:, None])
    total = tl.dot(share.to(value.dtype), value, input_precision=precision)
    return total, tl.sum(share, 1), top


@triton.jit
def _attend_in_steps(  # noqa: PLR0913, PLR0917 - a program's parts take its tiles one by one
    query: tl.tensor,
    source: tl.tuple,
    geometry: tl.tuple,
    scale: tl.tensor,
    sizes: tl.tuple,
    modes: tl.tuple,
    block_q: tl.constexpr,
    block_k: tl.constexpr,
    precision: tl.constexpr,
) -> tl.tuple:
    """Return unscaled output, sum and highest score of queries by a running softmax."""
    top = tl.full((block_q,), float("-inf"), tl.float32)
    mass = tl.zeros((block_q,), tl.float32)
    total = tl.zeros((block_q, sizes[3]), tl.float32)
    for start in range(0, source[3], block_k):
        spot = start + tl.arange(0, block_k)
        key, value, keep = _keys_and_values(source, geometry, spot, sizes, modes)
        score = tl.dot(query, tl.trans(key), input_precision=precision) * scale
        if not modes[2]:
            score = tl.where(keep[None, :], score, float("-inf"))
        new = tl.maximum(top, tl.max(score, 1))
        if modes[1]:  # a block may have no key at all
            new = tl.maximum(new, -1e30)
        share = tl.exp2(score - new[:, None])
        fade = tl.exp2(top - new)
        mass = mass * fade + tl.sum(share, 1)
        total = total * fade[:, None]
        total = tl.dot(share.to(value.dtype), value, total, input_precision=precision)
        top = new
    return total, mass, top


@triton.jit
def attend_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    qkv: tl.tensor,
    index: tl.tensor,
    out: tl.tensor,
    attended: tl.tensor,
    lse: tl.tensor,
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
    topk: tl.tensor,
    heads: tl.tensor,
    kd: tl.constexpr,
    vd: tl.constexpr,
    block_c: tl.constexpr,
    block_v: tl.constexpr,
    block_q: tl.constexpr,
    block_k: tl.constexpr,
    single: tl.constexpr,
    even: tl.constexpr,
    masked: tl.constexpr,
    whole: tl.constexpr,
    side: tl.constexpr,
    added: tl.constexpr,
    kept: tl.constexpr,
    precision: tl.constexpr,
) -> None:
    """Attend a block of a window, one head, to its routed windows; add the convolution; write."""
    geometry = (H, W, wh, ww, columns, magic_l, magic_w, magic_c)
    n, windows, window, head, place = own_program(heads, wh * ww, block_q)
    step = heads * (2 * kd + vd)
    image = qkv + n * H * W * step
    value_at = image + 2 * heads * kd + head * vd
    y, x, inside = own_pixels(geometry, window, place)
    own = y * W + x
    query = load_tile(image + head * kd, own, inside, step, kd, block_c, False)  # noqa: FBT003 - Triton's functions have no keywords
    picked = index + (n * windows + window) * topk
    source = (image + heads * kd + head * kd, value_at, picked, topk * wh * ww, step)
    scale *= _LOG2_E
    if single:
        total, mass, top = _attend_once(
            query, source, geometry, scale, (kd, vd, block_c, block_v), (even, masked, whole),
            block_k, precision,
        )  # fmt: skip
    else:
        total, mass, top = _attend_in_steps(
            query, source, geometry, scale, (kd, vd, block_c, block_v), (even, masked, whole),
            block_q, block_k, precision,
        )  # fmt: skip
    total = total / mass[:, None]
    to = n * H * W * (heads * vd) + head * vd
    if kept:
        tl.store(lse + (n * heads + head) * H * W + own, top + tl.log2(mass), mask=inside)
        if not single:
            store_tile(attended + to, total, own, inside, heads * vd, vd, block_v)
    if added:
        there = load_tile(out + to, own, inside, heads * vd, vd, block_v, False)  # noqa: FBT003 - as above
        total += there.to(tl.float32)
    if side > 0:
        total += _local(
            taps + head * vd, value_at, y, x, (H, W), step, heads * vd, vd, block_v, block_q, side
        )
    store_tile(out + to, total, own, inside, heads * vd, vd, block_v)


@triton.jit
def _local(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    taps: tl.tensor,
    base: tl.tensor,
    y: tl.tensor,
    x: tl.tensor,
    shape: tl.tuple,
    step: tl.tensor,
    channels: tl.tensor,
    size: tl.constexpr,
    block: tl.constexpr,
    pixels: tl.constexpr,
    side: tl.constexpr,
) -> tl.tensor:
    """Return the depthwise convolution of a head's values at some pixels, with the bias."""
    channel = tl.arange(0, block)
    at = taps + side * side * channels + channel
    offset = tl.load(at, mask=channel < size, other=0.0)
    near = convolved(base, taps, y, x, shape, step, channels, size, pixels, block, side, 1)
    return near + offset[None, :]


@triton.jit
def _slopes(  # noqa: PLR0913, PLR0917 - a program's parts take its tiles one by one
    query: tl.tensor,
    slope: tl.tensor,
    key: tl.tensor,
    value: tl.tensor,
    level: tl.tensor,
    keep: tl.tensor,
    scale: tl.tensor,
    whole: tl.constexpr,
    precision: tl.constexpr,
) -> tl.tuple:
    """Return the shares of keys in queries, and the gradients of the shares."""
    score = tl.dot(query, tl.trans(key), input_precision=precision) * (scale * _LOG2_E)
    share = tl.exp2(score - level[:, None])
    if not whole:
        share = tl.where(keep[None, :], share, 0.0)
    return share, tl.dot(slope, tl.trans(value), input_precision=precision)


@triton.jit
def _slope_once(  # noqa: PLR0913, PLR0917 - a program's parts take its tiles one by one
    query: tl.tensor,
    slope: tl.tensor,
    level: tl.tensor,
    source: tl.tuple,
    geometry: tl.tuple,
    scale: tl.tensor,
    sizes: tl.tuple,
    modes: tl.tuple,
    block_k: tl.constexpr,
    precision: tl.constexpr,
) -> tl.tuple:
    """Return the gradient of queries before the scale, and delta, for keys in one tile."""
    spot = tl.arange(0, block_k)
    key, value, keep = _keys_and_values(source, geometry, spot, sizes, modes)
    share, part = _slopes(query, slope, key, value, level, keep, scale, modes[2], precision)
    offset = tl.sum(share * part, 1)
    part = share * (part - offset[:, None])
    return tl.dot(part.to(key.dtype), key, input_precision=precision), offset


@triton.jit
def _slope_in_steps(  # noqa: PLR0913, PLR0917 - a program's parts take its tiles one by one
    query: tl.tensor,
    slope: tl.tensor,
    level: tl.tensor,
    offset: tl.tensor,
    source: tl.tuple,
    geometry: tl.tuple,
    scale: tl.tensor,
    sizes: tl.tuple,
    modes: tl.tuple,
    block_q: tl.constexpr,
    block_k: tl.constexpr,
    precision: tl.constexpr,
) -> tl.tensor:
    """Return the gradient of queries before the scale, tile by tile of keys."""
    total = tl.zeros((block_q, sizes[2]), tl.float32)
    for start in range(0, source[3], block_k):
        spot = start + tl.arange(0, block_k)
        key, value, keep = _keys_and_values(source, geometry, spot, sizes, modes)
        share, part = _slopes(query, slope, key, value, level, keep, scale, modes[2], precision)
        part = share * (part - offset[:, None])
        total = tl.dot(part.to(key.dtype), key, total, input_precision=precision)
    return total


@triton.jit
def query_grad_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    qkv: tl.tensor,
    index: tl.tensor,
    attended: tl.tensor,
    lse: tl.tensor,
    grad: tl.tensor,
    delta: tl.tensor,
    grad_qkv: tl.tensor,
    scale: tl.tensor,
    H: tl.tensor,
    W: tl.tensor,
    wh: tl.tensor,
    ww: tl.tensor,
    columns: tl.tensor,
    magic_l: tl.tensor,
    magic_w: tl.tensor,
    magic_c: tl.tensor,
    topk: tl.tensor,
    heads: tl.tensor,
    kd: tl.constexpr,
    vd: tl.constexpr,
    block_c: tl.constexpr,
    block_v: tl.constexpr,
    block_q: tl.constexpr,
    block_k: tl.constexpr,
    single: tl.constexpr,
    even: tl.constexpr,
    masked: tl.constexpr,
    whole: tl.constexpr,
    precision: tl.constexpr,
) -> None:
    """Write the gradient of a block of queries, and delta = sum(attended * grad)."""
    geometry = (H, W, wh, ww, columns, magic_l, magic_w, magic_c)
    n, windows, window, head, place = own_program(heads, wh * ww, block_q)
    step = heads * (2 * kd + vd)
    image = qkv + n * H * W * step
    y, x, inside = own_pixels(geometry, window, place)
    own = y * W + x
    query = load_tile(image + head * kd, own, inside, step, kd, block_c, False)  # noqa: FBT003 - Triton's functions have no keywords
    to = n * H * W * (heads * vd) + head * vd
    slope = load_tile(grad + to, own, inside, heads * vd, vd, block_v, False)  # noqa: FBT003 - as above
    line = (n * heads + head) * H * W + own
    level = tl.load(lse + line, mask=inside, other=0.0)
    picked, value_at = index + (n * windows + window) * topk, image + 2 * heads * kd + head * vd
    source = (image + heads * kd + head * kd, value_at, picked, topk * wh * ww, step)
    if single:
        total, offset = _slope_once(
            query, slope, level, source, geometry, scale, (kd, vd, block_c, block_v),
            (even, masked, whole), block_k, precision,
        )  # fmt: skip
    else:
        result = load_tile(attended + to, own, inside, heads * vd, vd, block_v, False)  # noqa: FBT003 - as above
        offset = tl.sum(result.to(tl.float32) * slope.to(tl.float32), 1)
        total = _slope_in_steps(
            query, slope, level, offset, source, geometry, scale, (kd, vd, block_c, block_v),
            (even, masked, whole), block_q, block_k, precision,
        )  # fmt: skip
    tl.store(delta + line, offset, mask=inside)
    to = grad_qkv + n * H * W * step + head * kd
    store_tile(to, total * scale, own, inside, step, kd, block_c)
