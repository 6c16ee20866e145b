"""Calls of sites in the original, kept for all trials at a site, and its outputs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from modswap.live_values import live_tensors, nbytes_of
from modswap.ops.heal.measures.passes import outputs_of
from modswap.ops.heal.passes import Models, SiteCall, cloned
from modswap.ops.heal.sites import HealedSite


@dataclass(eq=False)
class KeptCalls(Models):
    """Both models, of which one module differs: all before it computes the same in both.

    So the calls of that module, or of a block around it, are those of the original, and one pass
    gives them for all trials. A module that is called several times in a pass is observed anew in
    each trial, since a later call may depend on an earlier one.

    Args:
        room: Bytes that may be kept; further calls are computed again.
    """

    room: int = 1 << 30
    _kept: dict[tuple[str, tuple[int, ...]], list[SiteCall]] = field(default_factory=dict)
    _results: dict[tuple[int, ...], Any] = field(default_factory=dict)
    _nbytes: int = 0  # of the calls
    _output_nbytes: int = 0
    _site: str = ""

    def begin(self, site: str) -> None:
        """Drop what is kept, if it is of another site."""
        if site != self._site:
            self._kept.clear()
            self._site, self._nbytes = site, 0

    def observed(self, site: HealedSite, chosen: Sequence[int]) -> list[SiteCall]:
        """Return every call of a site for one batch of samples."""
        key = site.path, tuple(chosen)
        if key in self._kept:
            return self._kept[key]
        calls = self._original(site.old, chosen)
        if len(calls) != 1:
            return super().observed(site, chosen)
        nbytes = sum(map(nbytes_of, live_tensors([(c.args, c.kwargs, c.target) for c in calls])))
        if self._output_nbytes + self._nbytes + nbytes <= self.room:
            self._kept[key] = calls
            self._nbytes += nbytes
        return calls

    def original_outputs(self, chosen: Sequence[int]) -> Any:
        """Return the outputs of the original for one batch of samples."""
        key = tuple(chosen)
        if key in self._results:
            return self._results[key]
        found = cloned(outputs_of(self.original, self.samples.batch(chosen)))
        nbytes = sum(map(nbytes_of, live_tensors(found)))
        # half of the room at most: the calls take the rest
        if self._output_nbytes + nbytes <= self.room // 2:
            self._results[key] = found
            self._output_nbytes += nbytes
        return found

    @torch.no_grad()
    def _original(self, module: nn.Module, chosen: Sequence[int]) -> list[SiteCall]:
        """Return the calls of a module of the original."""
        given: list[tuple[Any, Any]] = []
        found: list[SiteCall] = []

        def before(_: nn.Module, args: Any, kwargs: Any) -> None:
            given.append(cloned((args, kwargs)))

        def after(_: nn.Module, __: Any, ___: Any, output: Any) -> None:
            found.append(SiteCall(*given.pop(), cloned(output)))

        handles = [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after, with_kwargs=True),
        ]
        try:
            outputs_of(self.original, self.samples.batch(chosen))
        finally:
            for handle in handles:
                handle.remove()
        return found
