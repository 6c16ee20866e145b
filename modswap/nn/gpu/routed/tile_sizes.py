"""Tiles of the programs of attention, chosen by how Triton compiles them for sm_80 and sm_90.

They spill at most 24 bytes of a thread's registers for the published networks' layers (Triton
3.9); none was timed on a device. They are a
table and not searched for while a program runs, for other tiles give other bits.
"""

from typing import NamedTuple

from modswap.nn.gpu.launches import power

FUSED_PIXELS = 64  # of a window; beside larger tiles the convolution takes registers they need
HALF_TILE, FULL_TILE = 128 * 64, 64 * 32  # numbers of a tile of keys, in half precision and float32


class Tiles(NamedTuple):
    """Pixels of a block of queries and of keys, and how many warps and stages run it."""

    queries: int
    keys: int
    warps: int
    stages: int

    def constants(self) -> dict[str, int]:
        """Return the tiles under the names that the programs have for them."""
        blocks = {"block_q": self.queries, "block_k": self.keys}
        return {**blocks, "num_warps": self.warps, "num_stages": self.stages}


def head_tile(qk: int, values: int, heads: int) -> int:
    """Return the channels of the tile that holds a head of queries, keys or values."""
    return power(max(qk, values) // heads)


def fuses_convolution(length: int) -> bool:
    """Return whether the programs of attention compute the convolution for windows of a length."""
    return length <= FUSED_PIXELS


def in_one_tile(keys: int, head: int, *, half: bool) -> bool:
    """Return whether all keys of a window fit one tile, so that no softmax has to run along."""
    return power(keys) * head <= (HALF_TILE if half else FULL_TILE)


def of_queries(keys: int, length: int, head: int, *, half: bool, precision: str) -> Tiles:
    """Return the tiles of the programs that have a block of queries."""
    exact = not half and precision == "tf32x3"
    if in_one_tile(keys, head, half=half):
        return Tiles(min(64, power(length)), power(keys), 2 if half and length <= 16 else 4, 1)
    if length <= 32:
        return Tiles(power(length), 32, 2 if half else 4, 2)
    if length <= 64 or head > 64 or (exact and head > 32):
        return Tiles(64, 64 if half and head <= 64 else 32, 4, 2)
    return Tiles(128, 32 if exact else 64, 8, 3 if half else 2)


def of_keys(length: int, head: int, *, half: bool, precision: str) -> Tiles:
    """Return the tiles of the program that has a block of keys."""
    if length <= 32:
        return Tiles(64, power(length), 4, 2) if half else Tiles(32, power(length), 4, 1)
    exact = not half and precision == "tf32x3"
    return Tiles(16 if (exact and head > 32) or head > 64 else 32, 64, 4, 2)
