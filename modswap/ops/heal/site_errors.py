"""The error of a new module against the old one at its site, and what its mechanism adds."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from modswap.nn.linear_forms import form_of
from modswap.ops.heal import ranks
from modswap.ops.heal.closed.maps import tensor_of
from modswap.ops.heal.passes import Models, SiteCall, cloned
from modswap.ops.heal.sites import HealedSite


class SiteError(NamedTuple):
    """Squared error over variance, and the share of the variance that is the mechanism's own."""

    error: float
    share: float | None


@torch.no_grad()
def site_error(
    models: Models, site: HealedSite, chosen: Sequence[int], *, shared: bool = True
) -> SiteError:
    """Return the error of a site over samples, on the inputs that the healed model gives it.

    The share, which takes a second run of the module, is left out unless it is wanted.
    """
    parts = _mechanism(site) if shared else []
    wrong, wanted, given, own = spreads = tuple(_Spread() for _ in range(4))
    fits = True
    for call in models.calls(site, chosen):
        target, output = tensor_of(call.target), _output(site, call)
        if target is None or output is None or target.shape != output.shape:
            fits = False
            break
        wrong.add(output - target)
        wanted.add(target)
        if parts:
            given.add(output)
            with _zeroed(parts):
                own.add(_output(site, call))
    if not all(ranks.gathered(fits)):
        return SiteError(float("nan"), None)
    for one in spreads:
        one.join()
    share = own.variance / max(given.variance, 1e-30) if parts else None
    return ranks.from_first(SiteError(wrong.square / max(wanted.variance, 1e-30), share))


def _mechanism(site: HealedSite) -> list[torch.Tensor]:
    """Return the tensors without which a new module gives its own mechanism alone."""
    form = form_of(site.learned) if site.replaces else None
    parts = form.mechanism() if form is not None else []
    if site.bypass is not None and site.bypass.used:
        parts = [*parts, *site.bypass.layer.parameters()]
    return parts


def _output(site: HealedSite, call: SiteCall) -> torch.Tensor | None:
    return tensor_of(site.new(*cloned(call.args), **cloned(call.kwargs)))


class SiteErrorSum:
    """Squared error over variance of the outputs of a site, in this process alone."""

    def __init__(self) -> None:
        self._wrong, self._wanted = _Spread(), _Spread()
        self._fits = True

    def add(self, targets: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Add the outputs of all calls in a pass."""
        self._fits = self._fits and len(targets) == len(outputs)
        for wanted, given in zip(map(tensor_of, targets), map(tensor_of, outputs), strict=False):
            if wanted is None or given is None or wanted.shape != given.shape:
                self._fits = False
            else:
                self._wrong.add(given - wanted)
                self._wanted.add(wanted)

    @property
    def value(self) -> float:
        """Return the error; not a number if outputs are no tensors, or of other shapes."""
        if not self._fits:
            return float("nan")
        return self._wrong.square / max(self._wanted.variance, 1e-30)


class _Spread:
    """Mean square and variance of a tensor over all samples and places, one value each."""

    def __init__(self) -> None:
        self.count, self.squares = 0, 0.0
        self.means: torch.Tensor | None = None

    def add(self, value: torch.Tensor | None) -> None:
        """Add a tensor whose first axis are samples."""
        if value is None:
            return
        wide = value.double()
        self.count += len(wide)
        self.squares += float(wide.square().sum())
        sums = wide.sum(0)
        self.means = sums if self.means is None else self.means + sums

    def join(self) -> None:
        """Add what the other processes have."""
        count, self.squares = ranks.totals([self.count, self.squares])
        self.count = int(count)
        (self.means,) = ranks.summed([self.means])

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
