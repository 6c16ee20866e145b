"""Multi-head self-attention as in vision transformers (arXiv:1706.03762, arXiv:2010.11929)."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from modswap.nn.catalogue.option_types import (
    AttentionDrop,
    Heads,
    OutputDrop,
    QkvBias,
    TokenChannels,
)
from modswap.nn.catalogue.row import Options, Replacement
from modswap.nn.checks import check_divides, check_positive
from modswap.nn.fit.sizes import choose_heads, fit_channels


class MultiHeadSelfAttention(nn.Module):
    """Softmax attention of every token to all tokens.

    Vaswani et al., "Attention Is All You Need", NIPS 2017, arXiv:1706.03762, as Dosovitskiy et
    al., "An Image Is Worth 16x16 Words", ICLR 2021, arXiv:2010.11929, use it. Names as in timm:
    `qkv.weight`, `proj.weight`, `proj.bias`.

    Shape:
        Input (N, L, dim), output the same; same dtype and device.

    Args:
        dim: Channels of a token.
        num_heads: Attention heads; divides `dim`.
        qkv_bias: Whether queries, keys and values have a bias.
        attn_drop: Probability of dropping an attention weight, in training.
        proj_drop: Probability of dropping a value of the output, in training.

    Raises:
        ValueError: If a size is below 1 or `num_heads` does not divide `dim`; in the forward pass,
            if the input's shape does not fit.

    Examples:
        >>> MultiHeadSelfAttention(16, num_heads=2)(torch.zeros(1, 10, 16)).shape
        torch.Size([1, 10, 16])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = False,  # noqa: FBT001, FBT002 - as published
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(dim=dim, num_heads=num_heads)
        check_divides("num_heads", num_heads, dim=dim)
        self.dim = dim
        self.num_heads = num_heads
        self.attn_drop = attn_drop
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the attended tokens."""
        if x.ndim != 3 or x.shape[2] != self.dim:
            raise ValueError(f"expected (N, L, {self.dim}), got {tuple(x.shape)}")
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (N, L, 3, heads, head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (N, heads, L, head_dim)
        dropped = self.attn_drop if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropped)
        out: torch.Tensor = self.proj_drop(self.proj(y.transpose(1, 2).flatten(2)))
        return out


class MultiHeadSelfAttentionOptions(Options):
    """Options of `MultiHeadSelfAttention` in a recipe."""

    dim: TokenChannels = None
    num_heads: Heads = None
    qkv_bias: QkvBias = False
    attn_drop: AttentionDrop = 0.0
    proj_drop: OutputDrop = 0.0


ROW = Replacement(
    name="MultiHeadSelfAttention",
    summary="softmax attention of all tokens to all, as in vision transformers",
    source="Vaswani et al., NIPS 2017, arXiv:1706.03762; ViT, ICLR 2021, arXiv:2010.11929",
    shapes="(N, L, C), (N, C, H, W) or (N, H, W, C) -> the same",
    options=MultiHeadSelfAttentionOptions,
    fit=fit_channels("MultiHeadSelfAttention", "dim", choose_heads, wants="NLC", any_length=True),
    module=MultiHeadSelfAttention,
    flops="8*L*dim**2 + 4*L**2*dim",
    memory="itemsize*5*L*dim",
    example="""\
- match: "blocks.*.attn"
  with: MultiHeadSelfAttention
  args: {num_heads: 8, qkv_bias: true}
""",
    spellings=("MHSA", "MHA", "MultiHeadAttention", "MultiHeadedSelfAttention"),
)
