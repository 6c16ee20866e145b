"""Find the modules that give the model's output: no layer of weights reads what they give."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from modswap.core.seen.site import Site
from modswap.live_values import live_tensors
from modswap.ops.run.inputs import Case
from modswap.ops.trace.passes import trace

_NONE: frozenset[str] = frozenset()


class _Origins(TorchFunctionMode):
    """Of which modules' outputs each tensor of a pass is made, as its operations show."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: Any = WeakTensorKeyDictionary()  # parameters, and what is made of them alone
        self.origins: Any = WeakTensorKeyDictionary()
        self.read: set[str] = set()  # modules whose output went into an operation with a weight
        self.given: set[str] = set()  # those of which the model's output is made
        self.ended = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the output of an operation, and note of what it is made."""
        output = func(*args, **(kwargs or {}))
        given = live_tensors([args, dict(kwargs or {})])
        weights = [tensor in self.weights for tensor in given]
        origins = self.of(given)
        if any(weights):
            self.read |= origins
        for tensor in live_tensors(output) if origins or any(weights) else ():
            if all(weights):
                self.weights[tensor] = True
            else:
                self.add(tensor, origins)
        return output

    def of(self, given: Sequence[torch.Tensor]) -> frozenset[str]:
        """Return the modules of whose outputs some tensors are made."""
        return _NONE.union(*(self.origins.get(tensor, _NONE) for tensor in given))

    def add(self, tensor: torch.Tensor, origins: frozenset[str]) -> None:
        """Note that a tensor is made of the outputs of some modules, besides those known."""
        self.origins[tensor] = self.origins.get(tensor, _NONE) | origins

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[None]:
        """Hook every module for the time of a block."""

        def begin(module: nn.Module, _: object) -> None:
            # of a pass on stand-ins these are the stand-ins
            self.weights.update(dict.fromkeys(module.parameters(), True))

        def leave(path: str, _: object, __: object, output: Any) -> None:
            for tensor in live_tensors(output):
                self.add(tensor, frozenset((path,)))

        def end(_: object, __: object, output: Any) -> None:
            self.given |= self.of(live_tensors(output))
            self.ended = True

        handles = [model.register_forward_pre_hook(begin)]
        for path, module in model.named_modules():
            if path:
                handles.append(module.register_forward_hook(partial(leave, path)))
        handles.append(model.register_forward_hook(end))
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()


class LastModules:
    """The modules that give a model's output; it is run once the first of them is asked for.

    Args:
        model: The model.
        cases: The passes that reached its modules; the first is run.
        seed: Seed of the pass.
        unreal: Whether the pass runs on tensors without data; others try that first.
    """

    def __init__(self, model: nn.Module, cases: Sequence[Case], *, seed: int, unreal: bool) -> None:
        self.model = model
        self.cases = cases
        self.seed = seed
        self.unreal = unreal

    def is_last(self, site: Site) -> bool | None:
        """Return whether the model's output is made of a site's, which no layer of weights reads.

        None where that is not known.
        """
        seen = self._origins
        if seen is None or site.beside is not None:
            return None
        if site.path in seen.read:
            return False
        return True if site.path in seen.given else None

    @cached_property
    def _origins(self) -> _Origins | None:
        for unreal in (True, False) if not self.unreal else (True,):
            origins = _Origins()
            with origins.attached(self.model):
                trace(self.model, self.cases[0], seed=self.seed, unreal=unreal)
            if origins.ended:
                return origins
        return None
