"""A linear map that a module's own layers hold, and the solver that fits it to moments."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch

from modswap.nn.inherit.convolution import Convolution
from modswap.nn.linear_forms.moments import Fitting

Parts = Sequence[torch.Tensor]
_WORK = 6e12  # multiplications and additions of a fit, a minute or so on two cores
_WIDE = 2500  # columns from which a fit runs in single precision


class LinearForm(Protocol):
    """The linear map of patches that a module holds as a product of its layers' weights."""

    stride: tuple[int, int]  # rows and columns of the map for one of the output
    taps: int  # values of each channel that it sees at a place
    centre: int  # the tap that is the place itself
    iterations: int  # of the search
    damp: float  # how much weaker the module's own mechanism is made beside the map
    biased: bool  # whether a bias of the output is fitted beside the map
    present: bool  # whether the module's options leave it such a map
    searched: int  # how many of the parts are searched for; the others follow in closed form

    def seen(self, maps: torch.Tensor) -> torch.Tensor:
        """Return what the map is of: (N, C, H, W) -> (N, (C + 1) taps, H' W')."""

    def begin(self, fitting: Fitting) -> list[torch.Tensor]:
        """Return the parts to start from, in float64."""

    def kernel(self, parts: Parts) -> torch.Tensor:
        """Return the map (D, O) that parts make up."""

    def settled(self, parts: Parts, fitting: Fitting) -> list[torch.Tensor]:
        """Return all parts: those searched for, and the best others in closed form."""

    def loss(self, parts: Parts, fitting: Fitting) -> torch.Tensor:
        """Return the error over the variance that the parts searched for leave with the others."""

    def inherited(self, convolution: Convolution) -> list[torch.Tensor] | None:
        """Return the parts that are a convolution; None if it cannot be held so."""

    def put(self, parts: Parts, bias: torch.Tensor) -> None:
        """Write the parts into the module's layers."""

    def mechanism(self) -> list[torch.Tensor]:
        """Return the tensors that make the map vanish where they are zero."""


@dataclass(frozen=True, slots=True)
class Solution:
    """A fitted map: its parts, its bias, and the error over the variance that it leaves."""

    parts: list[torch.Tensor]
    bias: torch.Tensor
    residual: float
    iterations: int


def solve(form: LinearForm, fitting: Fitting) -> Solution:
    """Return the map of a form that fits best, by L-BFGS over the moments alone.

    Parts that have a closed form are eliminated (Golub and Pereyra, 1973, SIAM J. Numer. Anal. 10,
    doi:10.1137/0710036), which takes a tenth of the iterations. The work of all iterations bounds
    their number, never the time, so that results repeat.
    """
    begun = form.begin(fitting)
    width = len(fitting.gram)
    wide = fitting if width < _WIDE else _single(fitting)
    searched = begun[: form.searched]
    parts = [part.to(wide.gram.dtype).clone().requires_grad_() for part in searched]
    most = search(form, parts, wide, form.iterations)
    with torch.no_grad():
        found = [part.detach().double() for part in parts]
        del wide
        found = form.settled(found, fitting)
        kernel = form.kernel(found)
        bias = fitting.bias(kernel)
        return Solution(found, bias, float(fitting.loss(kernel)), most)


def _single(fitting: Fitting) -> Fitting:
    parts = (getattr(fitting, field.name) for field in fields(fitting))
    return Fitting(*(part.float() for part in parts))


def search(form: LinearForm, parts: Parts, fitting: Fitting, iterations: int) -> int:
    """Improve parts in place by at most so many iterations; return how many were allowed."""
    width, outputs = fitting.cross.shape
    most = int(min(iterations, max(4, _WORK / (6 * width**2 * outputs))))
    optimizer = torch.optim.LBFGS(
        parts,
        max_iter=most,
        max_eval=most + most // 4,
        tolerance_grad=1e-9,
        tolerance_change=1e-10,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = form.loss(parts, fitting)
        value.backward()
        return value

    optimizer.step(closure)
    return most


def ridged(gram: torch.Tensor, share: float = 1e-8) -> torch.Tensor:
    """Return a Gram matrix with a share of its mean diagonal added, so that it can be solved."""
    level = gram.diagonal().mean().clamp(min=1e-30)
    return gram + share * level * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
