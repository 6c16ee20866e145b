"""Parts of Triton programs: which pixels of a map belong to a window, or to a list of windows.

The `geometry` of a map is (H, W, height and width of a window, windows side by side, and the magic
numbers for divisions by the pixels of a window, by its width, and by the windows side by side).
A window may reach over the map; such pixels are neither read nor written.
"""
# mypy: disable-error-code="untyped-decorator"
# triton has no types, and its compiler reads the functions below as they are

import triton
import triton.language as tl

from modswap.nn.gpu.tiles import divided


@triton.jit
def own_program(heads: tl.tensor, length: tl.tensor, block: tl.constexpr) -> tl.tuple:
    """Return this program's image, windows of an image, window, head, and pixels (block,)."""
    pid = tl.program_id(0)
    blocks = tl.cdiv(length, block)
    place = pid // heads % blocks * block + tl.arange(0, block)
    windows = tl.num_programs(0) // heads // blocks
    return tl.program_id(1).to(tl.int64), windows, pid // heads // blocks, pid % heads, place


@triton.jit
def own_pixels(geometry: tl.tuple, window: tl.tensor, place: tl.tensor) -> tl.tuple:
    """Return rows and columns of some pixels of one window, and which of them are on the map."""
    H, W, wh, ww, columns, _, magic_w, _ = geometry
    i = divided(place, magic_w)
    y = window // columns * wh + i
    x = window % columns * ww + place - i * ww
    return y, x, (place < wh * ww) & (y < H) & (x < W)


@triton.jit
def listed_pixels(
    geometry: tl.tuple, windows: tl.tensor, place: tl.tensor, keep: tl.tensor
) -> tl.tuple:
    """Return rows and columns of some pixels, counted over a list of windows in memory."""
    _, _, wh, ww, columns, magic_l, magic_w, magic_c = geometry
    t = divided(place, magic_l)
    p = place - t * (wh * ww)
    window = tl.load(windows + t, mask=keep, other=0)
    row = divided(window, magic_c)
    i = divided(p, magic_w)
    return row * wh + i, (window - row * columns) * ww + p - i * ww


@triton.jit
def routed_keys(
    geometry: tl.tuple,
    windows: tl.tensor,
    spot: tl.tensor,
    amount: tl.tensor,
    even: tl.constexpr,
    masked: tl.constexpr,
) -> tl.tuple:
    """Return pixels of some routed keys, which of them are read, and which take part."""
    keep = spot < amount
    y, x = listed_pixels(geometry, windows, spot, keep)
    real = keep
    if not even:
        real = keep & (y < geometry[0]) & (x < geometry[1])
        if masked:
            keep = real
    return y * geometry[1] + x, real, keep
