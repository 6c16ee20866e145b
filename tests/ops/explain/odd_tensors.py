"""Modules with tensors that are not plain, and one that calls itself, for tests of `explain`."""

from typing import Any

import torch
from torch import nn


class Sparse(nn.Module):
    """Sparse tensors by coordinates, rows and columns."""

    def forward(self, x: torch.Tensor) -> Any:
        """Return some of each."""
        rows = torch.eye(8).to_sparse_csr()
        columns = torch.eye(8).to_sparse_csc()
        return x.to_sparse(), torch.sparse.mm(rows, x.T), columns


class Nested(nn.Module):
    """Tensors of several lengths in one, of both kinds."""

    def forward(self, x: torch.Tensor) -> Any:
        """Return some of each."""
        nested = torch.nested.nested_tensor([x, x[:2]])
        jagged = torch.nested.nested_tensor([x, x[:2]], layout=torch.jagged)
        return nested * 2, jagged + 1


class Packed(nn.Module):
    """Quantised and packed tensors, of one byte, without data and without elements."""

    def forward(self, x: torch.Tensor) -> Any:
        """Return some of each."""
        quantised = torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)
        eights = torch.full((3,), float("nan")).to(torch.float8_e4m3fn)
        return quantised, x.to_mkldnn(), eights, torch.empty(3, device="meta"), torch.empty(0)


class Again(nn.Module):
    """A module whose forward calls itself, hundreds of times within one another."""

    def forward(self, x: torch.Tensor, times: int = 300) -> torch.Tensor:
        """Return the input, a little larger."""
        return x if times == 0 else self.forward(x + 1, times - 1)


class Leaves(nn.Module):
    """A module that ends the program."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Raise SystemExit."""
        raise SystemExit(x.shape[0])
