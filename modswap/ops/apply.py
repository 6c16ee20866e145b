"""The one mutation: putting new modules where the old ones were, all or none."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from modswap.core.errors import MatchError

Placement = tuple[tuple[str, ...], nn.Module]


@contextmanager
def swapped(model: nn.Module, placements: Sequence[Placement]) -> Iterator[None]:
    """Put modules in; if the block raises, put the old ones back.

    Args:
        model: The model, changed in place.
        placements: For each new module the paths that it goes to, aliases included.
    """
    undo: list[tuple[nn.Module, str, nn.Module]] = []
    try:
        for paths, module in placements:
            for path in paths:
                parent, name = parent_of(model, path)
                undo.append((parent, name, parent._modules[name]))  # type: ignore[arg-type] # an empty slot has no path, so there is a module
                # not setattr: a host may have given the parent one of its own
                parent._modules[name] = module
        yield
    except BaseException:
        for parent, name, old in reversed(undo):
            parent._modules[name] = old
        raise


def module_at(model: nn.Module, path: str) -> nn.Module:
    """Return the module of a path, whose names may contain dots.

    Raises:
        MatchError: If there is no such path.
    """
    parent, name = parent_of(model, path)
    return parent._modules[name]  # type: ignore[return-value] # an empty slot has no path


def parent_of(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    """Return the module that holds a path, and the name under which it does.

    Names that contain dots are found too.

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
