"""`modswap.diff`: compare files, models and state dicts from Python."""

import ctypes
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modswap.core.errors import UsageError
from modswap.core.kept.difference import DiffResult, Facts, Part
from modswap.core.seen.entries import PlainEntry, text_of
from modswap.core.words.python_spelling import for_python
from modswap.io.formats.contents import Contents, HeldTensor
from modswap.io.formats.outline import contents
from modswap.io.pickled.walk import is_plain
from modswap.io.raw.byte_range import in_memory
from modswap.live_values import module_paths
from modswap.ops.compare.files import Compared, compare, diff_files

_PARTS: dict[str | None, Part] = {None: "all", "structure": "structure", "values": "values"}
_NO_SETTINGS = frozenset(vars(nn.Module())) - {"training"}

Comparable = str | Path | nn.Module | Mapping[str, Any]


@for_python
def diff(a: Comparable, b: Comparable, *, only: str | None = None) -> DiffResult:
    """Return what changed from `a` to `b`.

    Args:
        a: A checkpoint of any format, which is read as data; or a model, or a state dict.
        b: The other one.
        only: `structure` for names, classes, shapes and dtypes alone, without reading values;
            `values` for values alone.

    Returns:
        The difference. Its `equal` says whether there is none; `pairs`, `removed`, `added`,
        `classes` and `entries` say what differs, and `TensorPair.spread` how far values are apart.

    Raises:
        CheckpointError: If a file cannot be read.
        UsageError: If `only` has another value, or a side is nothing of that kind.

    Examples:
        >>> from torch import nn
        >>> model = nn.Linear(4, 2)
        >>> modswap.diff(model, model.state_dict(), only="values").equal
        True
    """
    if only not in _PARTS:
        raise UsageError(f"no part {only!r}", "only", "use 'structure' or 'values'")
    part = _PARTS[only]
    if isinstance(a, (str, Path)) and isinstance(b, (str, Path)):
        return diff_files(Path(a), Path(b), part)
    kept: list[torch.Tensor] = []  # whose memory is read
    return compare(_compared(a, "a", part, kept), _compared(b, "b", part, kept), part)


def _compared(side: Any, name: str, part: Part, kept: list[torch.Tensor]) -> Compared:
    """Return a side of the comparison; tensors whose memory it refers to are added to `kept`."""
    if isinstance(side, (str, Path)):
        return Compared(str(side), contents(Path(side)))
    if isinstance(side, nn.Module):
        persistent = side.state_dict().keys()
        tensors = {
            tensor: _held(tensor, value, part, kept, optional=tensor not in persistent)
            for tensor, value in _tensors_of(side)
        }
        modules = {place.path: _class_name(place.module) for place in module_paths(side)}
        found = Contents("model", tensors, modules, dict(_settings(side)))
        return Compared(f"{name} ({type(side).__name__})", found)
    if isinstance(side, Mapping):
        tensors = {
            str(key): _held(str(key), value, part, kept)
            for key, value in side.items()
            if isinstance(value, torch.Tensor)
        }
        entries = {
            str(key): PlainEntry(text_of(value))
            for key, value in side.items()
            if not isinstance(value, torch.Tensor)
        }
        return Compared(f"{name} (state dict)", Contents("state dict", tensors, {}, entries))
    what = f"it is a {type(side).__name__}, expected a file, a model or a state dict"
    raise UsageError(what, name, "pass the name of a checkpoint, or the model itself")


def _tensors_of(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _class_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _settings(model: nn.Module) -> Iterator[tuple[str, PlainEntry]]:
    """Yield the plain attributes of every module, frozen parameters, buffers not saved."""
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if not parameter.requires_grad:
            yield f"{name}.requires_grad", PlainEntry("False", "setting")
    persistent = model.state_dict().keys()
    for name, _ in model.named_buffers(remove_duplicate=False):
        if name not in persistent:
            yield f"{name}.persistent", PlainEntry("False", "setting")
    for place in module_paths(model):
        prefix = f"{place.path}." if place.path else ""
        for name, value in vars(place.module).items():
            if name not in _NO_SETTINGS and is_plain(value):
                yield f"{prefix}{name}", PlainEntry(text_of(value), "setting")


def _held(
    name: str, tensor: torch.Tensor, part: Part, kept: list[torch.Tensor], *, optional: bool = False
) -> HeldTensor:
    """Return a tensor in memory as one of a file."""
    facts = Facts(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
    identity = id(tensor)
    if part == "structure":
        return HeldTensor(facts, (), identity=identity, optional=optional)
    if tensor.is_meta or tensor.layout != torch.strided:
        what = f"its tensor {name!r} has no values in memory that could be compared"
        raise UsageError(what, "diff", "compare with only='structure'")
    plain = tensor.detach().dequantize() if tensor.is_quantized else tensor.detach()
    plain = plain.cpu().resolve_conj().resolve_neg().contiguous()
    kept.append(plain)
    nbytes = plain.numel() * plain.element_size()
    if not nbytes:
        return HeldTensor(facts, (), optional=optional)
    array = (ctypes.c_char * nbytes).from_address(plain.data_ptr())
    extent = in_memory(memoryview(array).cast("B"), name)
    return HeldTensor(facts, (extent,), identity=identity, optional=optional)
