"""Self-attention with a residual and a layer norm, its layers named by a prefix, as in Keras."""

from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from modswap.core.decided.blueprint import Choice
from modswap.core.seen.site import Site
from modswap.nn.catalogue.option_types import AtLeast1, Heads, TokenChannels
from modswap.nn.catalogue.row import Conflict, Options, Replacement, attention_example
from modswap.nn.checks import check_choice, check_positive
from modswap.nn.fit.inputs import MapInputs
from modswap.nn.fit.sizes import choose, fit_channels, heads_of
from modswap.nn.kernels.maps import ordered_as

EPS = 1e-3  # of Keras' layer norm
Layout = Literal["NLC", "NCHW", "NHWC"]


class SelfAttention(nn.Module):
    """Attend every token to all tokens, add the result to the token, and normalise.

    The block that Keras users build from its layers: MultiHeadAttention (Vaswani et al., NIPS
    2017, arXiv:1706.03762) with query, key and value the same, Add, LayerNormalization (Ba et al.,
    2016, arXiv:1607.06450). The layers' names are `{prefix}_multi_head_attention`, `{prefix}_add`
    and `{prefix}_layer_normalization`.

    Shape:
        Input (N, L, dim), output the same; maps as `layout` says, whose pixels are the tokens, row
        by row. Same dtype and device.

    Args:
        dim: Channels of a token, E.
        num_heads: Attention heads.
        key_dim: Channels of one head, for queries, keys and values; None: dim / num_heads.
        prefix: First part of the layers' names.
        mask: Whether a token sees only itself and those before it.
        layout: `NLC`, `NCHW` or `NHWC`, of input and output.

    Raises:
        ValueError: If a size is below 1, `num_heads` does not divide `dim` and `key_dim` is None,
            or `prefix` can be no part of a module's name; in the forward pass, if the input's
            shape does not fit.

    Examples:
        >>> SelfAttention(16, num_heads=2)(torch.zeros(1, 10, 16)).shape
        torch.Size([1, 10, 16])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        key_dim: int | None = None,
        *,
        prefix: str = "att",
        mask: bool = False,
        layout: Layout = "NLC",
    ) -> None:
        super().__init__()
        check_positive(dim=dim, num_heads=num_heads)
        if key_dim is None and dim % num_heads:
            raise ValueError(f"dim {dim} is not divisible by num_heads {num_heads}: give key_dim")
        key_dim = dim // num_heads if key_dim is None else key_dim
        check_positive(key_dim=key_dim)
        if not prefix.isidentifier():
            raise ValueError(f"prefix must be letters, digits and underscores, got {prefix!r}")
        check_choice("layout", layout, ("NLC", "NCHW", "NHWC"))
        self.dim = dim
        self.prefix = prefix
        self.layout = layout
        self.add_module(
            f"{prefix}_multi_head_attention",
            _MultiHeadAttention(dim, num_heads, key_dim, mask=mask),
        )
        self.add_module(f"{prefix}_add", _Add())
        self.add_module(f"{prefix}_layer_normalization", nn.LayerNorm(dim, eps=EPS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalised sum of the tokens and their attention."""
        tokens = self._tokens(x)  # (N, L, E)
        attended = self.get_submodule(f"{self.prefix}_multi_head_attention")(tokens)
        added = self.get_submodule(f"{self.prefix}_add")(tokens, attended)
        y: torch.Tensor = self.get_submodule(f"{self.prefix}_layer_normalization")(added)
        if self.layout == "NCHW":
            return ordered_as(y.transpose(1, 2).reshape(x.shape), x)
        return y.reshape(x.shape)

    def _tokens(self, x: torch.Tensor) -> torch.Tensor:
        axis = 1 if self.layout == "NCHW" else -1
        if x.ndim != len(self.layout) or x.shape[axis] != self.dim:
            shape = ", ".join(self.layout.replace("C", "E"))
            raise ValueError(f"expected ({shape}) with E = {self.dim}, got {tuple(x.shape)}")
        if self.layout == "NCHW":
            return x.flatten(2).transpose(1, 2)
        return x.flatten(1, -2)


class _MultiHeadAttention(nn.Module):
    """Softmax attention of every token to all tokens, (N, L, E) -> the same."""

    def __init__(self, dim: int, num_heads: int, key_dim: int, *, mask: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.mask = mask
        self.query = nn.Linear(dim, num_heads * key_dim)
        self.key = nn.Linear(dim, num_heads * key_dim)
        self.value = nn.Linear(dim, num_heads * key_dim)
        self.output = nn.Linear(num_heads * key_dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the attended tokens."""
        q, k, v = (
            t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (N, heads, L, key_dim)
            for t in (self.query(x), self.key(x), self.value(x))
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.mask)
        attended: torch.Tensor = self.output(y.transpose(1, 2).flatten(2))
        return attended


class _Add(nn.Module):
    """Sum of two tensors of the same shape, as a named layer."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the sum."""
        return x + y


class SelfAttentionOptions(Options):
    """Options of `SelfAttention` in a recipe."""

    dim: TokenChannels = None
    num_heads: Heads = None
    key_dim: AtLeast1 | None = Field(
        None, description="channels of one head; auto: dim / num_heads"
    )
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        "att",
        description="what the layers' names begin with; the rule's own key `prefix` says the same",
        json_schema_extra={"expected": "letters, digits and underscores"},
    )
    mask: bool = Field(default=False, description="a token sees only itself and those before it")

    def conflicts(self) -> Iterator[Conflict]:
        """Yield the pairs of options that exclude each other at every site."""
        if self.dim and self.num_heads and not self.key_dim and self.dim % self.num_heads:
            what = f"num_heads {self.num_heads} does not divide dim {self.dim}"
            yield Conflict("num_heads", what, "set `key_dim` as well")


def _more(site: Site, inputs: MapInputs, options: SelfAttentionOptions) -> list[Choice]:
    dim = inputs.channels
    if options.key_dim is None:
        heads = heads_of(site, "num_heads", options.num_heads, dim)
        size = Choice("key_dim", dim // heads.value, "dim / num_heads")
    else:
        size = Choice("key_dim", options.key_dim, "")
        number = max(1, dim // options.key_dim)
        reason = f"{dim} channels, head size {options.key_dim}"
        heads = choose("num_heads", options.num_heads, number, reason)
    row_by_row = inputs.layout != "NLC" and options.mask
    layout = Choice(
        "layout", inputs.layout, "a pixel sees those before it, row by row" if row_by_row else ""
    )
    return [heads, size, layout]


ROW = Replacement(
    name="SelfAttention",
    summary="attention of all tokens to all, with residual and layer norm, named by a prefix",
    source="Vaswani et al., NIPS 2017, arXiv:1706.03762; Keras' layers",
    shapes="(N, L, C), (N, C, H, W) or (N, H, W, C) -> the same",
    options=SelfAttentionOptions,
    fit=fit_channels("SelfAttention", "dim", _more, any_length=True),
    module=SelfAttention,
    flops="8*L*dim*num_heads*key_dim + 4*L**2*num_heads*key_dim",
    memory="itemsize*4*L*num_heads*key_dim",
    example=attention_example("SelfAttention", "num_heads: 8, mask: false") + "  prefix: att\n",
)
