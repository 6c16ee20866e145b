"""The catalogue: what can be swapped in, one row for each module."""

from collections.abc import Mapping
from types import MappingProxyType

from modswap.nn.bilevel_routing_attention import BiLevelRoutingAttention, Routing
from modswap.nn.bilevel_routing_attention_row import ROW as BILEVEL_ROUTING_ATTENTION
from modswap.nn.replacement import Replacement

__all__ = ["CATALOGUE", "BiLevelRoutingAttention", "Replacement", "Routing"]

CATALOGUE: Mapping[str, Replacement] = MappingProxyType(
    {row.name: row for row in (BILEVEL_ROUTING_ATTENTION,)}
)
