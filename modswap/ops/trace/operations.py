"""Name the modules around an operation that a pattern takes for a module."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

from modswap.core.errors import MatchError

_NO_MODULE = re.compile(r"no module matches '[\w.]*?(\w{3,})'")
MAX_SHOWN = 4  # modules that an error names


class _Operations(TorchFunctionMode):
    """The operations of a pass, and the paths of the modules in whose forward they ran."""

    def __init__(self) -> None:
        super().__init__()
        self.running = [""]
        self.seen: dict[str, dict[str, None]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.seen.setdefault(getattr(func, "__name__", ""), {})[self.running[-1]] = None
        return func(*args, **(kwargs or {}))


def with_operations(error: MatchError, model: nn.Module, run: Callable[[], object]) -> MatchError:
    """Return an error about a pattern that matches no module, with the operation that it names.

    `run` runs the model once, to see the operations.
    """
    wanted = _NO_MODULE.fullmatch(error.what)
    if wanted is None:
        return error
    operations = _Operations()
    with _followed(model, operations), operations:
        run()
    name = wanted[1].lower()
    for operation, paths in operations.seen.items():
        inside = [path for path in paths if path]
        # only a name in full, or the one that everybody uses
        alike = name == operation or (name == "attention" and name in operation)
        if alike and inside:
            shown = ", ".join(inside[:MAX_SHOWN]) + (", …" if len(inside) > MAX_SHOWN else "")
            fix = f"`{operation}` is an operation and no module: name the module around it: {shown}"
            made = MatchError(error.what, error.where, fix, error.more)
            made.rule = error.rule
            return made
    return error


@contextmanager
def _followed(model: nn.Module, operations: _Operations) -> Iterator[None]:
    """Follow which module runs, for the time of a block."""
    handles = []
    for path, module in model.named_modules():

        def enter(*_: object, path: str = path) -> None:
            operations.running.append(path)

        def leave(*_: object) -> None:
            operations.running.pop()

        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
