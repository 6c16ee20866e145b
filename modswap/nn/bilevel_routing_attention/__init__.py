"""Bi-level routing attention (Zhu et al., CVPR 2023, arXiv:2303.08810)."""

from modswap.nn.bilevel_routing_attention.fit import BILEVEL_ROUTING_ATTENTION
from modswap.nn.bilevel_routing_attention.layer import BiLevelRoutingAttention, Routing

__all__ = ["BILEVEL_ROUTING_ATTENTION", "BiLevelRoutingAttention", "Routing"]
