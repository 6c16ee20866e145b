"""Small networks for the tests of healing, with norms that fit what they are given."""

import copy
from typing import Any

import torch
from torch import nn

from modswap.nn import ACmix, BiLevelRoutingAttention
from modswap.ops.heal.passes import Models
from modswap.ops.heal.samples import HeldSamples

CHANNELS = 8


class Classifier(nn.Module):
    """Logits of a map by two stages, the second of which tests replace."""

    def __init__(self, depthwise: bool = False) -> None:
        super().__init__()
        groups = CHANNELS if depthwise else 1
        self.stem = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, padding=1), nn.ReLU())
        self.mix = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=groups)
        self.norm = nn.BatchNorm2d(CHANNELS)
        self.head = nn.Linear(CHANNELS, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.norm(self.mix(self.stem(x))).relu().mean((2, 3)) * 8)
        return y


class Twice(Classifier):
    """A classifier whose norm runs twice, under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.again = self.norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.again(self.norm(self.mix(self.stem(x)))).mean((2, 3)))
        return y


class Scaled(nn.Conv2d):
    """A convolution of another class."""

    @classmethod
    def of(cls, conv: nn.Conv2d) -> "Scaled":
        """Return one that gives three times as much as another."""
        made = cls(conv.in_channels, conv.out_channels, 3, padding=1)
        made.load_state_dict({name: 3 * value for name, value in conv.state_dict().items()})
        return made


class Block(nn.Module):
    """Two linear layers of a map (N, H, W, C), whose output has other axes."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout = layout
        self.first = nn.Linear(4, 4)
        self.last = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(self.first(x).tanh())
        if self.layout == "map":
            return y.permute(0, 3, 1, 2)
        return y.flatten(1, 2) if self.layout == "flattened" else y


def pictures(count: int = 160) -> torch.Tensor:
    """Return maps (N, 3, 8, 8) of smooth noise, of many levels."""
    generator = torch.Generator().manual_seed(7)
    coarse = torch.randn(count, 3, 2, 2, generator=generator)
    return nn.functional.interpolate(coarse, (8, 8), mode="bilinear")


def classifier(*, depthwise: bool = False) -> Classifier:
    """Return a network whose norm knows the pictures."""
    torch.manual_seed(0)
    net = Classifier(depthwise)
    net.norm.momentum = None
    with torch.no_grad():
        net.train()(pictures())
    return net.eval()


def new_module(name: str) -> nn.Module:
    """Return a row with random weights for the second stage."""
    torch.manual_seed(1)
    if name == "BRA":
        return BiLevelRoutingAttention(CHANNELS, 2, 2, topk=2, layout="NCHW").eval()
    return ACmix(CHANNELS, CHANNELS, kernel_att=3).eval()


def swapped(net: nn.Module, module: nn.Module) -> Any:
    """Return a copy of a network with another second stage."""
    other = copy.deepcopy(net)
    other.mix = module
    return other


def models(net: nn.Module, other: nn.Module, count: int = 160) -> Models:
    """Return both with pictures to heal on."""
    return Models(net, other, HeldSamples((pictures(count),)), size=20)
