"""Outputs that are made without running an operator."""

from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from modswap.live_values import changed_tensors
from modswap.nn.fake_tensors import fake_mode, made_fake
from modswap.ops.run.quick_outputs import QuickOutputs, quick_output
from modswap.ops.run.without_compiler import without_compiler

aten = torch.ops.aten
FLAGS = (0.1, 1e-5)


def described(output: Any) -> Any:
    if isinstance(output, torch.Tensor):
        return tuple(output.shape), output.stride(), output.dtype
    return None if output is None else tuple(described(each) for each in output)


def calls(x: torch.Tensor, dtype: torch.dtype | None = None) -> list[tuple[Any, tuple[Any, ...]]]:
    c = x.new_empty(x.shape[1], dtype=dtype)
    saved = (c, c, c, c)
    return [
        (aten.relu.default, (x,)),
        (aten.add.Tensor, (x, x)),
        (aten.mul.Tensor, (x, x.new_empty(1, 8, 1, 1))),
        (aten.mul.Tensor, (x, x.new_empty(2, 1, 6, 7))),
        (aten.mul.Tensor, (x[:1], x.new_empty(1, 8, 1, 7))),
        (aten.amax.default, (x, [1], True)),
        (aten.amin.default, (x, [-1, 0])),
        (aten.mean.dim, (x, [2, 3], True)),
        (aten._softmax.default, (x, 1, False)),
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


FORMS = [torch.contiguous_format, torch.channels_last]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kept", [None, torch.float32])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fake", [False, True])
def test_outputs_are_those_of_torch(
    fake: bool, dtype: torch.dtype, kept: torch.dtype | None, form: torch.memory_format
) -> None:
    with fake_mode() if fake else torch.device("meta"), without_compiler():
        made = torch.empty(2, 8, 6, 7, dtype=dtype).to(memory_format=form)
        quick = [(func, args, quick_output(func, args)) for func, args in calls(made, kept)]

        for func, args, output in quick:
            if output is not None:
                assert described(output) == described(func(*args)), func
        # what torch computes in another dtype is left to it
        left = {func for func, _, output in quick if output is None}
    norms = {aten.native_batch_norm.default, aten.native_batch_norm_backward.default}
    # and so are other orders of axes, where the output's is not sure
    plain = {aten.amax.default, aten.amin.default, aten.mean.dim, aten._softmax.default}
    left -= plain if form is torch.channels_last else set()
    if dtype in {torch.float32, torch.float64}:
        assert left == (norms if kept not in {None, dtype} else set())
    else:
        assert left == norms  # of all calls or of some


@given(
    st.lists(st.integers(1, 3), min_size=4, max_size=4),
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.sampled_from(FORMS),
    st.permutations(range(4)),
)
def test_gated_maps_have_the_strides_of_torch(
    shape: list[int], whole: list[bool], form: torch.memory_format, order: list[int]
) -> None:
    x = torch.empty(shape, device="meta").to(memory_format=form)
    of_gate = [side if kept else 1 for side, kept in zip(shape, whole, strict=True)]
    gate = torch.empty([of_gate[axis] for axis in order], device="meta")
    gate = gate.permute([order.index(axis) for axis in range(4)])

    found = quick_output(aten.mul.Tensor, (x, gate))

    assert found is None or described(found) == described(x * gate)


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.lists(st.integers(-4, 3), max_size=3),
    st.booleans(),
    st.permutations(range(4)),
)
def test_reduced_maps_have_the_strides_of_torch(
    shape: list[int], axes: list[int], kept: bool, order: list[int]
) -> None:
    x = torch.empty(shape, device="meta")
    x = x.permute(order) if len(shape) == len(order) else x

    for func, args in (
        (aten.amax.default, (x, axes, kept)),
        (aten.mean.dim, (x, axes, kept)),
        (aten._softmax.default, (x, (axes or [0])[0], False)),
    ):
        found = quick_output(func, args)
        assert found is None or described(found) == described(func(*args))


@pytest.mark.parametrize("size", [4, 8])
def test_tensors_with_data_and_wrong_sizes_are_left_to_torch(size: int) -> None:
    x = torch.empty(2, 8, 6, 7, device="cpu" if size == 8 else "meta")
    c = torch.empty(size, device=x.device)
    args = (x, c, c, c, c, True, *FLAGS)

    assert quick_output(aten.native_batch_norm.default, args) is None


def test_fake_tensors_on_two_devices_are_left_to_torch() -> None:
    with fake_mode():
        x, other = torch.empty(2, 8, 6, 7), torch.empty(2, 8, 6, 7, device="meta")

        assert quick_output(aten.add.Tensor, (x, x)) is not None
        assert quick_output(aten.add.Tensor, (x, other)) is None
        assert quick_output(aten.add.Tensor, (other, other)) is None


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_pass_is_recorded_as_without_it(training: bool, autocast: bool, last: bool) -> None:
    up = nn.Upsample(scale_factor=2.0, mode="bilinear")
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), up).train(training)
    x = torch.empty(2, 3, 9, 8)
    x = x.to(memory_format=torch.channels_last) if last else x
    outputs: list[Any] = []
    for layer in net:
        layer.register_forward_hook(lambda _, __, out: outputs.append(described(out)))

    for quick in (QuickOutputs(), nullcontext()):
        with fake_mode() as mode, quick, without_compiler(), torch.no_grad():
            named = changed_tensors(net, partial(made_fake, mode))
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                torch.func.functional_call(net, named, (made_fake(mode, x),))

    assert len(outputs) == 2 * len(net)
    assert outputs[: len(net)] == outputs[len(net) :]
