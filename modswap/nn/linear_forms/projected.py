"""Forms that end in an output projection, which follows from the other parts in closed form."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch

from modswap.nn.linear_forms.form import Parts, ridged
from modswap.nn.linear_forms.moments import Fitting


class Projected(ABC):
    """The map Wo · R of a module, where R (C, D) is made of all parts but the last, Wo (O, C)."""

    searched: int  # how many parts are searched for: all but the projection

    @abstractmethod
    def rows(self, parts: Parts) -> torch.Tensor:
        """Return the map up to the output projection, (C, D)."""

    def kernel(self, parts: Parts) -> torch.Tensor:
        """Return the map (D, O)."""
        return (parts[-1] @ self.rows(parts)).T

    def settled(self, parts: Parts, fitting: Fitting) -> list[torch.Tensor]:
        """Return the parts that are searched for, and the best output projection behind them."""
        last, _ = self._solved(parts, fitting)
        return [*parts[: self.searched], last.to(parts[0].dtype)]

    def loss(self, parts: Parts, fitting: Fitting) -> torch.Tensor:
        """Return the error over the variance, with the best output projection.

        That projection leaves the square of the targets less what it explains of them.
        """
        last, cross = self._solved(parts, fitting)
        return (fitting.square - (last.T * cross).sum()) / fitting.variance

    def _solved(self, parts: Parts, fitting: Fitting) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the best output projection (O, C), and the covariances (C, O) that it explains."""
        rows = self.rows(parts)
        gram = ridged((rows @ fitting.gram @ rows.T).double())
        cross = (rows @ fitting.cross).double()
        return torch.linalg.solve(gram, cross).T, cross


def fill_by_heads(found: torch.Tensor, attend: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Put into maps (N, C + 1, heads, ...) every channel as each head attends to it.

    `attend` returns what the heads give, (N, C, ...), one behind another, where their values are
    the channels that rows of a matrix (C, C) pick.
    """
    channels, heads = found.shape[1] - 1, found.shape[2]
    each = channels // heads
    eye = torch.eye(channels, dtype=found.dtype, device=found.device)
    for turn in range(heads):
        # head h has the values of the channels of head h + turn
        given = attend(eye.roll(-turn * each, 0))
        for head in range(heads):
            first = (head + turn) % heads * each
            found[:, first : first + each, head] = given[:, head * each : (head + 1) * each]
