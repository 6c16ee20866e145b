"""Attention of every pixel to a window around it, in tiles.

A tile is a few rows and columns of queries, with the slice of keys that their windows cover. Its
bias is the logarithm of how often each key appears in the window of each query: 0 times outside the
window, several times where reflection at the border repeats a pixel. So no window is unfolded.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch

TILE_ROWS = (1, 2, 4, 7, 8)
TILE_COLUMNS = (7, 8, 10, 14, 28)
KERNEL = "_scaled_dot_product_flash_attention_for_cpu"


class Geometry(NamedTuple):
    """The windows of the attention and of the convolution of ACmix."""

    heads: int
    kernel: int  # side of the attention's window, odd
    stride: int  # pixels from one query to the next
    dilation: int  # pixels from one key of a window to the next

    @property
    def padding(self) -> int:
        """Return how many pixels are reflected at each border."""
        return self.dilation * (self.kernel // 2)


class Run(NamedTuple):
    """Equal tiles below each other."""

    query: int  # first query row of the first tile
    query_rows: int  # of a tile, which is also how far it is to the next
    key: int  # first key row of the first tile
    key_rows: int  # of a tile
    key_step: int  # key rows from one tile to the next
    number: int  # of tiles
    bias: torch.Tensor  # logarithm of how often each key appears in each query's window


class Columns(NamedTuple):
    """Groups of columns of the same width, at the same distance."""

    first: int  # column of the first group
    width: int  # columns of a group
    step: int  # columns from the start of a group to the start of the next
    number: int  # of groups


class Strips(NamedTuple):
    """Strips of tiles, from top to bottom, whose biases are equal."""

    queries: Columns
    keys: Columns
    runs: tuple[Run, ...]  # tiles of a strip


def _operator(suffix: str) -> Any:
    """Return torch's kernel that keeps no weights; no public kernel also returns the logsumexp."""
    return getattr(torch.ops.aten, KERNEL + suffix)


