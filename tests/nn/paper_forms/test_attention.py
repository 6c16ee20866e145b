"""Attention as papers have it, beside the forms that run.

Covers: attention, bilevel_routing_attention.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from modswap.nn import (
    BiLevelRoutingAttention,
    MultiHeadSelfAttention,
    SelfAttention,
    WindowAttention,
)
from modswap.nn.paper_forms.attention import (
    multi_head_self_attention,
    self_attention,
    window_attention,
    without_dropout,
)
from modswap.nn.paper_forms.bilevel_routing_attention import bilevel_routing_attention, has_form

Form = Callable[..., torch.Tensor]
POOLED = {"n_win": 2, "topk": 3, "kv_per_win": 2, "kv_downsample_ratio": 2}
SOFT = {"soft_routing": True, "diff_routing": True, "param_routing": True, "qk_dim": 8}


def routed(**options: Any) -> tuple[nn.Module, Form]:
    return BiLevelRoutingAttention(16, 2, **options), bilevel_routing_attention


@pytest.mark.parametrize(
    ("made", "shape"),
    [
        (routed(), (2, 14, 21, 16)),
        (routed(auto_pad=True, layout="NCHW"), (2, 16, 15, 20)),
        (routed(n_win=2, topk=2, side_dwconv=0, **SOFT), (2, 16, 20, 16)),
        (routed(kv_downsample_mode="ada_avgpool", **POOLED), (1, 10, 12, 16)),
        (routed(kv_downsample_mode="ada_maxpool", **POOLED), (1, 10, 12, 16)),
        (routed(kv_downsample_mode="avgpool", param_attention="qkv", **POOLED), (1, 10, 12, 16)),
        (routed(kv_downsample_mode="maxpool", **POOLED), (1, 10, 12, 16)),
        ((MultiHeadSelfAttention(16, 4), multi_head_self_attention), (2, 9, 16)),
        ((SelfAttention(16, 4), self_attention), (2, 9, 16)),
        ((SelfAttention(16, 4, 3, mask=True, layout="NCHW"), self_attention), (2, 16, 3, 4)),
        ((SelfAttention(16, 4, prefix="a", layout="NHWC"), self_attention), (2, 3, 4, 16)),
        ((WindowAttention(16, 4), window_attention), (2, 14, 15, 16)),
        ((WindowAttention(16, 4, 7, 3, layout="NCHW"), window_attention), (2, 16, 14, 22)),
        ((WindowAttention(16, 4, 2, 1, qkv_bias=False), window_attention), (2, 5, 6, 16)),
    ],
)
def test_papers_form_computes_what_the_module_computes(
    made: tuple[nn.Module, Form], shape: tuple[int, ...]
) -> None:
    layer, form = made
    torch.manual_seed(0)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.2)
    x = torch.randn(shape)

    with torch.no_grad():
        expected, found = layer.eval()(x), form(layer, x)

    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)


def test_options_that_the_papers_form_does_not_have_are_known() -> None:
    assert has_form(BiLevelRoutingAttention(16, 2))
    assert not has_form(BiLevelRoutingAttention(16, 2).half())
    assert not has_form(BiLevelRoutingAttention(16, 2, variant="refactored"))
    assert not has_form(BiLevelRoutingAttention(16, 2, auto_pad=True, mask_padding=True))
    dropping = MultiHeadSelfAttention(16, 4, attn_drop=0.5)
    assert not without_dropout(dropping)
    assert without_dropout(dropping.eval())
