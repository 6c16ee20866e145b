"""Describe what modules put out on a real input, and write it to a file."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modswap.core.errors import InputError
from modswap.core.seen.tree import OutputValues
from modswap.core.seen.values import TensorInfo
from modswap.io.formats.container import Container, Slot
from modswap.io.formats.target import NO_FILE, refuse_target
from modswap.io.formats.writing import write
from modswap.io.rewriting import Records
from modswap.live_values import dtype_name, named_tensors_in
from modswap.ops.run.describe import one_line
from modswap.ops.run.forward import ready, run_model
from modswap.ops.run.inputs import Case, DummyCall

SPARE_BYTES = 8 << 30  # of outputs that are kept for a file


@dataclass(slots=True)
class Outputs:
    """The values that modules put out, by path; `tensors` are kept for a file, if there is one."""

    values: dict[str, list[OutputValues]] = field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)


def layer_outputs(
    model: nn.Module, call: DummyCall, wanted: Mapping[str, nn.Module], *, keep: bool
) -> Outputs:
    """Return what the wanted modules put out in a pass on real values, in evaluation mode.

    Raises:
        InputError: If the model does not run on the input, or the outputs to keep are too large.
    """
    found = Outputs()
    with (
        ready(model, Case(call), 0) as (args, kwargs, dtype),
        _recorded(found, wanted, keep=keep),
    ):
        try:
            run_model(model, args, kwargs, dtype=dtype, stand_ins=None)
        except InputError:
            raise
        except Exception as error:
            what = f"the model does not run on it: {one_line(error)}"
            raise InputError(what, "--input", "give an input that the model takes") from error
    return found


@contextmanager
def _recorded(found: Outputs, wanted: Mapping[str, nn.Module], *, keep: bool) -> Iterator[None]:
    def record(path: str, output: Any) -> None:
        rows = found.values.setdefault(path, [])
        call = rows[-1].call + 1 if rows else 1
        for place, tensor in named_tensors_in(output):
            rows.append(values_of(tensor, call, place))
            if keep:
                _keep(found.tensors, _name(path, call, place), tensor)

    def hook(path: str) -> Any:
        return lambda _module, _args, output: record(path, output)

    hooks = [module.register_forward_hook(hook(path)) for path, module in wanted.items()]
    try:
        yield
    finally:
        for one in hooks:
            one.remove()


def _name(path: str, call: int, place: str) -> str:
    """Return the name of an output in a file: the module's path, the place, a later call."""
    named = ".".join(filter(None, (path or "output", place)))
    return named if call == 1 else f"{named}#{call}"


def _keep(kept: dict[str, torch.Tensor], name: str, tensor: torch.Tensor) -> None:
    if sum(one.numel() * one.element_size() for one in kept.values()) > SPARE_BYTES:
        what = f"the outputs together have more than {SPARE_BYTES >> 30} GiB"
        raise InputError(what, "--save-outputs", "select fewer modules by --match")
    # a copy: later layers may write into it, and two names may be one tensor
    kept[name] = tensor.detach().cpu().contiguous().clone()


def values_of(tensor: torch.Tensor, call: int = 1, place: str = "") -> OutputValues:
    """Return what the values of a tensor are."""
    info = TensorInfo(tuple(tensor.shape), dtype_name(tensor.dtype), str(tensor.device))
    flat = tensor.detach().reshape(-1)
    flat = flat.abs() if flat.is_complex() else flat
    zeros = float((flat == 0).sum()) / flat.numel() if flat.numel() else 0.0
    nan, infinite = int(flat.isnan().sum()), int(flat.isinf().sum())
    flat = flat[flat.isfinite()] if nan or infinite else flat
    if not flat.numel():
        return OutputValues(call, place, info, None, None, zeros, nan, infinite)
    doubles = flat.to(torch.float64)
    mean, std = float(doubles.mean()), float(doubles.std(correction=0))
    known = mean if math.isfinite(mean) else None
    spread = std if math.isfinite(std) else None
    return OutputValues(call, place, info, known, spread, zeros, nan, infinite)


def save_outputs(found: Outputs, source: Path, out: Path, *, force: bool) -> None:
    """Write the tensors that were kept to a safetensors file.

    Raises:
        CheckpointError: If it cannot be written, or would take the place of the checkpoint.
    """
    refuse_target(source, out, force=force)
    slot = Slot((), "weights", found.tensors)
    container = Container("safetensors", NO_FILE, found.tensors, (slot,), {"format": "pt"})
    write(container, [found.tensors], out, records=Records(), force=force)
