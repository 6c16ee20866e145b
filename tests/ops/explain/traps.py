"""Modules whose forward is hard to follow, for the tests of `explain`."""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name


def helper(x: torch.Tensor, *, scale: float = 2.0) -> torch.Tensor:
    """Return the input, scaled."""
    return x * scale


class Traps(nn.Module):
    """Statements of many rows, loops, branches, writes in place, the same tensor several times."""

    def __init__(self, dim: int = 12, heads: int = 4) -> None:
        super().__init__()
        self.dim = dim
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(3))

    def forward(self, x: torch.Tensor, *, flag: bool = True) -> torch.Tensor:
        """Return the output."""
        q, k, v = (  # a comment, # and another
            self.qkv(x)
            .unflatten(-1, (3, self.heads, -1))
            .permute(2, 0, 3, 1, 4)
        )  # fmt: skip
        y = F.scaled_dot_product_attention(q, k, v)
        y = y.transpose(1, 2).flatten(2)
        for layer in self.layers:
            if flag:
                y = layer(y)
            else:
                y.neg_()
        total = sum(layer(y) for layer in self.layers)
        z = torch.einsum("nlc,nmc->nlm", x, total)
        z.mul_(0.5)
        with torch.no_grad():
            self.seen = "a # no comment"
            out = helper(z @ total)
        return self.finish(out)

    def finish(self, out: torch.Tensor) -> torch.Tensor:
        """Return the sum."""
        return out + out


class Doubled(nn.Module):
    """Calls another module, whose forward is followed only on request."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Traps()
        self.tail = nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 5))

    def forward(self, x: torch.Tensor) -> Any:
        """Return logits and a part."""
        y = self.inner(x)
        return self.tail(y), y[:, 0]


class Loops(nn.Module):
    """Loops in loops, one of which breaks, and blocks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output."""
        for number in range(4):
            for _ in range(number):
                x = x + 1
                if number == 3:
                    break
        steps = 0
        while steps < 5:
            with torch.no_grad():
                steps += 1
        return x


class Named(nn.Module):
    """Takes a picture by name, as the example that it holds says."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.example_input_array = {"pixels": torch.zeros(1, 3, 8, 10)}

    def forward(self, *, pixels: torch.Tensor) -> torch.Tensor:
        """Return the convolved picture."""
        y: torch.Tensor = self.conv(pixels)
        return y


class Twice(nn.Module):
    """Calls one module twice, and another one never."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(3, 3, 1)
        self.unused = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output."""
        y: torch.Tensor = self.gate(self.gate(x))
        return y


class Broken(nn.Module):
    """Gives NaN in its second line."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return NaN."""
        zero = x - x
        ratio = zero / zero
        return ratio + 1


class Mended(nn.Module):
    """Removes NaN, and an infinity of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return finite numbers."""
        masked = x.nan_to_num().masked_fill(x.isnan(), -math.inf)
        return masked.softmax(-1).nan_to_num()


class Once(nn.Module):
    """Runs once only."""

    ran = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input, or raise."""
        type(self).ran += 1
        if type(self).ran > 1:
            raise KeyError("cache")
        return x


class Restless(nn.Module):
    """Gives another output at each call."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input with the number of calls."""
        type(self).calls += 1
        return x + self.calls
