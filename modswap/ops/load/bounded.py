"""Bound the memory of a model that a library builds from a configuration of a stranger."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.module import register_module_module_registration_hook
from torch.utils._python_dispatch import TorchDispatchMode

from modswap.core.errors import CheckpointError
from modswap.ops.run.process_memory import bounded_process

_SPARE_BYTES = 512 << 20  # for tables that no file holds: positions, masks
_TIMES = 32  # bytes for each element in the file: eight times those of float32
_SPARE_MODULES = 5_000
_MODULES = 20  # for each tensor in the file
_SPARE_SECONDS = 8.0  # of the processor
_ELEMENTS_PER_SECOND = 1_000_000  # a tenth of what initialising them takes


@contextmanager
def bounded(weights: Mapping[str, Any], where: str) -> Iterator[None]:
    """Bound the tensors and modules that a block makes, and its time, by the weights they are for.

    On Linux the memory of the process is bounded too, where no other thread would feel it.

    Raises:
        CheckpointError: If more is asked for than the weights can fill; `where` is its place.
    """
    tensors = [value for value in weights.values() if torch.is_tensor(value)]
    elements = sum(tensor.numel() for tensor in tensors)
    room = _SPARE_BYTES + _TIMES * elements
    meter = _Meter(where, room, _SPARE_MODULES + _MODULES * len(tensors))
    meter.end += elements / _ELEMENTS_PER_SECOND
    hook = register_module_module_registration_hook(lambda *_: meter.count_module())
    try:
        with meter, bounded_process(2 * room):
            yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise meter.too_much("memory than this machine gives") from error
    finally:
        hook.remove()


class _Meter(TorchDispatchMode):
    """Counts the bytes of new tensors and the modules, and refuses those beyond the bounds."""

    def __init__(self, where: str, room: int, modules: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch gives it no types
        self.where, self.room, self.modules = where, room, modules
        self.end = time.thread_time() + _SPARE_SECONDS

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation of torch, if what it makes has room."""
        kwargs = kwargs or {}
        if not any(isinstance(arg, torch.Tensor) for arg in args) and "device" in kwargs:
            self._take(func(*args, **{**kwargs, "device": torch.device("meta")}))
            return func(*args, **kwargs)
        made = func(*args, **kwargs)
        if not any(part.alias_info for part in func._schema.returns):  # noqa: SLF001 - torch names it so
            self._take(made)
        return made

    def _take(self, made: Any) -> None:
        for tensor in made if isinstance(made, (list, tuple)) else (made,):
            if isinstance(tensor, torch.Tensor):
                self.room -= tensor.numel() * tensor.element_size()
        if self.room < 0:
            raise self.too_much("memory than its weights can fill")
        self._refuse_late()

    def count_module(self) -> None:
        """Count a module that is put into another."""
        self.modules -= 1
        if self.modules < 0:
            raise self.too_much("modules than its weights can fill")
        self._refuse_late()

    def _refuse_late(self) -> None:
        if time.thread_time() > self.end:
            raise self.too_much("time to build than its weights account for")

    def too_much(self, what: str) -> CheckpointError:
        """Return the error for a model beyond the bounds."""
        fix = "check that the folder holds the weights of this model"
        return CheckpointError(f"the model that it describes takes more {what}", self.where, fix)
