"""Scenes of handwritten digits to segment, from the images that scikit-learn ships."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from modswap.core.errors import UsageError

CLASSES = 11  # background, then the digits 0 to 9
SCENE_PIXELS = 32  # pixels along each side of a scene
DIGIT_BRIGHTNESS = 0.35  # brightness from which a pixel belongs to a digit


@dataclass(frozen=True, slots=True)
class Scenes:
    """Images and the class of each of their pixels."""

    images: torch.Tensor  # (N, 3, H, W), brightness from 0 to 1, a tint for each scene
    labels: torch.Tensor  # (N, H, W), int64


def make_scenes(train: int, test: int, seed: int = 0) -> tuple[Scenes, Scenes]:
    """Return scenes to train on and scenes to test on; no digit is in both.

    `train` and `test` count them; the seed is for places, sizes and tints.

    Raises:
        UsageError: If scikit-learn is not installed.
    """
    digits, names = _digits()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(digits), generator=generator)
    cut = len(order) * 4 // 5
    parts = ((order[:cut], train), (order[cut:], test))
    first, second = (
        _scenes(digits[chosen], names[chosen], count, generator) for chosen, count in parts
    )
    return first, second


def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the digits (1797, 8, 8) from 0 to 1, and which they are."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        fix = "pip install 'modswap[demo]'"
        raise UsageError("the demo's images come with scikit-learn", "demo", fix) from None
    loaded = load_digits()
    return torch.tensor(loaded.images.tolist()) / 16, torch.tensor(loaded.target.tolist())


def _scenes(
    digits: torch.Tensor, names: torch.Tensor, count: int, generator: torch.Generator
) -> Scenes:
    gray = torch.zeros(count, SCENE_PIXELS, SCENE_PIXELS)
    labels = torch.zeros(count, SCENE_PIXELS, SCENE_PIXELS, dtype=torch.int64)
    for scene in range(count):
        which = int(_draw(len(digits), generator))
        side = SCENE_PIXELS - int(_draw(7, generator))
        top, left = (int(_draw(SCENE_PIXELS - side + 1, generator)) for _ in range(2))
        drawn = functional.interpolate(digits[which][None, None], (side, side), mode="bilinear")
        place = (scene, slice(top, top + side), slice(left, left + side))
        gray[place] = drawn[0, 0]
        labels[place] = torch.where(drawn[0, 0] > DIGIT_BRIGHTNESS, names[which] + 1, 0)
    tint = 0.4 + 0.6 * torch.rand(count, 3, 1, 1, generator=generator)
    noise = 0.05 * torch.randn(count, 3, SCENE_PIXELS, SCENE_PIXELS, generator=generator)
    return Scenes(gray[:, None] * tint + noise, labels)


def _draw(below: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(below, (1,), generator=generator)
