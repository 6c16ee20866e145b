"""The catalogue of replacement modules, a row for each."""

from modswap.nn.acmix import ACmix
from modswap.nn.acmix_row import ROW as ACMIX
from modswap.nn.bilevel_routing_attention import BiLevelRoutingAttention
from modswap.nn.bilevel_routing_attention_row import ROW as BILEVEL_ROUTING_ATTENTION
from modswap.nn.catalogue.row import Conflict, Options, Replacement
from modswap.nn.catalogue.table import Catalogue
from modswap.nn.cbam import CBAM
from modswap.nn.cbam import ROW as CBAM_ROW
from modswap.nn.conv_gate import ROW as CONV_GATE
from modswap.nn.conv_gate import ConvGate
from modswap.nn.coordinate_attention import ROW as COORDINATE_ATTENTION
from modswap.nn.coordinate_attention import CoordinateAttention
from modswap.nn.eca import ECA
from modswap.nn.eca import ROW as ECA_ROW
from modswap.nn.fit.inputs import read_inputs
from modswap.nn.fit.sizes import channels_of, heads_of, same_shape
from modswap.nn.multi_head_self_attention import ROW as MULTI_HEAD_SELF_ATTENTION
from modswap.nn.multi_head_self_attention import MultiHeadSelfAttention
from modswap.nn.routed_attention.routing import Routing
from modswap.nn.scse import ROW as SCSE_ROW
from modswap.nn.scse import SCSE
from modswap.nn.se_block import ROW as SE_BLOCK
from modswap.nn.se_block import SEBlock
from modswap.nn.self_attention import ROW as SELF_ATTENTION
from modswap.nn.self_attention import SelfAttention
from modswap.nn.window_attention import ROW as WINDOW_ATTENTION
from modswap.nn.window_attention import WindowAttention

__all__ = [
    "CATALOGUE",
    "CBAM",
    "ECA",
    "SCSE",
    "ACmix",
    "BiLevelRoutingAttention",
    "Conflict",
    "ConvGate",
    "CoordinateAttention",
    "MultiHeadSelfAttention",
    "Options",
    "Replacement",
    "Routing",
    "SEBlock",
    "SelfAttention",
    "WindowAttention",
    "channels_of",
    "heads_of",
    "read_inputs",
    "same_shape",
]

CATALOGUE = Catalogue(
    (
        BILEVEL_ROUTING_ATTENTION,
        ACMIX,
        SELF_ATTENTION,
        MULTI_HEAD_SELF_ATTENTION,
        WINDOW_ATTENTION,
        SE_BLOCK,
        ECA_ROW,
        CBAM_ROW,
        COORDINATE_ATTENTION,
        SCSE_ROW,
        CONV_GATE,
    )
)
