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


def trained(std: float, mean: float, *, channels: int = 1) -> nn.Sequential:
    """Return a net whose norms hold the statistics of inputs with a deviation and a mean."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8, momentum=None), nn.ReLU(),
        nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4, momentum=None),
    ).train()  # fmt: skip
    with torch.no_grad():
        net(torch.randn(128, channels, 16, 16) * std + mean)
    return net.eval()


class Texts(nn.Module):
    """A model of tokens with positions: (N, L) -> (N, 4)."""

    def __init__(self, positions: int = 40, **config: Any) -> None:
        super().__init__()
        self.position_embeddings = nn.Embedding(positions, 4)
        self.types = nn.Embedding(2, 4)
        self.words = nn.Embedding(30, 4)
        self.config = config

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        places = torch.arange(input_ids.shape[1]).expand_as(input_ids)
        x = self.position_embeddings(places) + self.types(torch.zeros_like(places))
        x = x + self.words(input_ids)
        if attention_mask is not None:
            x = x * attention_mask[..., None] / attention_mask.sum(1)[:, None, None]
        out: torch.Tensor = x.sum(1)
        return out
