"""Models that samples are for, in their files, and pictures for the tests of samples."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.asked.recipe import TensorInput
from modswap.io.formats.container import Container
from modswap.ops.heal.data.taker import Taker
from modswap.ops.run.inputs import DummyCall


def convolution(channels: int = 3) -> nn.Module:
    """Return a small net for pictures, whose weights are drawn from a seed."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()


def taker_of(
    model: nn.Module,
    *shape: int,
    payload: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> Taker:
    """Return the taker for a model that takes one tensor, from a file that holds a payload."""
    file = folder or Path("net.pt")
    container = Container("torch", file, payload or {}, ())
    call = DummyCall((TensorInput(shape=shape or (1, 3, 16, 16)),), {})
    return Taker(model, call, container)


def write_pictures(folder: Path, count: int, size: tuple[int, int] = (20, 12)) -> None:
    """Write pictures of one colour each, brighter from one to the next, in two subfolders."""
    image = pytest.importorskip("PIL.Image")
    for number in range(count):
        inner = folder / f"class{number % 2}"
        inner.mkdir(parents=True, exist_ok=True)
        colour = (number % 256, 100, 200)
        image.new("RGB", size, colour).save(inner / f"{number:03}.png")
