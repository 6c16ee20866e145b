"""Run a model on chosen samples."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from modswap.live_values import map_tensors
from modswap.ops.heal import ranks
from modswap.ops.heal.samples import Batch, Samples
from modswap.ops.run.devices import device_of
from modswap.ops.run.isolation import untouched


def outputs_of(model: nn.Module, batch: Batch) -> Any:
    """Return the outputs of a model for a batch, which is moved to its device first.

    Floating inputs are cast to the dtype of the model's first floating parameter. Gradients flow
    unless the caller forbids them.
    """
    batch = moved(batch, model)
    return model(*batch.args, **batch.kwargs)


def moved(batch: Batch, model: nn.Module) -> Batch:
    """Return a batch on the device, and in the floating dtype, of a model."""
    device = device_of(model)
    floating = (tensor.dtype for tensor in model.parameters() if tensor.is_floating_point())
    dtype = next(floating, torch.get_default_dtype())

    def change(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device, dtype if tensor.is_floating_point() else None)

    args, kwargs = map_tensors(change, (tuple(batch.args), dict(batch.kwargs)))
    return Batch(args, kwargs, batch.labels)


def batches_of(samples: Samples, indices: Sequence[int], batch: int) -> Iterator[Batch]:
    """Yield the samples of these numbers, at most `batch` at a time, in their order.

    Of several processes each gets every so many batches.
    """
    for start in ranks.dealt(range(0, len(indices), batch)):
        yield samples.batch(indices[start : start + batch])


@contextmanager
def still(*models: nn.Module) -> Iterator[None]:
    """Run a block with models in evaluation and without gradients; restore them afterwards."""
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(untouched(model, training=False))
        stack.enter_context(torch.no_grad())
        yield
