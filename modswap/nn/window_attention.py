"""Attention within windows, shifted or not (Liu et al., 2021, arXiv:2103.14030)."""

from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from modswap.core.decided.blueprint import Choice
from modswap.core.seen.site import Site
from modswap.nn.catalogue.option_types import (
    AtLeast1,
    AttentionDrop,
    Heads,
    MapChannels,
    OutputDrop,
    QkvBias,
)
from modswap.nn.catalogue.row import Conflict, Options, Replacement, attention_example
from modswap.nn.checks import check_choice, check_divides, check_positive
from modswap.nn.fit.inputs import MapInputs
from modswap.nn.fit.sizes import choose, choose_heads, fit_channels
from modswap.nn.kernels.maps import ordered_as
from modswap.nn.kernels.windows import count_windows, cut_off, filled_up, join, split

WINDOW_SIZE = 7  # as published
FORBIDDEN = -100.0  # as published: added to logits between pixels that are not adjacent


class WindowAttention(nn.Module):
    """Attend every pixel to the pixels of its window, with a bias for each relative position.

    Liu, Lin, Cao, Hu, Wei, Zhang, Lin and Guo, "Swin Transformer: Hierarchical Vision Transformer
    using Shifted Windows", ICCV 2021, arXiv:2103.14030: cutting into windows, the shift, attention
    and putting together again. Names as the authors': `relative_position_bias_table`, `qkv`,
    `proj`, and the buffer `relative_position_index`.

    Shape:
        Input (N, H, W, dim), output the same; (N, dim, H, W) with `layout="NCHW"`. Same dtype and
        device. Maps that the windows do not divide are padded with zeros at the right and the
        bottom; padding pixels take part, as in the authors' code, and are cropped in the end.

    Args:
        dim: Channels of the map.
        num_heads: Attention heads; divides `dim`.
        window_size: Side of a window in pixels.
        shift_size: Pixels by which the map is rolled up and left before it is cut, below
            `window_size`; 0 for none.
        qkv_bias: Whether queries, keys and values have a bias.
        attn_drop: Probability of dropping an attention weight, in training.
        proj_drop: Probability of dropping a value of the output, in training.
        layout: `NHWC` or `NCHW`, of input and output.

    Raises:
        ValueError: If an argument is out of its range; in the forward pass, if the input's shape
            does not fit.

    Examples:
        >>> WindowAttention(16, num_heads=2)(torch.zeros(1, 14, 14, 16)).shape
        torch.Size([1, 14, 14, 16])
    """

    relative_position_index: torch.Tensor

    def __init__(  # noqa: PLR0913, PLR0917 - the published signature
        self,
        dim: int,
        num_heads: int,
        window_size: int = WINDOW_SIZE,
        shift_size: int = 0,
        qkv_bias: bool = True,  # noqa: FBT001, FBT002 - as published
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        *,
        layout: Literal["NHWC", "NCHW"] = "NHWC",
    ) -> None:
        super().__init__()
        check_positive(dim=dim, num_heads=num_heads, window_size=window_size)
        check_divides("num_heads", num_heads, dim=dim)
        if not 0 <= shift_size < window_size:
            raise ValueError(
                f"shift_size must be from 0 to below window_size {window_size}, got {shift_size}"
            )
        check_choice("layout", layout, ("NHWC", "NCHW"))
        self.dim = dim
        self.num_heads = num_heads
        self.window_size = window_size
        self.shift_size = shift_size
        self.attn_drop = attn_drop
        self.layout = layout
        places = (2 * window_size - 1) ** 2
        self.relative_position_bias_table = nn.Parameter(torch.zeros(places, num_heads))
        self.register_buffer("relative_position_index", _relative_positions(window_size))
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the attended map."""
        axis = 3 if self.layout == "NHWC" else 1
        if x.ndim != 4 or x.shape[axis] != self.dim:
            axes = f"(N, H, W, {self.dim})" if self.layout == "NHWC" else f"(N, {self.dim}, H, W)"
            raise ValueError(f"expected a map {axes}, got {tuple(x.shape)}")
        if self.layout == "NHWC":
            return self._attend(x)
        return ordered_as(self._attend(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), x)

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        """Return the attended NHWC map."""
        N, H, W, _ = x.shape
        side, shift = self.window_size, self.shift_size
        rows, columns = count_windows(H, side), count_windows(W, side)
        x = filled_up(x, rows * side, columns * side)  # (N, H', W', C)
        if shift:
            x = x.roll((-shift, -shift), (1, 2))
        windows = split(x, rows, columns).flatten(0, 1).flatten(1, 2)  # (N P, L, C)
        qkv = self.qkv(windows).unflatten(-1, (3, self.num_heads, -1))  # (N P, L, 3, heads, d)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (N P, heads, L, d)
        bias = self._bias().to(q.dtype)[None]  # (1, heads, L, L)
        if shift:
            bias = bias + self._apart(rows, columns).to(q)  # (P, heads, L, L)
            bias = bias.repeat(N, 1, 1, 1)  # (N P, heads, L, L)
        dropped = self.attn_drop if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, bias, dropout_p=dropped)
        y = self.proj(y.transpose(1, 2).flatten(2))  # (N P, L, C)
        y = join(y.view(N, rows * columns, side, side, self.dim), rows, columns)
        if shift:
            y = y.roll((shift, shift), (1, 2))
        out: torch.Tensor = self.proj_drop(cut_off(y, H, W).contiguous())
        return out

    def _bias(self) -> torch.Tensor:
        """Return the bias of each head for each pair of pixels: (heads, L, L)."""
        index = self.relative_position_index
        rows = self.relative_position_bias_table[index.flatten()]  # (L L, heads)
        return rows.T.reshape(self.num_heads, *index.shape)

    def _apart(self, rows: int, columns: int) -> torch.Tensor:
        """Return the bias that separates pixels which only the roll made adjacent: (P, 1, L, L)."""
        side, shift = self.window_size, self.shift_size
        device = self.qkv.weight.device
        down, right = (torch.arange(n * side, device=device) for n in (rows, columns))
        down = (down >= rows * side - side).int() + (down >= rows * side - shift).int()
        right = (right >= columns * side - side).int() + (right >= columns * side - shift).int()
        part = (3 * down[:, None] + right)[None, :, :, None]  # (1, H', W', 1)
        part = split(part, rows, columns).reshape(rows * columns, -1)  # (P, L)
        return (part[:, None, :, None] != part[:, None, None, :]) * FORBIDDEN


def _relative_positions(side: int) -> torch.Tensor:
    """Return the row of the bias table for each pair of pixels: (L, L), L = side²."""
    places = torch.arange(side)
    rows, columns = (t.flatten() for t in torch.meshgrid(places, places, indexing="ij"))
    down = rows[:, None] - rows + side - 1
    right = columns[:, None] - columns + side - 1
    return down * (2 * side - 1) + right


class WindowAttentionOptions(Options):
    """Options of `WindowAttention` in a recipe."""

    dim: MapChannels = None
    num_heads: Heads = None
    window_size: AtLeast1 | None = Field(
        None, description="side of a window; auto: 7, or the map's smaller side"
    )
    shift_size: Annotated[int, Field(ge=0)] = Field(
        0, description="pixels by which the windows are shifted, below window_size"
    )
    qkv_bias: QkvBias = True
    attn_drop: AttentionDrop = 0.0
    proj_drop: OutputDrop = 0.0

    def conflicts(self) -> Iterator[Conflict]:
        """Yield the pairs of options that exclude each other at every site."""
        if self.window_size and self.shift_size >= self.window_size:
            what = f"shift_size is {self.shift_size}, window_size {self.window_size}"
            half = self.window_size // 2
            fix = f"set `shift_size: {half}`"
            yield Conflict("shift_size", what, fix, (("shift_size", half),))


def _more(site: Site, inputs: MapInputs, options: WindowAttentionOptions) -> list[Choice]:
    heads = choose_heads(site, inputs, options)
    smallest = min(min(size.height, size.width) for size in inputs.sizes)
    side = max(min(WINDOW_SIZE, smallest), options.shift_size + 1)
    size = choose("window_size", options.window_size, side, f"{inputs.sizes[0]} observed")
    layout = Choice("layout", inputs.map_layout, f"the site is {inputs.layout}")
    return [*heads, size, layout]


ROW = Replacement(
    name="WindowAttention",
    summary="attention within windows, shifted or not, with relative positions",
    source="Liu et al., Swin Transformer, ICCV 2021, arXiv:2103.14030",
    shapes="(N, C, H, W), (N, H, W, C) or (N, L, C) -> the same",
    options=WindowAttentionOptions,
    fit=fit_channels("WindowAttention", "dim", _more),
    module=WindowAttention,
    terms={"P": "ceil(H/window_size)*ceil(W/window_size)*window_size**2"},
    flops="P*(8*dim**2 + 4*window_size**2*dim)",
    memory="itemsize*P*(5*dim + num_heads*window_size**2)",
    example=attention_example("WindowAttention", "window_size: 7, shift_size: 3"),
    spellings=("WMSA", "SWMSA", "SwinAttention", "ShiftedWindowAttention", "ShiftWindowAttention"),
)
