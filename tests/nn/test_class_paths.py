"""Class paths that whole-module files of earlier versions name; they never move.

Covers: __init__.
"""

from importlib import import_module

import pytest
from torch import nn

PATHS = [
    "acmix.ACmix",
    "adapters.SiteAdapter",
    "bilevel_routing_attention.BiLevelRoutingAttention",
    "cbam.CBAM",
    "cbam._ChannelGate",
    "cbam._SpatialGate",
    "conv_gate.ConvGate",
    "coordinate_attention.CoordinateAttention",
    "eca.ECA",
    "multi_head_self_attention.MultiHeadSelfAttention",
    "routed_attention.routing.Projection",
    "routed_attention.routing.Router",
    "scse.SCSE",
    "se_block.SEBlock",
    "self_attention.SelfAttention",
    "self_attention._Add",
    "self_attention._MultiHeadAttention",
    "window_attention.WindowAttention",
]


@pytest.mark.parametrize("path", PATHS)
def test_class_is_where_old_files_name_it(path: str) -> None:
    module, _, name = path.rpartition(".")

    found = getattr(import_module(f"modswap.nn.{module}"), name)

    assert issubclass(found, nn.Module)
    assert (found.__module__, found.__qualname__) == (f"modswap.nn.{module}", name)
