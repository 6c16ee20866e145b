"""Triton programs of attention to the pixels around each pixel, reflected at the border.

A tile of queries, one head, meets all pixels around the tile by dense products. A reflected key is
met at three places along each side, so how often a query meets a key is arithmetic, and the
softmax is weighted by it: no padded copy is needed. Keys are read less their learned positions.

`sizes` are the channels of a head, the side of the window, its reach, rows and columns of a tile,
pixels of a block around it, and the tile that holds a head; `shape` is (H, W, heads, dilation).
Triton keeps constants in tuples only where they are written into a call, and by index.
"""
# mypy: disable-error-code="untyped-decorator"
# triton has no types, and its compiler reads the functions below as they are

import triton
import triton.language as tl

from modswap.nn.gpu.tiles import load_tile, store_tile

_LOG2_E = tl.constexpr(1.4426950408889634)  # the programs' exponentials are powers of 2


@triton.jit
def _times(
    q: tl.tensor, k: tl.tensor, length: tl.tensor, dilation: tl.tensor, side: tl.constexpr
) -> tl.tensor:
    """Return how often a query at `q` meets a key at `k` along one side of a reflected map."""
    reach = dilation * (side // 2)
    near = tl.abs(k - q)
    times = ((near <= reach) & (near % dilation == 0)).to(tl.int32)
    low = k + q  # to the key's reflection at the first pixel, which is at -k
    times += ((k > 0) & (low <= reach) & (low % dilation == 0)).to(tl.int32)
    high = 2 * (length - 1) - k - q  # to its reflection at the last pixel
    times += ((k < length - 1) & (high <= reach) & (high % dilation == 0)).to(tl.int32)
    return times


@triton.jit
def _own_tile(shape: tl.tuple, rows: tl.constexpr, columns: tl.constexpr) -> tl.tuple:
    """Return first row and column of this program's tile, and rows and columns of its pixels."""
    across = tl.cdiv(shape[1], columns)
    y0 = tl.program_id(0) // across * rows
    x0 = tl.program_id(0) % across * columns
    place = tl.arange(0, rows * columns)
    return y0, x0, y0 + place // columns, x0 + place % columns


@triton.jit
def _around(place: tl.tuple, shape: tl.tuple, start: tl.tensor, sizes: tl.tuple) -> tl.tuple:
    """Return pixels from `start` on of those within reach of a tile, and which are on the map."""
    wide = sizes[4] + 2 * sizes[2]
    spot = start + tl.arange(0, sizes[5])
    y = place[0] - sizes[2] + spot // wide
    x = place[1] - sizes[2] + spot % wide
    real = (spot < (sizes[3] + 2 * sizes[2]) * wide) & (y >= 0) & (y < shape[0])
    return y, x, real & (x >= 0) & (x < shape[1])


@triton.jit
def _key(
    image: tl.tensor,
    position: tl.tensor,
    at: tl.tensor,
    real: tl.tensor,
    shape: tl.tuple,
    sizes: tl.tuple,
) -> tl.tensor:
    """Return keys of some pixels less their positions."""
    step = 3 * shape[2] * sizes[0]
    key = load_tile(image + shape[2] * sizes[0], at, real, step, sizes[0], sizes[6], False)  # noqa: FBT003 - Triton's functions have no keywords
    less = load_tile(position, at, real, sizes[0], sizes[0], sizes[6], False)  # noqa: FBT003 - as above
    return (key.to(tl.float32) - less.to(tl.float32)).to(key.dtype)


@triton.jit
def _near_keys(
    image: tl.tensor,
    position: tl.tensor,
    place: tl.tuple,
    shape: tl.tuple,
    start: tl.tensor,
    sizes: tl.tuple,
) -> tl.tuple:
    """Return keys and values around a tile, and how often each query meets each of them."""
    _, _, y, x = place
    H, W, heads, dilation = shape
    ky, kx, real = _around(place, shape, start, sizes)
    at = ky * W + kx
    key = _key(image, position, at, real, shape, sizes)
    step = 3 * heads * sizes[0]
    value = load_tile(image + 2 * heads * sizes[0], at, real, step, sizes[0], sizes[6], False)  # noqa: FBT003 - Triton's functions have no keywords
    times = _times(y[:, None], ky[None, :], H, dilation, sizes[1])
    times *= _times(x[:, None], kx[None, :], W, dilation, sizes[1])
    return key, value, tl.where(real[None, :], times, 0)


@triton.jit
def local_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    qkv: tl.tensor,
    position: tl.tensor,
    out: tl.tensor,
    lse: tl.tensor,
    H: tl.tensor,
    W: tl.tensor,
    heads: tl.tensor,
    dilation: tl.tensor,
    scale: tl.tensor,
    size: tl.constexpr,
    side: tl.constexpr,
    reach: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    block: tl.constexpr,
    block_d: tl.constexpr,
    kept: tl.constexpr,
    precision: tl.constexpr,
) -> None:
    """Attend a tile of pixels, one head, to all pixels near it, each as often as it is met."""
    head, n = tl.program_id(1), tl.program_id(2).to(tl.int64)
    shape, step = (H, W, heads, dilation), 3 * heads * size
    image = qkv + n * H * W * step + head * size
    place = _own_tile(shape, rows, columns)
    own, inside = place[2] * W + place[3], (place[2] < H) & (place[3] < W)
    query = load_tile(image, own, inside, step, size, block_d, False)  # noqa: FBT003 - Triton's functions have no keywords
    top = tl.full((rows * columns,), -1e30, tl.float32)
    mass = tl.zeros((rows * columns,), tl.float32)
    total = tl.zeros((rows * columns, block_d), tl.float32)
    for start in range(0, (rows + 2 * reach) * (columns + 2 * reach), block):
        key, value, times = _near_keys(
            image, position, place, shape, start,
            (size, side, reach, rows, columns, block, block_d),
        )  # fmt: skip
        score = tl.dot(query, tl.trans(key), input_precision=precision) * (scale * _LOG2_E)
        score = tl.where(times > 0, score, -1e30)
        new = tl.maximum(top, tl.max(score, 1))
        share = tl.exp2(score - new[:, None]) * times.to(tl.float32)
        fade = tl.exp2(top - new)
        mass = mass * fade + tl.sum(share, 1)
        total = total * fade[:, None]
        total = tl.dot(share.to(value.dtype), value, total, input_precision=precision)
        top = new
    to = out + n * H * W * (heads * size) + head * size
    store_tile(to, total / mass[:, None], own, inside, heads * size, size, block_d)
    if kept:
        tl.store(lse + (n * heads + head) * H * W + own, top + tl.log2(mass), mask=inside)


