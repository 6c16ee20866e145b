"""Facts of a model that equal outputs do not show: classes, options and ties."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from modswap.live_values import module_paths, named_tensors

_PLAIN = (int, float, str, bool, tuple, type(None))
_SET_LATER = ("training",)
Facts = Mapping[str, Mapping[str, Any]]


def facts_of(model: nn.Module, sites: Sequence[str]) -> Facts:
    """Return the classes of all modules, the options of those in sites, and what is shared."""
    classes: dict[str, str] = {}
    options: dict[str, str] = {}
    modules: dict[str, str] = {}
    first: dict[int, str] = {}
    for path, module, *_ in module_paths(model):
        cls = type(module)
        classes[path] = f"{cls.__module__}.{cls.__qualname__}"
        modules[path] = first.setdefault(id(module), path)
        if any(f"{path}.".startswith(f"{site}.") for site in sites):
            for name, value in vars(module).items():
                if isinstance(value, _PLAIN) and name not in _SET_LATER:
                    options[f"{path}.{name}"] = repr(value)
    owners: dict[int, str] = {}
    tensors = {n: owners.setdefault(id(t), n) for n, t in named_tensors(model).items()}
    return {"class": classes, "option": options, "module": modules, "tensor": tensors}


def first_difference(was: Facts, now: Facts) -> str:
    """Return in words the first fact that differs, or nothing."""
    for kind, before in was.items():
        after = now[kind]
        for name in (*before, *(one for one in after if one not in before)):
            if before.get(name) != after.get(name):
                is_now, was_then = _shown(after.get(name)), _shown(before.get(name))
                return f"the {kind} {name!r} is {is_now}, not {was_then}"
    return ""


def _shown(value: str | None) -> str:
    return "missing" if value is None else value
