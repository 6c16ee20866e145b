"""Passes of two models over the same samples, and what a site is given and gives in them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from modswap.live_values import map_tensors
from modswap.ops.heal.samples import Batch, Samples
from modswap.ops.heal.sites import HealedSite


class SiteCall(NamedTuple):
    """A call of a new module: its inputs in the healed model, and the old module's output."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    target: Any


class _Reached(Exception):  # noqa: N818 - no error: it ends a pass that has given what is wanted
    pass


@dataclass(eq=False)
class Models:
    """The original and the model that is healed, on one device, with the samples of both.

    `size` is the number of samples in a pass.
    """

    original: nn.Module
    model: nn.Module
    samples: Samples
    size: int = 32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def batches(self, chosen: Sequence[int]) -> Iterator[Batch]:
        """Yield the samples of some numbers, in their order, on the device."""
        for start in range(0, len(chosen), self.size):
            yield self.batch(chosen[start : start + self.size])

    def batch(self, chosen: Sequence[int]) -> Batch:
        """Return samples as one batch on the device."""
        batch = self.samples.batch(chosen)
        args, kwargs = map_tensors(self._moved, (batch.args, dict(batch.kwargs)))
        return Batch(args, kwargs, batch.labels)

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.device, copy=True)  # a copy: a model may write into its input

    def observed(self, site: HealedSite, chosen: Sequence[int]) -> list[SiteCall]:
        """Return every call of a site for one batch of samples.

        The healed model's pass ends where the site is reached for the last time.
        """
        with torch.no_grad():
            targets = self._outputs(site, chosen)
            given = self._inputs(site, chosen, len(targets))
        return [SiteCall(a, k, y) for (a, k), y in zip(given, targets, strict=True)]

    def _outputs(self, site: HealedSite, chosen: Sequence[int]) -> list[Any]:
        found: list[Any] = []

        def note(_: nn.Module, __: Any, ___: Any, output: Any) -> None:
            found.append(cloned(output))

        _run(self.original, self.batch(chosen), site.old.register_forward_hook, note)
        return found

    def _inputs(
        self, site: HealedSite, chosen: Sequence[int], calls: int
    ) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def note(_: nn.Module, args: Any, kwargs: Any) -> None:
            found.append(cloned((args, kwargs)))
            if len(found) == calls:
                raise _Reached

        _run(self.model, self.batch(chosen), site.new.register_forward_pre_hook, note)
        return found


def cloned(value: Any) -> Any:
    """Return nested containers with copies of their tensors; what was one tensor stays one."""
    known: dict[int, torch.Tensor] = {}

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        return known.setdefault(id(tensor), tensor.clone())

    return map_tensors(copy, value)


def _run(model: nn.Module, batch: Batch, register: Callable[..., Any], note: Any) -> None:
    """Run a model with a hook, until that says that it has what it wants."""
    handle = register(note, with_kwargs=True)
    try:
        model(*batch.args, **batch.kwargs)
    except _Reached:
        pass
    finally:
        handle.remove()


@contextmanager
def call_order(sites: Sequence[HealedSite]) -> Iterator[dict[str, int]]:
    """Note in a block which sites are called, and in which order; by path."""
    order: dict[str, int] = {}
    handles = []
    for site in sites:

        def note(*_: Any, path: str = site.path) -> None:
            order.setdefault(path, len(order))

        handles.append(site.new.register_forward_pre_hook(note))
    try:
        yield order
    finally:
        for handle in handles:
            handle.remove()