@triton.jit
def local_query_grad_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    qkv: tl.tensor,
    position: tl.tensor,
    out: tl.tensor,
    lse: tl.tensor,
    grad: tl.tensor,
    rate: tl.tensor,
    delta: tl.tensor,
    grad_qkv: tl.tensor,
    H: tl.tensor,
    W: tl.tensor,
    heads: tl.tensor,
    dilation: tl.tensor,
    scale: tl.tensor,
    size: tl.constexpr,
    side: tl.constexpr,
    reach: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    block: tl.constexpr,
    block_d: tl.constexpr,
    precision: tl.constexpr,
) -> None:
    """Write the gradient of a tile of queries, and delta = sum(out * grad) without the rate."""
    head, n = tl.program_id(1), tl.program_id(2).to(tl.int64)
    shape, step, wide = (H, W, heads, dilation), 3 * heads * size, heads * size
    image = qkv + n * H * W * step + head * size
    place = _own_tile(shape, rows, columns)
    own, inside = place[2] * W + place[3], (place[2] < H) & (place[3] < W)
    line, at = (n * heads + head) * H * W + own, n * H * W * wide + head * size
    query = load_tile(image, own, inside, step, size, block_d, False)  # noqa: FBT003 - Triton's functions have no keywords
    slope = load_tile(grad + at, own, inside, wide, size, block_d, False)  # noqa: FBT003 - as above
    result = load_tile(out + at, own, inside, wide, size, block_d, False)  # noqa: FBT003 - as above
    offset = tl.sum(result.to(tl.float32) * slope.to(tl.float32), 1)
    tl.store(delta + line, offset, mask=inside)
    level = tl.load(lse + line, mask=inside, other=0.0)
    total = tl.zeros((rows * columns, block_d), tl.float32)
    for start in range(0, (rows + 2 * reach) * (columns + 2 * reach), block):
        key, value, times = _near_keys(
            image, position, place, shape, start,
            (size, side, reach, rows, columns, block, block_d),
        )  # fmt: skip
        score = tl.dot(query, tl.trans(key), input_precision=precision) * (scale * _LOG2_E)
        share = tl.exp2(tl.where(times > 0, score, -1e30) - level[:, None])
        part = tl.dot(slope, tl.trans(value), input_precision=precision)
        part = share * times.to(tl.float32) * (part - offset[:, None])
        total = tl.dot(part.to(key.dtype), key, total, input_precision=precision)
    total *= tl.load(rate).to(tl.float32) * scale
    store_tile(
        grad_qkv + n * H * W * step + head * size, total, own, inside, step, size, block_d
    )  # fmt: skip


