"""The error of a new module against the old one at its site, and what its mechanism adds."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch

from modswap.nn.linear_forms import form_of
from modswap.ops.heal.closed.maps import tensor_of
from modswap.ops.heal.passes import Models, cloned
from modswap.ops.heal.sites import HealedSite


class SiteError(NamedTuple):
    """Squared error over variance, and the share of the variance that is the mechanism's own."""

    error: float
    share: float | None


@torch.no_grad()
def site_error(models: Models, site: HealedSite, chosen: Sequence[int]) -> SiteError:
    """Return the error of a site over samples, on the inputs that the healed model gives it."""
    form = form_of(site.inner) if site.replaces else None
    parts = form.mechanism() if form is not None else []
    if site.bypass is not None and site.bypass.used:
        parts = [*parts, *site.bypass.layer.parameters()]
    wrong, wanted, given, own = _Spread(), _Spread(), _Spread(), _Spread()
    for call in models.calls(site, chosen):
        target = tensor_of(call.target)
        output = tensor_of(site.new(*cloned(call.args), **cloned(call.kwargs)))
        if target is None or output is None or target.shape != output.shape:
            return SiteError(float("nan"), None)
        wrong.add(output - target)
        wanted.add(target)
        if parts:
            given.add(output)
            with _zeroed(parts):
                alone = tensor_of(site.new(*cloned(call.args), **cloned(call.kwargs)))
            if alone is not None:
                own.add(alone)
    share = own.variance / max(given.variance, 1e-30) if parts else None
    return SiteError(wrong.square / max(wanted.variance, 1e-30), share)


class _Spread:
    """Mean square and variance of a tensor over all samples and places, one value each."""

    def __init__(self) -> None:
        self.count = 0
        self.total = self.squares = 0.0
        self.means: torch.Tensor | None = None

    def add(self, value: torch.Tensor) -> None:
        """Add a tensor whose first axis are samples."""
        wide = value.double()
        self.count += len(wide)
        self.squares += float(wide.square().sum())
        sums = wide.sum(0)
        self.means = sums if self.means is None else self.means + sums

    @property
    def square(self) -> float:
        """Return the sum of squares for each sample."""
        return self.squares / max(self.count, 1)

    @property
    def variance(self) -> float:
        """Return the variance over the samples, summed over all values of one."""
        if self.means is None:
            return 0.0
        return max(self.square - float((self.means / self.count).square().sum()), 0.0)


@contextmanager
def _zeroed(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    held = [(tensor, tensor.clone()) for tensor in tensors]
    for tensor, _ in held:
        tensor.zero_()
    try:
        yield
    finally:
        for tensor, value in held:
            tensor.copy_(value)
