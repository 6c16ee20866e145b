"""Modules of torch and timm explained: bits, FLOPs, and lines that add up."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from modswap.nn.attention_backend import plain_attention
from modswap.ops.explain.explain import ExplainRequest, explained
from modswap.ops.explain.passes import Forward

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]  # the libraries' own


def timm_module(place: str, *args: Any, **kwargs: Any) -> nn.Module:
    module, name = place.split(":")
    cls: Callable[..., nn.Module] = getattr(pytest.importorskip(f"timm.{module}"), name)
    return cls(*args, **kwargs)


class _SelfDecoder(nn.Module):
    """A decoder layer that remembers its own input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(16, 4, 32, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the decoded tokens."""
        y: torch.Tensor = self.layer(x, x)
        return y


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Conv2d": (lambda: nn.Conv2d(8, 16, 3), (2, 8, 9, 11)),
    "LayerNorm": (lambda: nn.LayerNorm(16), (2, 5, 16)),
    "LSTM": (lambda: nn.LSTM(8, 16, 2), (7, 2, 8)),
    "GRU": (lambda: nn.GRU(8, 16, bidirectional=True, batch_first=True), (2, 7, 8)),
    "EncoderLayer": (
        lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True),
        (2, 5, 16),
    ),
    "DecoderLayer": (_SelfDecoder, (2, 5, 16)),
    "Attention": (lambda: timm_module("models.vision_transformer:Attention", 16, 4), (2, 5, 16)),
    "Block": (lambda: timm_module("models.vision_transformer:Block", 16, 4), (2, 5, 16)),
    "SwinBlock": (
        lambda: timm_module(
            "models.swin_transformer:SwinTransformerBlock", 16, (14, 14), 4, shift_size=3
        ),
        (1, 14, 14, 16),
    ),
    "Bottleneck": (lambda: timm_module("models.resnet:Bottleneck", 16, 4), (2, 16, 7, 7)),
    "ConvNeXt": (lambda: timm_module("models.convnext:ConvNeXtBlock", 8), (1, 8, 9, 9)),
    "SqueezeExcite": (lambda: timm_module("layers:SqueezeExcite", 32), (2, 32, 5, 5)),
    "Eca": (lambda: timm_module("layers:EcaModule", 32), (2, 32, 5, 5)),
}


@pytest.mark.parametrize("training", [False, pytest.param(True, marks=pytest.mark.ci)])
@pytest.mark.parametrize("name", CASES)
def test_lines_of_library_modules_add_up(name: str, training: bool) -> None:
    torch.manual_seed(0)
    make, shape = CASES[name]
    module = make().train(training)
    x = torch.randn(shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), plain_attention():
        module(x)

    found = explained(Forward(module, (x,)), ExplainRequest(name, 2, times=False))

    assert found.equal
    assert found.counter == found.numbers.flops == counter.get_total_flops()
    assert sum(line.numbers.flops for line in found.root.lines) == found.counter
    assert sum(line.numbers.beyond for line in found.root.lines) == found.numbers.beyond
    for line in found.root.walk():
        assert sum(call.numbers.flops for call in line.calls) <= line.numbers.flops
    assert any(line.values for line in found.root.walk())