@triton.jit
def _near_queries(
    image: tl.tensor,
    sources: tl.tuple,
    place: tl.tuple,
    shape: tl.tuple,
    start: tl.tensor,
    sizes: tl.tuple,
) -> tl.tuple:
    """Return queries and gradients around a tile of keys, their levels, and how often they meet."""
    grad, lse, delta = sources
    _, _, y, x = place
    H, W, heads, dilation = shape
    qy, qx, real = _around(place, shape, start, sizes)
    at = qy * W + qx
    step = heads * sizes[0]
    query = load_tile(image, at, real, 3 * step, sizes[0], sizes[6], False)  # noqa: FBT003 - Triton's functions have no keywords
    slope = load_tile(grad, at, real, step, sizes[0], sizes[6], False)  # noqa: FBT003 - as above
    level = tl.load(lse + at, mask=real, other=float("inf"))  # no share
    offset = tl.load(delta + at, mask=real, other=0.0)
    times = _times(qy[None, :], y[:, None], H, dilation, sizes[1])
    times *= _times(qx[None, :], x[:, None], W, dilation, sizes[1])
    return query, slope, level, offset, times


@triton.jit
def local_key_grad_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    qkv: tl.tensor,
    position: tl.tensor,
    lse: tl.tensor,
    grad: tl.tensor,
    rate: tl.tensor,
    delta: tl.tensor,
    grad_qkv: tl.tensor,
    H: tl.tensor,
    W: tl.tensor,
    heads: tl.tensor,
    dilation: tl.tensor,
    scale: tl.tensor,
    size: tl.constexpr,
    side: tl.constexpr,
    reach: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    block: tl.constexpr,
    block_d: tl.constexpr,
    precision: tl.constexpr,
) -> None:
    """Write the gradients of a tile of keys and values, from all queries near it."""
    head, n = tl.program_id(1), tl.program_id(2).to(tl.int64)
    shape, step, wide = (H, W, heads, dilation), 3 * heads * size, heads * size
    image = qkv + n * H * W * step + head * size
    place = _own_tile(shape, rows, columns)
    own, inside = place[2] * W + place[3], (place[2] < H) & (place[3] < W)
    key = _key(
        image, position, own, inside, shape, (size, side, reach, rows, columns, block, block_d)
    )
    value = load_tile(image + 2 * wide, own, inside, step, size, block_d, False)  # noqa: FBT003 - Triton's functions have no keywords
    lines = (n * heads + head) * H * W
    sources = (grad + n * H * W * wide + head * size, lse + lines, delta + lines)
    total_k = tl.zeros((rows * columns, block_d), tl.float32)
    total_v = tl.zeros((rows * columns, block_d), tl.float32)
    for start in range(0, (rows + 2 * reach) * (columns + 2 * reach), block):
        query, slope, level, offset, times = _near_queries(
            image, sources, place, shape, start,
            (size, side, reach, rows, columns, block, block_d),
        )  # fmt: skip
        score = tl.dot(key, tl.trans(query), input_precision=precision) * (scale * _LOG2_E)
        share = tl.exp2(tl.where(times > 0, score, -1e30) - level[None, :]) * times.to(tl.float32)
        part = tl.dot(value, tl.trans(slope), input_precision=precision)
        total_v = tl.dot(share.to(slope.dtype), slope, total_v, input_precision=precision)
        part = share * (part - offset[None, :])
        total_k = tl.dot(part.to(query.dtype), query, total_k, input_precision=precision)
    factor = tl.load(rate).to(tl.float32)
    to = grad_qkv + n * H * W * step + head * size
    store_tile(to + wide, total_k * (factor * scale), own, inside, step, size, block_d)
    store_tile(to + 2 * wide, total_v * factor, own, inside, step, size, block_d)


@triton.jit
def position_kernel(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    grad_qkv: tl.tensor,
    result: tl.tensor,
    images: tl.tensor,
    pixels: tl.tensor,
    heads: tl.tensor,
    size: tl.constexpr,
    block: tl.constexpr,
    block_d: tl.constexpr,
) -> None:
    """Write the positions' gradient: less the keys', summed over images and heads in an order."""
    pixel = tl.program_id(0) * block + tl.arange(0, block)
    inside = pixel < pixels
    step = 3 * heads * size
    total = tl.zeros((block, block_d), tl.float32)
    for one in range(images * heads):
        base = grad_qkv + (one // heads).to(tl.int64) * pixels * step
        part = load_tile(
            base + (heads + one % heads) * size,
            pixel,
            inside,
            step,
            size,
            block_d,
            False,  # noqa: FBT003 - Triton's functions have no keywords
        )
        total += part.to(tl.float32)
    store_tile(result, -total, pixel, inside, size, size, block_d)