def multiplicity(length: int, geometry: Geometry) -> torch.Tensor:
    """Return how often each key is in each query's window along one side, (queries, length)."""
    reach = geometry.dilation * torch.arange(-(geometry.kernel // 2), geometry.kernel // 2 + 1)
    met = torch.arange(0, length, geometry.stride)[:, None] + reach  # (queries, kernel)
    met = met.abs()
    met = torch.where(met >= length, 2 * (length - 1) - met, met)
    counts = torch.zeros(len(met), length, dtype=torch.int64)
    return counts.scatter_add_(1, met, torch.ones_like(met)).double()


def covered(start: int, stop: int, length: int, geometry: Geometry) -> tuple[int, int]:
    """Return the range of the keys in the windows of the queries from `start` to `stop`."""
    first = geometry.stride * start - geometry.padding
    last = geometry.stride * (stop - 1) + geometry.padding
    return max(0, first), min(length, last + 1)


@lru_cache(maxsize=64)
def plan(
    height: int, width: int, head_dim: int, geometry: Geometry, dtype: torch.dtype
) -> tuple[Strips, ...]:
    """Return the tiles of a map of height x width keys; the bias is of the dtype."""
    with torch.device("cpu"):
        down, across = multiplicity(height, geometry), multiplicity(width, geometry)
        rows, columns = _best_tile(height, width, head_dim, geometry)
        found = []
        for queries, keys, side in _equal_parts(across, columns, geometry):
            runs = [
                Run(q.first, q.width, k.first, k.width, k.step, k.number, _bias(part, side, dtype))
                for q, k, part in _equal_parts(down, rows, geometry)
            ]
            found.append(Strips(queries, keys, tuple(runs)))
    return tuple(found)


def _equal_parts(
    met: torch.Tensor, size: int, geometry: Geometry
) -> Iterator[tuple[Columns, Columns, torch.Tensor]]:
    """Yield queries, keys and their multiplicity along one side; equal neighbours are one part.

    `met` is the multiplicity of each key for each query, `size` the queries of a tile, along this
    side.
    """
    step = size * geometry.stride
    parts: list[tuple[Columns, Columns, torch.Tensor]] = []
    for start in range(0, len(met), size):
        stop = min(start + size, len(met))
        lo, hi = covered(start, stop, met.shape[1], geometry)
        part = met[start:stop, lo:hi]
        if parts:
            queries, keys, before = parts[-1]
            if torch.equal(part, before) and lo == keys.first + keys.number * step:
                more = keys.number + 1
                parts[-1] = (queries._replace(number=more), keys._replace(number=more), part)
                continue
        parts.append((Columns(start, stop - start, size, 1), Columns(lo, hi - lo, step, 1), part))
    yield from parts


def _bias(down: torch.Tensor, side: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the bias of a tile: the logarithm of its keys' multiplicities, (queries, keys)."""
    met = down[:, None, :, None] * side[None, :, None, :]
    return met.log().flatten(2).flatten(0, 1).to(dtype)


def _best_tile(height: int, width: int, head_dim: int, geometry: Geometry) -> tuple[int, int]:
    """Return rows and columns of the tiles that are estimated to take the least time."""
    queries = -(-width // geometry.stride)
    best = {}
    for columns in sorted({min(columns, queries) for columns in (*TILE_COLUMNS, queries)}):
        for rows in TILE_ROWS:
            if rows == 1 or rows * columns <= 64:
                best[rows, columns] = _cost(height, width, head_dim, geometry, (rows, columns))
    return min(best, key=best.__getitem__)


def _cost(
    height: int, width: int, head_dim: int, geometry: Geometry, tile: tuple[int, int]
) -> float:
    """Return the approximate microseconds for an image."""
    down = _spans(height, tile[0], geometry)
    across = _spans(width, tile[1], geometry)
    pairs = sum(q * k for q, k in down) * sum(q * k for q, k in across)
    # a product of few queries takes as long as a product of more
    seeming = pairs + 12 * sum(k for _, k in down) * sum(k for _, k in across)
    work = geometry.heads * (seeming * 4 * head_dim / 60e3 + pairs * 1.2e-3)
    tiles = len(down) * len(across) * geometry.heads
    calls = min(len(down), 2 + min(len(down), len(across))) * min(len(across), 3)
    copied = sum(k for _, k in across) * (len(across) > 1) * height
    return work + tiles * 2 + calls * 60 + copied * 2 * geometry.heads * head_dim * 1e-3


def _spans(length: int, size: int, geometry: Geometry) -> list[tuple[int, int]]:
    """Return the number of queries and of keys of each tile along one side."""
    queries = -(-length // geometry.stride)
    bounds = [(start, min(start + size, queries)) for start in range(0, queries, size)]
    ends = [(stop - start, covered(start, stop, length, geometry)) for start, stop in bounds]
    return [(count, hi - lo) for count, (lo, hi) in ends]


def _strips(pixels: torch.Tensor, columns: Columns) -> torch.Tensor:
    """Return a view of strips, (strips, N, rows, columns, heads, channels)."""
    to_column = pixels.stride(2)
    size = (columns.number, *pixels.shape[:2], columns.width, *pixels.shape[3:])
    stride = (columns.step * to_column, *pixels.stride())
    return pixels.as_strided(size, stride, pixels.storage_offset() + columns.first * to_column)


def _cut(pixels: torch.Tensor, columns: Columns) -> torch.Tensor:
    """Return strips as images whose rows follow each other in memory; copied where necessary."""
    part = _strips(pixels, columns).flatten(0, 1)
    return part if part.stride(1) == part.shape[2] * part.stride(2) else part.contiguous()


def _room(pixels: torch.Tensor, columns: Columns) -> torch.Tensor:
    """Return the tensor to write strips into: the map itself for a single strip, else a new one."""
    part = _strips(pixels, columns)
    return part[0] if columns.number == 1 else torch.empty_like(part).flatten(0, 1)


def _put(pixels: torch.Tensor, columns: Columns, written: torch.Tensor) -> None:
    """Write strips into their map, unless they are in it already."""
    if columns.number > 1:
        part = _strips(pixels, columns)
        part.copy_(written.view(part.shape))


def _tiles(
    strip: torch.Tensor, first: int, rows: int, step: int, count: int, *, flat: bool = False
) -> list[torch.Tensor]:
    """Return views of a strip's tiles, the same tile of all images or all tiles of an image.

    Each is (B, rows, columns, heads, channels), or if flat (B, heads, rows * columns, channels).
    """
    images, _, columns, heads, channels = strip.shape
    to_image, to_row, to_column, to_head, to_channel = strip.stride()
    start = strip.storage_offset() + first * to_row
    if images >= count:
        batch, next_tile = images, to_image
        starts = [start + tile * step * to_row for tile in range(count)]
    else:
        batch, next_tile = count, step * to_row
        starts = [start + image * to_image for image in range(images)]
    size: tuple[int, ...] = (batch, rows, columns, heads, channels)
    stride: tuple[int, ...] = (next_tile, to_row, to_column, to_head, to_channel)
    if flat:
        size = (batch, heads, rows * columns, channels)
        stride = (next_tile, to_head, to_column, to_channel)
    return [strip.as_strided(size, stride, at) for at in starts]


def _queries(strip: torch.Tensor, run: Run) -> list[torch.Tensor]:
    return _tiles(strip, run.query, run.query_rows, run.query_rows, run.number, flat=True)


def _results(strip: torch.Tensor, run: Run) -> list[torch.Tensor]:
    return _tiles(strip, run.query, run.query_rows, run.query_rows, run.number)


def _keys(strip: torch.Tensor, run: Run) -> list[torch.Tensor]:
    return _tiles(strip, run.key, run.key_rows, run.key_step, run.number, flat=True)


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, geometry: Geometry, *, keep: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the attention's output and the logsumexp of each query's logits.

    Queries are (N, H', W', heads, head_dim), keys and values (N, H, W, heads, head_dim). The
    logsumexp is not filled in without `keep`.
    """
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    wide = torch.promote_types(q.dtype, torch.float32)
    logsumexp = torch.empty(*q.shape[:-1], 1, dtype=wide, device=q.device)
    for strips in plan(k.shape[1], k.shape[2], k.shape[4], geometry, wide):
        queries = _cut(q, strips.queries)
        held = [_cut(t, strips.keys) for t in (k, v)]
        outputs, sums = (_room(t, strips.queries) for t in (out, logsumexp))
        for run in strips.runs:
            inputs = zip(_queries(queries, run), *(_keys(t, run) for t in held), strict=True)
            results = zip(*(_results(t, run) for t in (outputs, sums)), strict=True)
            for (query, key, value), (output, total) in zip(inputs, results, strict=True):
                got, lse = _operator("")(
                    query, key, value, attn_mask=run.bias, scale=q.shape[-1] ** -0.5
                )
                output.copy_(got.transpose(1, 2).view(output.shape))
                if keep:
                    total.copy_(lse.transpose(1, 2).view(total.shape))
        _put(out, strips.queries, outputs)
        if keep:
            _put(logsumexp, strips.queries, sums)
    return out, logsumexp


def attend_backward(
    gradient: torch.Tensor,
    inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    results: tuple[torch.Tensor, torch.Tensor],
    gradients: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    geometry: Geometry,
) -> None:
    """Write the gradient of the queries, and add to those of keys and values.

    `inputs` and `results` are those of `attend`, `gradient` is that of its output; `gradients`
    are shaped as the inputs.
    """
    q, k, v = inputs
    dq, *others = gradients
    for strips in plan(k.shape[1], k.shape[2], k.shape[4], geometry, results[1].dtype):
        asked = [_cut(t, strips.queries) for t in (gradient, q, *results)]
        held = [_cut(t, strips.keys) for t in (k, v)]
        sums = [torch.zeros_like(t, memory_format=torch.contiguous_format) for t in held]
        written = _room(dq, strips.queries)
        for run in strips.runs:
            from_queries = zip(*(_queries(part, run) for part in asked), strict=True)
            from_keys = zip(*(_keys(part, run) for part in held), strict=True)
            pairs = zip(from_queries, from_keys, _results(written, run), strict=True)
            for index, ((g, query, out, lse), (key, value), into) in enumerate(pairs):
                got = _operator("_backward")(
                    *(g, query, key, value, out, lse.squeeze(3)),
                    dropout_p=0.0,
                    is_causal=False,
                    attn_mask=run.bias,
                    scale=q.shape[-1] ** -0.5,
                )
                into.copy_(got[0].transpose(1, 2).view(into.shape))
                _add(sums[0], got[1], run, index)
                _add(sums[1], got[2], run, index)
        _put(dq, strips.queries, written)
        for into, part in zip(others, sums, strict=True):
            # one after another, as strips overlap
            for at, one in zip(
                _strips(into, strips.keys), part.chunk(strips.keys.number), strict=True
            ):
                at.add_(one)


def _add(strip: torch.Tensor, gradient: torch.Tensor, run: Run, index: int) -> None:
    """Add the gradients of a batch of tiles, which may overlap, to their strip."""
    shape = (len(gradient), run.key_rows, *strip.shape[2:])
    rows = gradient.transpose(1, 2).reshape(shape)
    # tiles of one image overlap, but not when this many rows are added at a time
    most = run.key_rows if len(strip) >= run.number else run.key_step
    for first in range(0, run.key_rows, most):
        part = rows[:, first : first + most]
        at = _tiles(strip, run.key + first, part.shape[1], run.key_step, run.number)
        at[index].add_(part)
