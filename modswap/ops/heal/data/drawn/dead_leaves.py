"""Drawn pictures with the statistics of photographs: shapes that hide one another, textured.

The shapes of a picture are ellipses and rectangles, with radii by a power law, as in images of
natural scenes; each has a colour and a texture of 1/f noise. Every row of a shape is an interval.
The last shape at each pixel is found for all pictures at once, by maxima over intervals whose
lengths are powers of two.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn.functional import interpolate

LEAVES = 120  # shapes of a picture as wide as high
TEXTURES = 16
MAX_TEXTURE_SIDE = 256  # a texture repeats without a seam
MIN_RADIUS = 4.0  # pixels
GREY = 115.0  # of what no shape hides, in 0 to 255
CHUNK_PIXELS = 1 << 20  # that are drawn at once
# red, green and blue of three noises: mostly luminance, as in photographs
_MIX = ((0.9, 0.42, 0.1), (0.9, 0.0, -0.2), (0.9, -0.42, 0.1))


@dataclass(frozen=True, slots=True)
class DeadLeaves:
    """Pictures by their numbers, drawn from a seed; each is the same however many are asked for.

    Args:
        size: Height and width.
        channels: Channels; pictures of 3 make them up, grey ones the luminance.
        seed: Seed of all pictures.
        textures: Noise (T, 3, h, w) that repeats, about 0.
        zoom: Times that a picture is drawn smaller and then made larger, which blurs it.
    """

    size: tuple[int, int]
    channels: int
    seed: int
    textures: torch.Tensor
    zoom: int = 1

    @classmethod
    def of(cls, size: tuple[int, int], channels: int, seed: int, zoom: int = 1) -> "DeadLeaves":
        """Return the pictures of a size and a seed."""
        height, width = (min(-(-side // zoom), MAX_TEXTURE_SIDE) for side in size)
        generator = torch.Generator().manual_seed(seed)
        return cls(size, channels, seed, _noise((height, width), generator), zoom)

    def __call__(self, chosen: Sequence[int]) -> list[torch.Tensor]:
        """Return the pictures of some numbers, bytes (C, H, W)."""
        found: list[torch.Tensor] = []
        chunk = max(1, CHUNK_PIXELS // (self.size[0] * self.size[1]))
        for start in range(0, len(chosen), chunk):
            found += self._drawn(chosen[start : start + chunk]).unbind()
        return found

    def _drawn(self, chosen: Sequence[int]) -> torch.Tensor:
        """Return pictures (N, C, H, W) as bytes."""
        if self.channels == 3:
            return self._colour([(number, 0) for number in chosen])
        if self.channels == 1:
            colour = self._colour([(number, 0) for number in chosen]).float()
            return colour.mean(1, keepdim=True).round().to(torch.uint8)
        layers = -(-self.channels // 3)
        parts = [self._colour([(number, layer) for number in chosen]) for layer in range(layers)]
        return torch.cat(parts, 1)[:, : self.channels]

    def _colour(self, keys: Sequence[tuple[int, int]]) -> torch.Tensor:
        """Return pictures (N, 3, H, W) as bytes, each by its own draws."""
        height, width = (-(-side // self.zoom) for side in self.size)
        count = min(round(LEAVES * max(self.size) / min(self.size)), 16 * LEAVES)
        drawn = [_draws(self.seed, number, layer, count) for number, layer in keys]
        draws = torch.stack([one for one, _ in drawn])  # (N, leaves, 8)
        owner = _owners(draws, height, width)  # (N, H, W), 0 where no shape is
        colours = torch.stack([one for _, one in drawn])  # (N, leaves, 3)
        painted = self._painted(owner, draws, colours)
        if self.zoom == 1:
            return painted
        return interpolate(painted.float(), self.size, mode="bilinear").round().to(torch.uint8)

    def _painted(
        self, owner: torch.Tensor, draws: torch.Tensor, colours: torch.Tensor
    ) -> torch.Tensor:
        """Return pictures (N, 3, H, W): colour and texture of each pixel's shape."""
        count, height, width = owner.shape
        flat = owner.flatten(1).long()
        tall, wide = self.textures.shape[2:]
        rows = torch.arange(height)[:, None] % tall
        columns = torch.arange(width)[None] % wide
        place = (rows * wide + columns).flatten()  # of each pixel in a texture
        # number 0 is the ground, without colour or texture
        kind = _with_ground((draws[..., 6] * TEXTURES).long()).gather(1, flat)
        strength = _with_ground(0.5 * draws[..., 7]).gather(1, flat)
        index = kind * (tall * wide) + place
        painted = torch.empty(count, 3, height, width, dtype=torch.uint8)
        for channel in range(3):
            texture = self.textures[:, channel].flatten()[index]
            shade = _with_ground(colours[..., channel]).gather(1, flat)
            value = shade.add_(texture.mul_(strength)).add_(GREY)
            painted[:, channel] = value.clamp_(0, 255).round_().view(owner.shape)
        return painted


def _with_ground(values: torch.Tensor) -> torch.Tensor:
    """Return values (N, leaves) behind a zero."""
    return torch.cat([torch.zeros_like(values[:, :1]), values], 1)


