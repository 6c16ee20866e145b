"""Run a model's forward pass, on its own tensors or on stand-ins."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from modswap.ops.run.devices import device_of
from modswap.ops.run.inputs import Case
from modswap.ops.run.isolation import untouched
from modswap.ops.run.stand_ins import StandIns
from modswap.seeds import seeded


def pass_dtype(model: nn.Module, case: Case) -> torch.dtype | None:
    """Return the dtype to cast the model's tensors to for a pass; None for its own.

    A model stored in half precision, as published checkpoints often are, runs in float32 unless its
    input says otherwise.

    Args:
        model: The model.
        case: The pass.
    """
    if case.dtype is not None:
        return getattr(torch, case.dtype)  # type: ignore[no-any-return] # by name
    held = _dtypes(model)
    halves = bool(held) and held <= {torch.float16, torch.bfloat16}
    return torch.float32 if halves and not case.call.asks_for_half else None


def input_dtype(model: nn.Module, case: Case) -> torch.dtype | None:
    """Return the dtype of a pass's inputs that are declared float32; None to keep it."""
    return pass_dtype(model, case) or (torch.float64 if _dtypes(model) == {torch.float64} else None)


def _dtypes(model: nn.Module) -> set[torch.dtype]:
    return {p.dtype for p in model.parameters() if p.is_floating_point()}


def run_model(
    model: nn.Module,
    args: Any,
    kwargs: Any,
    *,
    dtype: torch.dtype | None,
    stand_ins: StandIns | None,
) -> Any:
    """Return the model's output, with stand-ins or cast copies in place of its tensors if asked.

    Args:
        model: The model.
        args: Positional inputs.
        kwargs: Keyword inputs.
        dtype: Floating tensors are cast to it; None to cast none.
        stand_ins: Makes tensors without data; None to run on the model's own tensors.
    """
    if stand_ins is not None:
        with stand_ins(model, dtype) as (tensors, moved):
            inputs, named = moved(args), moved(kwargs)
            return torch.func.functional_call(model, tensors, tuple(inputs), named)
    if dtype is not None:
        cast = {name: _cast(tensor, dtype) for name, tensor in named_tensors(model).items()}
        return torch.func.functional_call(model, cast, tuple(args), kwargs)
    return model(*args, **kwargs)


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    # a copy even where the dtype is right: buffers may be written during the pass
    return tensor.detach().to(dtype if tensor.is_floating_point() else tensor.dtype, copy=True)


def named_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return every parameter and buffer by each of its names."""
    found: dict[str, torch.Tensor] = dict(model.named_parameters(remove_duplicate=False))
    found.update(model.named_buffers(remove_duplicate=False))
    return found


@contextmanager
def ready(model: nn.Module, case: Case, seed: int) -> Iterator[tuple[Any, Any, torch.dtype | None]]:
    """Give the inputs and the dtype of a real pass; afterwards the model is as it was."""
    dtype = pass_dtype(model, case)
    with untouched(model, training=case.mode == "train"), seeded(seed), torch.no_grad():
        args, kwargs = case.call.live(seed, input_dtype(model, case), device_of(model))
        yield args, kwargs, dtype
