"""Sites whose modules and calls are alike: what passes at the first of them passes at each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import eq
from typing import Any

import torch
from torch import nn

from modswap.core.seen.site import Site
from modswap.live_values import nbytes_of
from modswap.ops.examine.bench import Bench
from modswap.ops.run.random_weights import MAX_STRUCTURE_BYTES, is_statistic

_PLAIN = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_TENSORS = (torch.Tensor, nn.Parameter)  # not of other kinds, whose values may not be compared
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_COMPARED_APART = frozenset({"_parameters", "_buffers", "_modules"})


def first_alike(bench: Bench) -> Mapping[str, str]:
    """Return for each site the path of the first site whose modules and calls are like its own.

    Modules are alike if they differ in the values of their weights alone. A site whose modules
    hold an object that cannot be compared, such as a hook of their own, is like no other; so is
    every site of a bench that is thorough.
    """
    if bench.thorough:
        return {path: path for path, _, _ in bench.sites}
    if "first_alike" not in bench.shared:
        bench.shared["first_alike"] = _first_alike(bench)
    found: Mapping[str, str] = bench.shared["first_alike"]
    return found


def _first_alike(bench: Bench) -> dict[str, str]:
    modules = {path: (old, new) for path, old, new in bench.sites}
    firsts: dict[Any, list[Site]] = {}
    found: dict[str, str] = {}
    for built in bench.prepared.built:
        for site in built.sites:
            if site.path not in modules:
                continue
            kind = (id(built.step.rule), *map(type, modules[site.path]))
            known = firsts.setdefault(kind, [])
            like = next((one for one in known if _alike(one, site, modules)), site)
            if like is site:
                known.append(site)
            found[site.path] = like.path
    return found


def _alike(one: Site, other: Site, modules: Mapping[str, tuple[nn.Module, nn.Module]]) -> bool:
    pairs = zip(modules[one.path], modules[other.path], strict=True)
    return _bare(one) == _bare(other) and all(_same_modules(*pair) for pair in pairs)


def _bare(site: Site) -> tuple[Any, ...]:
    """Return all of a site but its place in the model."""
    beside = None if site.beside is None else _bare(site.beside)
    seen = tuple((call.grids, call.windows) for call in site.calls)  # no part of a call's equality
    return replace(site, path="", aliases=(), layout_reason="", beside=None), seen, beside


def _same_modules(one: nn.Module, other: nn.Module) -> bool:
    """Return whether two modules differ in the values of their weights alone."""
    parts, others = ([*each.named_modules(remove_duplicate=False)] for each in (one, other))
    if [name for name, _ in parts] != [name for name, _ in others]:
        return False
    inner, like = ([module for _, module in each] for each in (parts, others))
    if _sharing(inner) != _sharing(like) or not all(map(_same_part, inner, like)):
        return False
    held, held_there = ([t for m in each for t in _tensors(m).values()] for each in (inner, like))
    return _sharing(held) == _sharing(held_there)


def _sharing(objects: Sequence[object]) -> list[int]:
    """Return for each object the index of the first that is the same one."""
    firsts: dict[int, int] = {}
    return [firsts.setdefault(id(each), index) for index, each in enumerate(objects)]


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    parameters = module.named_parameters(recurse=False)
    return {**dict(parameters), **dict(module.named_buffers(recurse=False))}


def _same_part(one: nn.Module, other: nn.Module) -> bool:
    """Return whether two modules, their inner ones aside, are alike."""
    if type(one) is not type(other) or vars(one).keys() != vars(other).keys():
        return False
    held, others = _tensors(one), _tensors(other)
    return (
        [*held] == [*others]
        and all(map(_same_tensor, held, held.values(), others.values()))
        and all(map(_same, _attributes(one), _attributes(other)))
    )


def _attributes(module: nn.Module) -> list[object]:
    """Return the attributes of a module in the order of their names; the keys of hooks are left."""
    return [
        [*value.values()] if name in _OF_EVERY_MODULE and isinstance(value, dict) else value
        for name, value in sorted(vars(module).items())
        if name not in _COMPARED_APART
    ]


def _same_tensor(name: str, one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors of modules are alike; of structure also the values must be."""
    form = _form(one)
    if form is None or form != _form(other):
        return False
    drawn = isinstance(one, nn.Parameter) and (one.is_floating_point() or one.is_complex())
    large = nbytes_of(one) >= MAX_STRUCTURE_BYTES and one.is_floating_point()
    return drawn or large or one.is_meta or is_statistic(name) or torch.equal(one, other)


def _form(tensor: torch.Tensor) -> tuple[object, ...] | None:
    """Return all of a tensor but its values; None where it cannot be compared."""
    if type(tensor) not in _TENSORS or tensor.layout != torch.strided:
        return None
    kinds = (type(tensor), tensor.dtype, tensor.device, tensor.requires_grad)
    return *kinds, tensor.shape, tensor.stride()


def _same(one: object, other: object) -> bool:
    """Return whether two attributes are alike; objects of unknown kinds only as the same object."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    return next((how(one, other) for kinds, how in _WAYS if isinstance(one, kinds)), False)


def _same_items(one: dict[Any, object], other: dict[Any, object]) -> bool:
    return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)


def _same_sets(one: set[object], other: set[object]) -> bool:
    return one == other and all(isinstance(each, _PLAIN) for each in one)


def _same_elements(one: Sequence[object], other: Sequence[object]) -> bool:
    return len(one) == len(other) and all(map(_same, one, other))


def _same_calls(one: partial[object], other: partial[object]) -> bool:
    return _same([one.func, one.args, one.keywords], [other.func, other.args, other.keywords])


_WAYS: tuple[tuple[Any, Callable[[Any, Any], bool]], ...] = (
    (_PLAIN, eq),
    (torch.Tensor, partial(_same_tensor, "")),
    (dict, _same_items),
    ((set, frozenset), _same_sets),
    ((list, tuple), _same_elements),
    (partial, _same_calls),
)
