"""Put new modules where the old ones are: for good, undone on an error, or for a block."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from torch import nn

from modswap.core.errors import MatchError
from modswap.nn.inserted_site import put_in, take_out
from modswap.nn.insertion import Insertion

Placement = tuple[tuple[str, ...], nn.Module]


def apply(model: nn.Module, placements: Sequence[Placement]) -> Callable[[], None]:
    """Put modules into a model, all or none; return a function that puts the old ones back.

    Args:
        model: The model, changed in place.
        placements: Each new module with its paths, aliases included.

    Raises:
        MatchError: If the model has no such path; the model is as it was.
    """
    done: list[Callable[[], object]] = []

    def undo() -> None:
        while done:
            done.pop()()

    try:
        for paths, module in placements:
            done.extend(_placed(model, path, module) for path in paths)
    except BaseException:
        undo()
        raise
    return undo


def _placed(model: nn.Module, path: str, module: nn.Module) -> Callable[[], object]:
    """Put a module at a path, or in beside the module that the path is in; return the undo."""
    if isinstance(module, Insertion):
        around, name = path.rpartition(".")[::2]
        site = module_at(model, around)
        if name not in site._modules:
            put_in(site, name, module)
            return partial(take_out, site, name)
    parent, name = parent_of(model, path)
    old = parent._modules[name]
    # not setattr: a host may define a `__setattr__` of its own
    parent._modules[name] = module
    return partial(parent._modules.__setitem__, name, old)


@contextmanager
def applied(model: nn.Module, placements: Sequence[Placement]) -> Iterator[None]:
    """Put modules into a model for good; put the old ones back only if the block raises."""
    undo = apply(model, placements)
    try:
        yield
    except BaseException:
        undo()
        raise


@contextmanager
def temporarily(model: nn.Module, placements: Sequence[Placement]) -> Iterator[None]:
    """Put modules into a model for the time of a block; the old ones always come back."""
    undo = apply(model, placements)
    try:
        yield
    finally:
        undo()


def module_at(model: nn.Module, path: str) -> nn.Module:
    """Return the module of a path, whose names may contain dots.

    Raises:
        MatchError: If there is no such path.
    """
    parent, name = parent_of(model, path)
    return parent._modules[name]  # type: ignore[return-value] # an empty slot has no path


def parent_of(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    """Return the parent module of a path, and the child's name in it, which may contain dots.

    Raises:
        MatchError: If there is no such path.
    """
    segments = path.split(".")
    for end in range(1, len(segments) + 1):
        name = ".".join(segments[:end])
        child = model._modules.get(name)
        if child is None:
            continue
        if end == len(segments):
            return model, name
        return parent_of(child, ".".join(segments[end:]))
    raise MatchError(f"no module {path!r} in {type(model).__name__}", path)
