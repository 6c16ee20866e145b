"""Outputs that are made without running an operator."""

from typing import Any

import pytest
import torch

from modswap.ops.measure.quick_outputs import quick_output

aten = torch.ops.aten
FLAGS = (0.1, 1e-5)


def described(output: Any) -> Any:
    if isinstance(output, torch.Tensor):
        return tuple(output.shape), output.stride(), output.dtype
    return None if output is None else tuple(described(each) for each in output)


def calls(x: torch.Tensor) -> list[tuple[Any, tuple[Any, ...]]]:
    c = x.new_empty(x.shape[1])
    saved = (c, c, c, c)
    return [
        (aten.relu.default, (x,)),
        (aten.add.Tensor, (x, x)),
        (aten.threshold_backward.default, (x, x, 0)),
        (aten.upsample_bilinear2d.default, (x, [9, 14], False, None, None)),
        (aten.native_batch_norm.default, (x, c, c, c, c, True, *FLAGS)),
        (aten.native_batch_norm.default, (x, c, c, c, c, False, *FLAGS)),
        (aten.native_batch_norm.default, (x, None, None, None, None, True, *FLAGS)),
        (aten.native_batch_norm_backward.default, (x, x, c, *saved, True, 1e-5, [True] * 3)),
        (
            aten.native_batch_norm_backward.default,
            (x, x, None, *saved, False, 1e-5, [True, False, False]),
        ),
    ]


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_outputs_are_those_of_torch(dtype: torch.dtype, form: torch.memory_format) -> None:
    made = torch.empty(2, 8, 6, 7, dtype=dtype, device="meta").to(memory_format=form)
    quick = [(func, args, quick_output(func, args)) for func, args in calls(made)]

    for func, args, output in quick:
        if output is not None:
            assert described(output) == described(func(*args)), func
    # what torch computes in another dtype, or orders by channels, is left to it
    left = {func for func, _, output in quick if output is None}
    norms = {aten.native_batch_norm.default, aten.native_batch_norm_backward.default}
    assert left == (norms if dtype is torch.bfloat16 else set()) | (
        {aten.upsample_bilinear2d.default} if form is torch.channels_last else set()
    )


@pytest.mark.parametrize("size", [4, 8])
def test_tensors_with_data_and_wrong_sizes_are_left_to_torch(size: int) -> None:
    x = torch.empty(2, 8, 6, 7, device="cpu" if size == 8 else "meta")
    c = torch.empty(size, device=x.device)
    args = (x, c, c, c, c, True, *FLAGS)

    assert quick_output(aten.native_batch_norm.default, args) is None
