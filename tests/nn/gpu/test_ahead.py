"""The programs of both ways compile for cards of two kinds, and fit their registers.

No GPU is needed: Triton's compiler and its assembler run anywhere.
"""

from typing import Any

import pytest
import torch

from tests.nn.gpu.ahead import (
    FIRST_WAY,
    Recorded,
    compiled,
    mixed_launches,
    routed_launches,
    window_launches,
)
from tests.nn.gpu.interpreter import NO_TRITON

CARDS = (80, 90)
MAX_SPILLED = 64  # bytes of a thread
SHARED = {80: 163 << 10, 90: 227 << 10}  # bytes of a block
DOTS = frozenset({
    "attend_kernel", "query_grad_kernel", "key_grad_kernel", "project_kernel", "local_kernel",
    "local_query_grad_kernel", "local_key_grad_kernel",
})  # fmt: skip
BFLOAT, FULL = torch.bfloat16, torch.float32

# map, heads, windows a side, topk, side of the convolution: the layers of the published networks
ROUTED: dict[str, Any] = {
    "512@28": ((64, 28, 28, 512), 8, 7, 4, 3),
    "64@56": ((64, 56, 56, 64), 2, 7, 1, 5),
    "128@28": ((64, 28, 28, 128), 4, 7, 4, 5),
    "256@14": ((64, 14, 14, 256), 8, 7, 16, 5),
    "128@128": ((8, 128, 128, 128), 4, 8, 8, 5),
}
MIXED: dict[str, Any] = {
    "512@28": ((8, 28, 28, 512), 4, 7),
    "256@14": ((64, 14, 14, 256), 4, 7),
    "64@56": ((64, 56, 56, 64), 4, 7),
}
# windows, pixels of a window, channels of a head, topk
WINDOWS: dict[str, Any] = {"512@28": (49, 16, 64, 4), "128@128": (64, 256, 32, 8)}
# in CI every program for every kind of card
QUICK = {
    ("256@14", BFLOAT, 90), ("128@128", BFLOAT, 80), ("256@14", FULL, 80),
}  # fmt: skip


def cases(table: dict[str, Any]) -> list[Any]:
    found = []
    for name in table:
        for dtype in (BFLOAT, FULL):
            for card in CARDS:
                marks = [pytest.mark.ci] if (name, dtype, card) in QUICK else []
                label = f"{name}-{str(dtype).removeprefix('torch.')}-sm_{card}"
                found.append(pytest.param(name, dtype, card, marks=marks, id=label))
    return found


def faults(launches: list[Recorded], card: int, dots: frozenset[str] = DOTS) -> dict[str, Any]:
    """Return the programs that spill, take too much memory, or miss the tensor cores."""
    found = {}
    for launch in launches:
        name = launch[0].kernel.__name__
        needs = compiled(launch, card)
        missed = name in dots and not needs.dots
        if needs.spilled > MAX_SPILLED or missed or needs.shared > SHARED[card]:
            found[name] = needs
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype", "card"), cases(ROUTED))
def test_programs_of_routed_attention_fit_their_registers(name: str, dtype: Any, card: int) -> None:
    pytest.importorskip("triton", reason=NO_TRITON)

    launches = routed_launches(dtype, *ROUTED[name])

    assert len(launches) >= 8
    assert faults(launches, card) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype", "card"), cases(MIXED))
def test_programs_of_acmix_fit_their_registers(name: str, dtype: Any, card: int) -> None:
    pytest.importorskip("triton", reason=NO_TRITON)
    if dtype is FULL and MIXED[name][0][3] // MIXED[name][1] > 64:
        pytest.skip("the first way computes heads of more than 64 channels in float32")

    launches = mixed_launches(dtype, *MIXED[name])

    assert len(launches) == 7
    assert faults(launches, card) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype", "card"), cases(WINDOWS))
def test_programs_of_the_first_way_fit_their_registers(name: str, dtype: Any, card: int) -> None:
    pytest.importorskip("triton", reason=NO_TRITON)

    launches = window_launches(dtype, *WINDOWS[name])

    assert [launch.kernel.__name__ for launch, _ in launches] == list(FIRST_WAY)
    # its products of float32 are exact, which no tensor core takes
    dots = frozenset(FIRST_WAY[:3]) if dtype is BFLOAT else frozenset()
    assert faults(launches, card, dots) == {}
