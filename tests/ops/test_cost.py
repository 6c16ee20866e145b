"""What a swap costs: the same numbers as on real passes, limits, and refusing what is too much."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from modswap.core.errors import ShapeError
from modswap.core.finding import Finding
from modswap.core.job import Job, Policy, Subject
from modswap.core.outcome import Outcome
from modswap.core.recipe import Recipe, TensorInput
from modswap.io.recipe import parse_recipe
from modswap.nn.acmix import ACmix
from modswap.nn.bilevel_routing_attention import BiLevelRoutingAttention
from modswap.ops.cost import costs_of, real_costs
from modswap.ops.inputs import Case, DummyCall
from modswap.ops.memory import available
from modswap.ops.replace import check_file, replace_file
from tests.models import GatedNet, ManyCalls, SharedNet, Strided, TokenNet

# of switching oneDNN off, which runs an LSTM as one operator that no counter knows
pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration:UserWarning")
ALLOW = ("tests.models.*", "torch.nn.*")


class Heads(nn.Module):
    """Multi-head attention: (N, L, 32) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.attn(x, x, x, need_weights=False)[0]
        return out


class Recurrent(nn.Module):
    """An LSTM: (N, L, 16) -> (N, L, 24)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 24, num_layers=2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.lstm(x)[0]
        return out


def routed() -> nn.Module:
    return BiLevelRoutingAttention(32, num_heads=2, layout="NCHW")


def masked() -> nn.Module:
    return BiLevelRoutingAttention(32, layout="NCHW", auto_pad=True, mask_padding=True)


def encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutions": (GatedNet, (2, 3, 32, 32)),
    "strided": (Strided, (2, 8, 32, 32)),
    "tokens": (TokenNet, (2, 3, 32, 32)),
    "routed": (routed, (2, 32, 28, 28)),
    "routed and masked": (masked, (1, 32, 30, 30)),
    "acmix": (lambda: ACmix(16, 16), (2, 16, 28, 28)),
    "heads": (Heads, (2, 50, 32)),
    "encoder": (encoder, (2, 50, 32)),
    "recurrent": (Recurrent, (2, 7, 16)),
}


def case_of(shape: tuple[int, ...]) -> Case:
    return Case(DummyCall((TensorInput(shape=shape),), {}))


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


def _attention(q: torch.Size, k: torch.Size, v: torch.Size, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


def _routing(q: torch.Size, kv: torch.Size, indices: torch.Size, *_: Any, **__: Any) -> int:
    N, P, L, c = q
    C = kv[3] - c
    return 2 * N * P * L * indices[2] * kv[2] * (c + C)


# kernels that torch's counter has no formula for
MORE = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.modswap.routed_attention: _routing,
}


@pytest.mark.parametrize("name", MODELS)
def test_flops_are_those_of_torch_on_a_real_pass(name: str) -> None:
    make, shape = MODELS[name]
    model = seeded(make)

    counter = FlopCounterMode(display=False, custom_mapping=MORE)
    with torch.backends.mkldnn.flags(enabled=False), counter:
        model(torch.randn(shape))  # gradients on: else one kernel would take all of an encoder
    found = costs_of(model, case_of(shape)).model.flops

    assert found == counter.get_total_flops() > 0


@pytest.mark.parametrize("name", MODELS)
def test_prediction_is_within_a_seventh_of_the_same_count_on_real_tensors(name: str) -> None:
    make, shape = MODELS[name]
    model = seeded(make)

    found = costs_of(model, case_of(shape)).model
    with torch.backends.mkldnn.flags(enabled=name != "recurrent"):
        real = real_costs(model, (torch.randn(shape),))

    assert found.flops == real.flops
    assert found.peak_inference == pytest.approx(real.peak_inference, rel=0.15)
    assert found.peak_training == pytest.approx(real.peak_training, rel=0.15)
    assert found.activation_bytes == pytest.approx(real.activation_bytes, rel=0.15)
