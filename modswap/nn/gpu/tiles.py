"""Parts of Triton programs: divisions, and tiles of pixels times channels of an NHWC map."""
# mypy: disable-error-code="untyped-decorator"
# triton has no types, and its compiler reads the functions below as they are

import triton
import triton.language as tl


@triton.jit
def divided(number: tl.tensor, magic: tl.tensor) -> tl.tensor:
    """Return number // d, where magic is 2^31 // d + 1; exact while number * d < 2^31."""
    return tl.umulhi((number * 2).to(tl.uint32), magic.to(tl.uint32)).to(tl.int32)


@triton.jit
def load_tile(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    base: tl.tensor,
    at: tl.tensor,
    keep: tl.tensor,
    step: tl.tensor,
    size: tl.constexpr,
    block: tl.constexpr,
    whole: tl.constexpr,
) -> tl.tensor:
    """Return the channels of some pixels, (pixels, block); zeros where one is left out.

    `whole` says that no pixel is.
    """
    channel = tl.arange(0, block)
    where = base + at[:, None] * step + channel[None, :]
    if size == block:
        tile = tl.load(where) if whole else tl.load(where, mask=keep[:, None], other=0.0)
    else:
        tile = tl.load(where, mask=keep[:, None] & (channel < size)[None, :], other=0.0)
    return tile


@triton.jit
def store_tile(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    base: tl.tensor,
    tile: tl.tensor,
    at: tl.tensor,
    keep: tl.tensor,
    step: tl.tensor,
    size: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Write a tile (pixels, block) to where `load_tile` reads it, in the type of the map."""
    channel = tl.arange(0, block)
    where = base + at[:, None] * step + channel[None, :]
    mask = keep[:, None] & (channel < size)[None, :]
    tl.store(where, tile.to(base.dtype.element_ty), mask=mask)


@triton.jit
def load_shifted(  # noqa: PLR0913, PLR0917 - a kernel takes its strides one by one
    base: tl.tensor,
    y: tl.tensor,
    x: tl.tensor,
    channel: tl.tensor,
    known: tl.tensor,
    shape: tl.tuple,
    step: tl.tensor,
) -> tl.tensor:
    """Return pixels of a map (H, W) as float32, (pixels, channels); zeros outside of it."""
    H, W = shape
    near = (y >= 0) & (y < H) & (x >= 0) & (x < W)
    where = base + (y * W + x)[:, None] * step + channel[None, :]
    return tl.load(where, mask=near[:, None] & known[None, :], other=0.0).to(tl.float32)
