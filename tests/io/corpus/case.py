"""A bad input: how it is made, what is tried on it, and how that has to end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

FILE = "net.pt"
RECIPE = "swap.yaml"
FACTORY = "tests.io.corpus.case:build"
ALL = ("tree", "check", "replace", "load")
SWAP = f"""\
version: 1
model: {{factory: '{FACTORY}'}}
inputs: [{{shape: [1, 3, 8, 8]}}]
replace: [{{match: gate, with: SEBlock}}]
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A bad input.

    Args:
        name: What is wrong with it.
        make: The bytes of the file, or what writes them into a folder.
        says: A piece of what standard error has to say whenever the exit code is not 0.
        code: The exit code.
        codes: Exit codes of the commands that end in another way.
        commands: What is tried.
        file: What the checkpoint is called.
    """

    name: str
    make: bytes | Callable[[Path], object]
    says: str
    code: int = 3
    codes: Mapping[str, int] = field(default_factory=dict)
    commands: tuple[str, ...] = ALL
    file: str = FILE

    def write(self, folder: Path) -> None:
        """Make the input in a folder, beside a recipe that is sound."""
        (folder / RECIPE).write_text(SWAP)
        if isinstance(self.make, bytes):
            (folder / self.file).write_bytes(self.make)
        else:
            self.make(folder)

    def args(self, command: str) -> list[str]:
        """Return the arguments of a command; `load` is `modswap.load`."""
        match command:
            case "check":
                return ["check", self.file, "-c", RECIPE]
            case "replace":
                return ["replace", self.file, "-c", RECIPE, "-o", "out.pt"]
        return [command, self.file]


def build() -> nn.Module:
    """Build the network that the bad inputs are made from: (N, 3, H, W) -> (N, 2, H, W)."""
    net = nn.Sequential()
    net.add_module("stem", nn.Conv2d(3, 8, 3, padding=1))
    net.add_module("gate", nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)))
    net.add_module("head", nn.Conv2d(8, 2, 1))
    return net


def net() -> nn.Module:
    """Return the network with weights that are the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().eval()
