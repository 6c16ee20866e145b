"""The modules of a model as rows of a tree."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from modswap.core.seen.site import Call
from modswap.core.seen.tree import BareParameter, OutputValues, TreeRow, dtypes_below
from modswap.live_values import dtype_name, module_paths, named_tensors, sizes_below
from modswap.ops.run.describe import class_name


@dataclass(frozen=True, slots=True)
class KnownFacts:
    """Further facts on modules.

    Args:
        calls: The calls of a pass, by path.
        flops: The operations of all calls of a module.
        outputs: Values that modules put out, by path.
        stored: Beginnings of the names of a module's tensors in the file, by path.
    """

    calls: Mapping[str, tuple[Call, ...]] = field(default_factory=dict)
    flops: Mapping[nn.Module, int] = field(default_factory=dict)
    outputs: Mapping[str, Sequence[OutputValues]] = field(default_factory=dict)
    stored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


NOTHING = KnownFacts()


def module_rows(model: nn.Module, about: KnownFacts = NOTHING) -> Iterator[TreeRow]:
    """Yield a row for every path of every module, in the order of `named_modules`."""
    first: dict[nn.Module, str] = {}
    tensors: dict[int, str] = {}
    places = tuple(module_paths(model))
    params, nbytes = sizes_below(places)
    dtypes = dtypes_below([place.parent for place in places], [_dtypes(p.module) for p in places])
    for number, (path, module, *_) in enumerate(places):
        known = first.setdefault(module, path)
        alias = "" if known == path else known
        yield TreeRow(
            path=path,
            class_name=class_name(module),
            params=params[number],
            nbytes=nbytes[number],
            alias_of=alias,
            calls=about.calls.get(known, ()),
            stored_as=about.stored.get(path, ()),
            ties=() if alias else tuple(_ties(path, module, tensors)),
            bare=() if alias else tuple(_bare(module)),
            dtype=dtypes[number],
            flops=about.flops.get(module),
            outputs=tuple(about.outputs.get(path, ())),
        )


def _dtypes(module: nn.Module) -> set[str]:
    """Return the dtypes of a module's own floating tensors."""
    held = named_tensors(module, recurse=False).values()
    return {dtype_name(tensor.dtype) for tensor in held if is_floating(tensor)}


def is_floating(tensor: torch.Tensor) -> bool:
    """Return whether a tensor holds real or complex numbers."""
    return tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized


def _bare(module: nn.Module) -> Iterator[BareParameter]:
    """Yield a module's own parameters, if it has modules in it."""
    if any(True for _ in module.children()):
        for name, own in module.named_parameters(recurse=False):
            yield BareParameter(name, own.numel(), own.numel() * own.element_size())


def _ties(path: str, module: nn.Module, tensors: dict[int, str]) -> Iterator[tuple[str, str]]:
    """Yield a module's own tensors that were met before, with the name that they had there."""
    for name, tensor in named_tensors(module, recurse=False).items():
        full = f"{path}.{name}" if path else name
        known = tensors.setdefault(id(tensor), full)
        if known != full:
            yield name, known
