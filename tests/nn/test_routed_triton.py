"""The Triton kernels of routed attention compute its definition.

On a machine without a GPU, Triton's interpreter runs them on the CPU. The interpreter is chosen
before triton is imported, so this file is also a program: it reads a case from each line and
answers with its first error.

Covers: routed_attention.gpu, routed_attention.triton_kernel, routed_attention.triton_programs.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from tests.effort import examples

HERE = Path(__file__)
NO_TRITON = "the interpreter needs triton and numpy: pip install triton numpy"
SCALE = 0.3
TOLERANCE = {"float32": 3e-5, "float16": 5e-3, "bfloat16": 4e-2}


@dataclass(frozen=True)
class Case:
    """The sizes of an attention, and its inputs beside queries, keys and values."""

    query_windows: int = 4
    key_windows: int = 5
    query_len: int = 6
    key_len: int = 7
    topk: int = 3
    heads: int = 2
    key_size: int = 8
    value_size: int = 12
    dtype: str = "float32"
    weighted: bool = True
    masked: bool = True
    strided: bool = False


CASES = {
    "windows of one token": Case(query_len=1, key_len=1, topk=4),
    "nothing but queries, keys and values": Case(weighted=False, masked=False),
    "weights": Case(masked=False),
    "a mask": Case(weighted=False),
    "a mask and weights": Case(),
    "windows of several tiles": Case(2, 3, 35, 37, 2, 1, 16, 16, masked=False),
    "windows that nobody picks": Case(query_windows=1, key_windows=6, topk=2),
    "fewer key windows than query windows": Case(query_windows=5, key_windows=1, topk=2),
    "wide heads": Case(3, 4, 18, 17, 2, 1, 96, 128),
    "channels of no round number": Case(key_size=5, value_size=3),
    "float16": Case(2, 3, 66, 65, 2, 1, 16, 32, dtype="float16", masked=False),
    "float16 and a softmax of one key": Case(2, 3, 15, 1, 2, 1, 3, 16, dtype="float16"),
    "strided inputs": Case(strided=True),
}

QUICK = ("a mask and weights",)
IN_CI = ("float16",)
SLOW = (pytest.mark.slow,)


class Given(NamedTuple):
    """The tensors that both computations take."""

    q: Tensor  # (R, Lq, heads * key_size)
    k: Tensor  # (S, Lk, heads * key_size)
    v: Tensor  # (S, Lk, heads * value_size)
    indices: Tensor  # (R, T)
    weights: Tensor | None  # (R, T)
    key_mask: Tensor | None  # (S, Lk)


def reference(given: Given, heads: int) -> tuple[Tensor, Tensor]:
    """Return output and log-sum-exp by the definition, every routed key and value gathered."""
    q, k, v, indices, weights, key_mask = given

    def split(x: Tensor) -> Tensor:
        x = x.reshape(len(indices), -1, heads, x.shape[-1] // heads)  # (R, L, heads, size)
        return x.transpose(1, 2)  # (R, heads, L, size)

    factors = torch.ones_like(indices) if weights is None else weights
    key = split(k[indices] * factors[:, :, None, None])
    value = split(v[indices] * factors[:, :, None, None])
    score = SCALE * split(q) @ key.mT  # (R, heads, Lq, T * Lk)
    if key_mask is not None:
        out_of_sight = ~key_mask[indices].flatten(1)[:, None, None]  # (R, 1, 1, T * Lk)
        score = score.masked_fill(out_of_sight, -math.inf)
    top = score.detach().amax(-1, keepdim=True).clamp_min(-1e9)
    share = (score - top).exp()
    total = share.sum(-1, keepdim=True)
    some = total.clamp_min(1e-300)
    lse = (some.log() + top).masked_fill(total == 0, -math.inf)
    return ((share / some) @ value).transpose(1, 2).flatten(2), lse.squeeze(-1)


def draw(case: Case, device: str) -> tuple[Given, Tensor]:
    """Return the tensors of a case and the gradient of its output."""
    generator = torch.Generator().manual_seed(0)

    def normal(windows: int, length: int, size: int) -> Tensor:
        x = torch.randn(windows, length, case.heads * size, generator=generator)
        x = x.to(device, getattr(torch, case.dtype))
        return x.transpose(0, 2).contiguous().transpose(0, 2) if case.strided else x

    queries, keys = (case.query_windows, case.query_len), (case.key_windows, case.key_len)
    indices = torch.randint(case.key_windows, (case.query_windows, case.topk), generator=generator)
    weights = torch.rand(indices.shape, generator=generator) * 2
    key_mask = torch.rand(keys, generator=generator) > 0.3
    key_mask[0], indices[0] = False, 0  # the first query window sees no key
    given = Given(
        normal(*queries, case.key_size),
        normal(*keys, case.key_size),
        normal(*keys, case.value_size),
        indices.to(device),
        weights.to(device) if case.weighted else None,
        key_mask.to(device) if case.masked else None,
    )
    return given, normal(*queries, case.value_size)


def run_kernels(case: Case, device: str) -> list[Tensor]:
    """Return output, log-sum-exp and all gradients as the kernels compute them."""
    from modswap.nn.routed_attention import triton_kernel

    given, grad_out = draw(case, device)
    out, lse = triton_kernel.forward(*given, heads=case.heads, scale=SCALE)
    *grads, grad_weights = triton_kernel.backward(
        grad_out,
        *given,
        out,
        lse,
        heads=case.heads,
        scale=SCALE,
        needs_weights=case.weighted,
    )
    return [out, lse, *grads] + ([] if grad_weights is None else [grad_weights])


def run_reference(case: Case, device: str, rounded: Tensor) -> list[Tensor]:
    """Return the same in float64 by the definition.

    The kernels' backward pass takes the softmax's part of the gradients from their output, as
    sum(out * grad_out). Where few keys take part, that part cancels almost all of the rest, and
    what is left of it is the error of the output. So the gradients are those at the output that
    the kernels `rounded`: its difference acts as a gradient of the log-sum-exp.
    """
    given, grad_out = draw(case, device)
    q, k, v = (x.double().requires_grad_() for x in (given.q, given.k, given.v))
    factors = None if given.weights is None else given.weights.double().requires_grad_()
    exact = Given(q, k, v, given.indices, factors, given.key_mask)
    out, lse = reference(exact, case.heads)
    wanted = [q, k, v] if factors is None else [q, k, v, factors]
    lost = ((out.detach() - rounded) * grad_out.double()).unflatten(2, (case.heads, -1)).sum(-1)
    gradients = (grad_out.double(), lost.transpose(1, 2))  # the second (R, heads, Lq)
    return [out.detach(), lse.detach(), *torch.autograd.grad((out, lse), wanted, gradients)]


def verdict(case: Case, device: str) -> str:
    """Return the first difference from the definition, or an empty text."""
    names = ("out", "lse", "grad of q", "grad of k", "grad of v", "grad of weights")
    computed = run_kernels(case, device)
    results = zip(names, computed, run_reference(case, device, computed[0]), strict=False)
    for name, actual, expected in results:
        largest = expected[expected.isfinite()].abs().max() if name != "lse" else torch.tensor(1.0)
        size = float(largest.clamp_min(0.1))
        try:
            torch.testing.assert_close(
                actual.double() / size, expected / size, rtol=0, atol=TOLERANCE[case.dtype]
            )
        except AssertionError as error:
            return f"{name}: {error}"
    return ""


@pytest.fixture(scope="module")
def interpreter() -> Iterator[Callable[[Case], str]]:
    """Return `verdict` of a process in which Triton interprets its kernels on the CPU."""
    pytest.importorskip("triton", reason=NO_TRITON)
    pytest.importorskip("numpy", reason=NO_TRITON)
    setting = {"TRITON_INTERPRET": "1", "PYTHONPATH": str(HERE.parents[2])}
    with subprocess.Popen(
        [sys.executable, str(HERE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | setting,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        source, sink = process.stdout, process.stdin

        def ask(case: Case) -> str:
            sink.write(json.dumps(asdict(case)) + "\n")
            sink.flush()
            answer: str = json.loads(source.readline() or '"the interpreter stopped, see stderr"')
            return answer

        yield ask
        sink.close()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=() if name in QUICK else (*SLOW, pytest.mark.ci) if name in IN_CI else SLOW,
        )
        for name in CASES
    ],
)
def test_the_kernels_follow_the_definition_in_the_interpreter(
    name: str, interpreter: Callable[[Case], str]
) -> None:
    assert interpreter(CASES[name]) == ""


@pytest.mark.slow
@hypothesis.settings(max_examples=examples(10), deadline=None)
@hypothesis.given(
    case=st.builds(
        Case,
        query_windows=st.integers(1, 3),
        key_windows=st.integers(1, 3),
        query_len=st.integers(1, 40),
        key_len=st.integers(1, 20),
        topk=st.integers(1, 3),
        heads=st.integers(1, 2),
        key_size=st.integers(1, 20),
        value_size=st.integers(1, 20),
        dtype=st.sampled_from(["float32", "float16"]),
        weighted=st.booleans(),
        masked=st.booleans(),
    )
)
def test_the_kernels_follow_the_definition_at_any_sizes(
    case: Case, interpreter: Callable[[Case], str]
) -> None:
    assert interpreter(case) == ""


@pytest.mark.parametrize(
    ("case", "heads", "message"),
    [
        (Case(dtype="float64"), 2, r"of float32, float16 and bfloat16, got torch\.float64"),
        (Case(), 3, "heads 3 does not divide channels 16 and 24"),
        (Case(key_size=4, value_size=129), 2, "128 channels at most, got 4 for keys and 129"),
    ],
)
def test_the_kernels_refuse_what_they_cannot_compute(case: Case, heads: int, message: str) -> None:
    pytest.importorskip("triton", reason=NO_TRITON)
    from modswap.nn.routed_attention import triton_kernel

    given, _ = draw(case, "cpu")

    with pytest.raises(ValueError, match=message):
        triton_kernel.forward(*given, heads=heads, scale=SCALE)


def test_the_kernels_refuse_the_gradient_of_weights_that_are_none() -> None:
    pytest.importorskip("triton", reason=NO_TRITON)
    from modswap.nn.routed_attention import triton_kernel

    given, out = draw(Case(weighted=False), "cpu")

    with pytest.raises(ValueError, match="the gradient of weights was asked for"):
        triton_kernel.backward(out, *given, out, out, heads=2, scale=SCALE, needs_weights=True)


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(verdict(Case(**json.loads(line)), "cpu")) + "\n")
        sys.stdout.flush()
