"""Passes of two models over the same samples, and what a site is given and gives in them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from modswap.core.errors import InputError
from modswap.live_values import map_tensors
from modswap.ops.heal import ranks
from modswap.ops.heal.measures.passes import outputs_of
from modswap.ops.heal.samples import Batch, Samples
from modswap.ops.heal.sites import HealedSite
from modswap.ops.run.describe import one_line


class SiteCall(NamedTuple):
    """A call of a new module: its inputs in the healed model, and the old module's output."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    target: Any


def tried(models: "Models", chosen: Sequence[int]) -> None:
    """Run the swapped model on some samples.

    Raises:
        InputError: If it does not take what the original takes.
    """
    try:
        outputs_of(models.model, models.samples.batch(chosen))
    except Exception as error:  # of the code of any module
        what = f"the original takes these samples, the swapped model not: {one_line(error, 200)}"
        fix = "give samples of one size without padding, or swap in a module that takes them"
        raise InputError(what, "--data", fix) from error


class _Reached(Exception):  # noqa: N818 - no error: it ends a pass that has given what is wanted
    pass


@dataclass(eq=False)
class Models:
    """The original and the model that is healed, with the samples of both.

    `size` is the number of samples in a pass.
    """

    original: nn.Module
    model: nn.Module
    samples: Samples
    size: int = 32

    def parts(self, chosen: Sequence[int]) -> Iterator[Sequence[int]]:
        """Yield the numbers of the samples of each pass."""
        for start in range(0, len(chosen), self.size):
            yield chosen[start : start + self.size]

    def calls(self, site: HealedSite, chosen: Sequence[int]) -> Iterator[SiteCall]:
        """Yield every call of a site in the passes of this process, pass by pass."""
        for some in ranks.dealt(self.parts(chosen)):
            yield from self.observed(site, some)

    def observed(self, site: HealedSite, chosen: Sequence[int]) -> list[SiteCall]:
        """Return every call of a site for one batch of samples.

        The healed model's pass ends where the site is reached for the last time.

        Raises:
            InputError: If the models call it another number of times.
        """
        with torch.no_grad():
            targets = self._outputs(site, chosen)
            given = self._inputs(site, chosen, len(targets))
        if len(given) != len(targets):
            what = f"the original calls it {len(targets)} times, the swapped model {len(given)}"
            raise InputError(what, site.path, "name the file before the swap as the original")
        return [SiteCall(a, k, y) for (a, k), y in zip(given, targets, strict=True)]

    def _outputs(self, site: HealedSite, chosen: Sequence[int]) -> list[Any]:
        found: list[Any] = []

        def note(_: nn.Module, __: Any, ___: Any, output: Any) -> None:
            found.append(cloned(output))

        _run(self.original, self.samples.batch(chosen), site.old.register_forward_hook, note)
        return found

    def _inputs(
        self, site: HealedSite, chosen: Sequence[int], calls: int
    ) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def note(_: nn.Module, args: Any, kwargs: Any) -> None:
            found.append(cloned((args, kwargs)))
            if len(found) == calls:
                raise _Reached

        _run(self.model, self.samples.batch(chosen), site.new.register_forward_pre_hook, note)
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
        outputs_of(model, batch)
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
