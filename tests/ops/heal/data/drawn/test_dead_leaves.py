"""Drawn pictures."""

import math

import pytest
import torch

from modswap.ops.heal.data.drawn.dead_leaves import DeadLeaves, _draws, _owners, seed_of

LEAVES = 120


def by_painting(draws: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return the last shape at each pixel, of shapes that are painted one after another."""
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    short = min(height, width)
    least = min(4.0, short / 8)
    owner = torch.zeros(height, width, dtype=torch.int16)
    for number, drawn in enumerate(draws, 1):
        radius = least / max(float(drawn[0]), least / max(short / 2, least))
        angle, flat = float(drawn[1]) * math.pi, 0.4 + 0.6 * float(drawn[2])
        dx, dy = x - float(drawn[4]) * width, y - float(drawn[5]) * height
        u = dx * math.cos(angle) + dy * math.sin(angle)
        v = dy * math.cos(angle) - dx * math.sin(angle)
        if drawn[3] < 0.5:
            inside = (u / radius) ** 2 + (v / (flat * radius)) ** 2 < 1
        else:
            inside = (u.abs() < radius) & (v.abs() < flat * radius)
        owner[inside] = number
    return owner


@pytest.mark.parametrize("size", [(32, 32), (9, 70), (64, 24), (1, 1)])
def test_shapes_are_those_that_painting_one_after_another_gives(size: tuple[int, int]) -> None:
    draws, _ = _draws(3, 5, 0, LEAVES)

    owner = _owners(draws[None], *size)[0]

    differ = (owner != by_painting(draws, *size)).float().mean()
    assert owner.shape == size
    assert float(differ) < 0.002  # rounding at an edge


def test_picture_is_the_same_however_many_are_asked_for() -> None:
    leaves = DeadLeaves.of((40, 24), 3, 7)

    several = leaves([4, 900, 2, 4])

    assert torch.equal(several[0], several[3])
    assert all(
        torch.equal(one, leaves([n])[0]) for n, one in zip((4, 900, 2), several, strict=False)
    )
    assert not torch.equal(several[0], several[2])
    assert torch.equal(several[1], DeadLeaves.of((40, 24), 3, 7)([900])[0])
    assert not torch.equal(several[1], DeadLeaves.of((40, 24), 3, 8)([900])[0])
    assert (
        len({seed_of(seed, n, layer) for seed in (0, 1) for n in range(50) for layer in (0, 1)})
        == 200
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_pictures_have_the_channels_and_the_spread_of_photographs(channels: int) -> None:
    drawn = torch.stack(DeadLeaves.of((48, 48), channels, 0)(range(48)))

    assert drawn.dtype is torch.uint8
    assert drawn.shape == (48, channels, 48, 48)
    values = drawn.float()
    assert 100 < float(values.mean()) < 130
    assert 40 < float(values.std()) < 65
    # neighbours are alike, pixels far apart are not
    near = (values[..., 1:] - values[..., :-1]).abs().mean()
    far = (values[..., 24:] - values[..., :-24]).abs().mean()
    assert float(near) < float(far) / 2


def test_zoomed_pictures_are_blurred() -> None:
    sharp, blurred = (
        torch.stack(DeadLeaves.of((32, 20), 1, 0, zoom)(range(16))).float() for zoom in (1, 4)
    )

    assert blurred.shape == (16, 1, 32, 20)

    def roughness(pictures: torch.Tensor) -> float:
        return float((pictures[..., 1:] - pictures[..., :-1]).pow(2).mean() / pictures.var())

    assert roughness(blurred) < roughness(sharp) / 3
