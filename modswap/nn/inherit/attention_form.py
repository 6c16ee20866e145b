"""Self-attention in one form, for all spellings of the modules that hold it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from modswap.nn.inherit.folding import Fold, folded

Role = Literal["q", "k", "v", "o"]
ROLES: tuple[Role, ...] = ("q", "k", "v", "o")
# `whole`: the tensor is the part; `blocks`: parts follow each other; `heads`: the parts of each
# head follow each other
Order = Literal["whole", "blocks", "heads"]
ORDERS: tuple[Order, ...] = ("blocks", "heads")


@dataclass(frozen=True, slots=True)
class RowsOf:
    """A linear map of attention as a part of a layer: rows of its weight, and of its bias."""

    weight: str  # name of the tensor in the module's state
    bias: str = ""  # empty for none
    order: Order = "whole"
    index: int = 0  # of `count` parts of equal size
    count: int = 1
    transposed: bool = False  # whether the weight is (in, out)
    sizes: tuple[int, ...] = ()  # rows of the parts, where they differ

    def rows(self, tensor: torch.Tensor, heads: int) -> torch.Tensor:
        """Return the part's rows of a weight or a bias."""
        if self.sizes and self.order == "heads":
            each = [size // heads for size in self.sizes]
            start = sum(each[: self.index])
            split: torch.Tensor = tensor.unflatten(0, (heads, -1))
            return split[:, start : start + each[self.index]].flatten(0, 1)
        if self.sizes:
            start = sum(self.sizes[: self.index])
            return tensor[start : start + self.sizes[self.index]]
        if self.order == "blocks":
            return tensor.chunk(self.count)[self.index]
        if self.order == "heads":
            parts: torch.Tensor = tensor.unflatten(0, (heads, self.count, -1))
            return parts[:, self.index].flatten(0, 1)
        return tensor

    def where(self, name: str) -> str:
        """Return the name of a tensor with the part of it that is meant."""
        if self.order == "whole" and not self.sizes:
            return name
        of = f"{self.index + 1} of {len(self.sizes) or self.count}"
        return f"{name} (part {of}{' of each head' if self.order == 'heads' else ''})"


@dataclass(frozen=True, slots=True)
class Reading:
    """The places of attention's parts in a module."""

    heads: int
    scale: float  # factor of the logits
    parts: Mapping[Role, RowsOf]
    table: str = ""  # name of the table of relative positions ((2 w - 1)², heads); empty: none
    window: int = 0  # side of its windows; 0: all tokens attend to all
    shift: int = 0  # pixels by which the windows are shifted
    causal: bool = False
    certain: bool = False  # whether the class itself says so, so that no run has to show it
    notes: tuple[str, ...] = ()
    local: str = ""  # name of the depthwise convolution of the values that is added; empty: none
    side: int = 0  # of that convolution
    folds: tuple[Fold, ...] = ()  # batch norms behind its layers

    @property
    def names(self) -> set[str]:
        """Return the names of all tensors that it reads."""
        own = {name for part in self.parts.values() for name in (part.weight, part.bias)}
        own |= {f"{self.local}.{kind}" for kind in ("weight", "bias")} if self.local else set()
        own |= {name for fold in self.folds for name in fold.names}
        return {name for name in (*own, self.table) if name}

    def taken(self, state: Mapping[str, torch.Tensor]) -> "Attention":
        """Return attention with the values of a state."""
        weights: dict[str, torch.Tensor] = {}
        sources: dict[str, str] = {}
        state = folded(state, self.folds)
        for role, part in self.parts.items():
            weight = state[part.weight]
            weight = weight.T if part.transposed else weight.flatten(1)
            weights[f"{role}.weight"] = part.rows(weight, self.heads)
            sources[f"{role}.weight"] = part.where(part.weight)
            if part.bias:
                weights[f"{role}.bias"] = part.rows(state[part.bias], self.heads)
                sources[f"{role}.bias"] = part.where(part.bias)
        for kind in ("weight", "bias") if self.local else ():
            if f"{self.local}.{kind}" in state:
                weights[f"local.{kind}"] = state[f"{self.local}.{kind}"]
                sources[f"local.{kind}"] = f"{self.local}.{kind}"
        if self.table:
            weights["table"], sources["table"] = state[self.table], self.table
        return Attention(self, weights, sources)


@dataclass(frozen=True, slots=True)
class Attention:
    """The values of attention: `q.weight` (D, C), `q.bias` (D) and so on; `o.weight` (C, D)."""

    reading: Reading
    weights: Mapping[str, torch.Tensor]
    sources: Mapping[str, str] = field(default_factory=dict)  # where each value comes from

    def weight(self, role: Role) -> torch.Tensor:
        """Return the weight of a part; the output's is the identity where there is none."""
        if f"{role}.weight" in self.weights:
            return self.weights[f"{role}.weight"]
        width = self.weights["v.weight"].shape[0]
        like = self.weights["v.weight"]
        return torch.eye(width, dtype=like.dtype, device=like.device)

    def bias(self, role: Role) -> torch.Tensor:
        """Return the bias of a part; zeros where there is none."""
        if f"{role}.bias" in self.weights:
            return self.weights[f"{role}.bias"]
        weight = self.weight(role)
        return weight.new_zeros(weight.shape[0])

    def source(self, name: str) -> str:
        """Return where a value comes from."""
        return self.sources.get(name, "identity" if name == "o.weight" else "zeros")

    def attend(self, x: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
        """Return attention of all tokens to all: (N, L, C) -> the same.

        `size` is the height and width of the map that the tokens are, for a convolution of values.
        """
        heads = self.reading.heads
        q, k, v = (
            F.linear(x, self.weight(role), self.bias(role)).unflatten(-1, (heads, -1))
            for role in ("q", "k", "v")
        )  # (N, L, heads, d)
        logits = torch.einsum("nihd,njhd->nhij", q, k) * self.reading.scale
        if "table" in self.weights:
            logits = logits + self._positions(logits.shape[-1])
        if self.reading.causal:
            later = torch.ones(logits.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
            logits = logits.masked_fill(later, float("-inf"))
        y = torch.einsum("nhij,njhd->nihd", logits.softmax(-1), v).flatten(2)
        if "local.weight" in self.weights:
            y = y + self._local(v.flatten(2), size or (1, x.shape[1]))
        return F.linear(y, self.weight("o"), self.bias("o"))

    def _local(self, v: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Return the depthwise convolution of values: (N, L, D) -> the same."""
        weight, bias = self.weights["local.weight"], self.weights.get("local.bias")
        maps = v.transpose(1, 2).unflatten(2, size)
        near = F.conv2d(maps, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))
        return near.flatten(2).transpose(1, 2)

    def _positions(self, length: int) -> torch.Tensor:
        """Return the bias of each head for each pair of pixels of a window: (heads, L, L)."""
        side = round(length**0.5)
        places = torch.arange(side)
        rows, columns = (t.flatten() for t in torch.meshgrid(places, places, indexing="ij"))
        down = rows[:, None] - rows + side - 1
        right = columns[:, None] - columns + side - 1
        index = (down * (2 * side - 1) + right).flatten()
        table = self.weights["table"]
        return table[index].T.reshape(-1, length, length)
