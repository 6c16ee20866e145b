"""Models of many modules, and files that hold them, for `modules.py`.

python benchmarks/nets.py FOLDER MODULES GIB
"""

import sys
from pathlib import Path

import torch
from torch import nn

COUNTS = (1_000, 10_000, 100_000)


class Block(nn.Module):
    """A residual block of five modules."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU()
        self.space_attention = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map of the same size, (N, C, H, W)."""
        added: torch.Tensor = x + self.space_attention(self.act(self.norm(self.conv(x))))
        return added


def many(count: int) -> nn.Module:
    """Return a model of so many small modules."""
    return nn.Sequential(*(_four() for _ in range(count // 5)))


def _four() -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Sequential())


def large(modules: int, gib: float) -> nn.Module:
    """Return a model of so many modules and bytes."""
    blocks = modules // 5
    channels = 8 * round((gib * 2**30 / 4 / blocks / 10) ** 0.5 / 8)
    stem, head = nn.Conv2d(3, channels, 4, stride=4), nn.Conv2d(channels, 4, 1)
    return nn.Sequential(stem, *(Block(channels) for _ in range(blocks)), head)


def main(folder: Path, modules: int, gib: float) -> None:
    """Write the files."""
    for count in COUNTS:
        model = many(count)
        torch.save(model, folder / f"module{count}.pt")
        torch.save(model.state_dict(), folder / f"weights{count}.pt")
    # the classes of a pickle need a name that other processes import
    sys.modules["nets"] = sys.modules[__name__]
    Block.__module__ = "nets"
    torch.save(large(modules, gib), folder / "large.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