def _draws(seed: int, number: int, layer: int, leaves: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the draws of a picture: 8 in 0 to 1 for each shape, and its colour about 0."""
    generator = torch.Generator().manual_seed(seed_of(seed, number, layer))
    draws = torch.rand(leaves, 8, generator=generator)
    own = torch.randn(leaves, 3, generator=generator) * 25
    return draws, own + torch.randn(leaves, 1, generator=generator) * 50


def seed_of(seed: int, number: int, layer: int = 0) -> int:
    """Return a seed for a picture; those of neighbours have nothing in common."""
    mixed = seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + layer * 0x94D049BB133111EB
    mixed &= (1 << 64) - 1
    mixed = ((mixed ^ (mixed >> 31)) * 0xD6E8FEB86659FD93) & ((1 << 64) - 1)
    return mixed >> 1


def _owners(draws: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return the number of the last shape at each pixel, from 1; 0 where there is none."""
    count = len(draws)
    first, last = _intervals(draws, height, width)  # (N, leaves, H) each
    there = last > first
    picture, leaf, row = there.nonzero(as_tuple=True)
    start, end = first[there], last[there]
    length = end - start
    level = (length.double().log2() + 1e-9).floor().long()  # 2 ** level <= length
    power = torch.ones_like(level) << level
    levels = max(1, width.bit_length())
    table = torch.zeros(levels, count * height * width, dtype=torch.int16)
    place = level * table.shape[1] + (picture * height + row) * width
    number = (leaf + 1).to(torch.int16)
    flat = table.flatten()
    # two intervals of a power of two cover any interval
    for at in (start, end - power):
        flat.scatter_reduce_(0, place + at, number, "amax")
    table = flat.view(levels, -1, width)
    for upper in range(levels - 1, 0, -1):
        half = 1 << (upper - 1)
        torch.maximum(table[upper - 1], table[upper], out=table[upper - 1])
        right = table[upper - 1][:, half:]
        torch.maximum(right, table[upper][:, : width - half], out=right)
    return table[0].view(count, height, width)


def _intervals(draws: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first column of each shape in each row, and the one behind its last."""
    short = min(height, width)
    least = min(MIN_RADIUS, short / 8)
    radius = least / draws[..., 0].clamp(min=least / max(short / 2, least))
    angle, flatness = draws[..., 1] * math.pi, 0.4 + 0.6 * draws[..., 2]
    across, along = draws[..., 4] * width, draws[..., 5] * height
    turned = _Turned(
        down=torch.arange(float(height)) - along[..., None],  # (N, leaves, H)
        cos=angle.cos()[..., None],
        sin=angle.sin()[..., None],
        long=radius[..., None],
        small=(flatness * radius)[..., None],
    )
    ellipse, rectangle = _of_ellipse(turned), _of_rectangle(turned)
    is_ellipse = (draws[..., 3] < 0.5)[..., None]
    left, right = (
        (torch.where(is_ellipse, a, b) + across[..., None]).ceil().clamp(0, width)
        for a, b in zip(ellipse, rectangle, strict=True)
    )
    return left.long(), right.long()


_Interval = tuple[torch.Tensor, torch.Tensor]


class _Turned(NamedTuple):
    """Shapes: distances of rows from their middles, their angles, and half their sides."""

    down: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor
    long: torch.Tensor
    small: torch.Tensor


def _of_ellipse(turned: _Turned) -> _Interval:
    """Return the interval of ellipses in each row, from their middle; empty outside."""
    down, cos, sin, long, small = turned
    square = (cos / long) ** 2 + (sin / small) ** 2
    mixed = cos * sin * (long**-2 - small**-2)
    rest = square - down**2 / (long * small) ** 2
    half = rest.clamp(min=0).sqrt() / square
    middle = -mixed * down / square
    half = torch.where(rest > 0, half, -torch.ones_like(half))
    return middle - half, middle + half


def _of_rectangle(turned: _Turned) -> _Interval:
    """Return the interval of rectangles in each row, from their middle; empty outside."""
    down, cos, sin, long, small = turned
    tiny = 1e-6
    cos = torch.where(cos.abs() < tiny, tiny, cos)
    sin = sin.clamp(min=tiny)  # of an angle below half a turn
    a, b = (-long - down * sin) / cos, (long - down * sin) / cos
    c, d = (down * cos - small) / sin, (down * cos + small) / sin
    return torch.maximum(torch.minimum(a, b), c), torch.minimum(torch.maximum(a, b), d)


def _noise(size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Return 1/f noise (T, 3, H, W) that repeats without a seam, bytes less grey."""
    height, width = size
    down, across = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    radius = (across**2 + down**2).sqrt().clamp(min=1 / max(size))
    white = torch.randn(TEXTURES, 3, height, width, generator=generator)
    noise = torch.fft.irfft2(torch.fft.rfft2(white) / radius, s=size)
    noise = noise - noise.mean((2, 3), keepdim=True)
    noise = noise / noise.std((2, 3), keepdim=True).clamp(min=1e-6)
    mixed = torch.einsum("oc,nchw->nohw", torch.tensor(_MIX), noise)

    def level(low: float, high: float) -> torch.Tensor:
        drawn = torch.rand(TEXTURES, 1, 1, 1, generator=generator)
        return low + (high - low) * drawn

    tint = 12 * torch.randn(TEXTURES, 3, 1, 1, generator=generator)
    return (mixed * level(30, 70) + level(70, 170) + tint).clamp(0, 255) - GREY
