"""Blocks that replace one another in the tests of examinations, and a run of these."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from modswap.core.asked.recipe import Recipe
from modswap.core.finding import Finding
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.examine.bench import Bench, examined
from modswap.ops.examine.table import EXAMINATIONS
from modswap.ops.swap import prepare, verified

DIM = 16


class Wrap(nn.Module):
    """A model of one block after a layer; `call` makes the inputs of the block."""

    def __init__(self, block: nn.Module, call: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.stem = nn.Linear(DIM, DIM)
        self.block = block
        self.call = call or (lambda block, x: block(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.call(self.block, self.stem(x))
        result: torch.Tensor = out[0] if isinstance(out, tuple) else out
        return result


class Masked(nn.Module):
    """Attention with a mask of keys: (N, L, E), (N, L) -> (N, L, E)."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        bias = mask[:, None, :] if mask.is_floating_point() else (~mask[:, None, :]).float() * -1e4
        weights = (x @ x.transpose(1, 2) / 4 + bias).softmax(-1)
        out: torch.Tensor = self.proj(weights @ x)
        return out


class Maskless(nn.Module):
    """Takes the mask and ignores it."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.proj(x)
        return out


class Mixes(nn.Module):
    """Subtracts the mean over the batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0, keepdim=True)


class Draws(nn.Module):
    """Adds noise in every mode."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x)


class Causal(nn.Module):
    """Attention to earlier tokens: (N, L, E) -> (N, L, E)."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.proj(
            nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
        )
        return out


class Unused(nn.Module):
    """Has a layer that the forward pass does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(DIM, DIM)
        self.forgotten = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.used(x)
        return out


class NotFinite(nn.Module):
    """The logarithm of negative numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.log()


class Counts(nn.Module):
    """Writes a buffer in every mode."""

    seen: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return x * self.seen


def recipe(
    with_: str,
    match: str = "block",
    shape: str = "[1, 6, 16]",
    more: str = "",
    head: str = "",
) -> Recipe:
    text = (
        f"version: 1\n{head}\ninputs: [{{shape: {shape}}}]\n"
        f'replace:\n  - {{match: "{match}", with: "{with_}"{more}}}\n'
    )
    return parse_recipe(text, "swap.yaml", ".")


def examine(model: nn.Module, wanted: Recipe, *names: str, unreal: bool = True) -> list[Finding]:
    """Return the findings of the examinations of pairs, or of some of them."""
    prepared = prepare(model, wanted, unreal=unreal)
    rows = [row for row in EXAMINATIONS if row.kind == "pairs" and (not names or row.name in names)]
    with verified(model, prepared, lambda _: None) as standing:
        assert standing.verdict.ok, standing.verdict.problems
        thorough = wanted.verify.thorough
        bench = Bench(model, prepared, standing.after, standing.old, wanted, thorough=thorough)
        return list(examined(standing.verdict, bench, rows).findings)


def failed(found: list[Finding]) -> list[tuple[str, str]]:
    return [(one.check, one.path) for one in found if one.status == "failed"]


def here(cls: type[nn.Module]) -> str:
    """Return the name of a class of a test, as recipes write it."""
    return f"{cls.__module__}:{cls.__name__}"


def with_mask(dtype: torch.dtype) -> Callable[..., Any]:
    return lambda block, x: block(x, torch.ones(x.shape[:2], dtype=dtype, device=x.device))
