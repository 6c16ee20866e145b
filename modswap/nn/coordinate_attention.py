"""Coordinate attention (Hou et al., 2021, arXiv:2103.02907)."""

import torch
from pydantic import Field
from torch import nn

from modswap.nn.catalogue.option_types import AtLeast1, MapChannels
from modswap.nn.catalogue.row import Options, Replacement, attention_example
from modswap.nn.checks import check_map, check_positive
from modswap.nn.fit.sizes import fit_channels

MIN_HIDDEN_CHANNELS = 8  # fewest hidden channels, as in the authors' code


class CoordinateAttention(nn.Module):
    """Rescale each value by two weights in (0, 1), one for its row and one for its column.

    Hou, Zhou and Feng, "Coordinate Attention for Efficient Mobile Network Design", CVPR 2021,
    arXiv:2103.02907. Names as the authors': `conv1`, `bn1`, `conv_h`, `conv_w`.

    Shape:
        Input (N, inp, H, W), output the same; same dtype and device.

    Args:
        inp: Channels of the map.
        reduction: How many times narrower the hidden layer is, which has at least 8 channels.

    Raises:
        ValueError: If a size is below 1; in the forward pass, if the input's shape does not fit.

    Examples:
        >>> CoordinateAttention(16)(torch.zeros(1, 16, 8, 8)).shape
        torch.Size([1, 16, 8, 8])
    """

    def __init__(self, inp: int, reduction: int = 32) -> None:
        super().__init__()
        check_positive(inp=inp, reduction=reduction)
        self.inp = inp
        hidden = max(MIN_HIDDEN_CHANNELS, inp // reduction)
        self.conv1 = nn.Conv2d(inp, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.act = nn.Hardswish()
        self.conv_h = nn.Conv2d(hidden, inp, 1)
        self.conv_w = nn.Conv2d(hidden, inp, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the rescaled map."""
        check_map(x, self.inp)
        H, W = x.shape[2:]
        rows = x.mean(3, keepdim=True)  # (N, C, H, 1)
        columns = x.mean(2, keepdim=True).transpose(2, 3)  # (N, C, W, 1)
        hidden = self.act(self.bn1(self.conv1(torch.cat([rows, columns], dim=2))))
        by_row, by_column = hidden.split([H, W], dim=2)  # (N, hidden, H, 1), (N, hidden, W, 1)
        row_weight: torch.Tensor = self.conv_h(by_row).sigmoid()  # (N, C, H, 1)
        column_weight = self.conv_w(by_column.transpose(2, 3)).sigmoid()  # (N, C, 1, W)
        rescaled: torch.Tensor = x * column_weight * row_weight
        return rescaled


class CoordinateAttentionOptions(Options):
    """Options of `CoordinateAttention` in a recipe."""

    inp: MapChannels = None
    reduction: AtLeast1 = Field(
        32, description="how many times narrower the hidden layer is, of 8 channels at least"
    )


ROW = Replacement(
    name="CoordinateAttention",
    summary="a weight for each row and for each column of each channel",
    source="Hou et al., CVPR 2021, arXiv:2103.02907",
    shapes="(N, C, H, W), (N, H, W, C) or (N, L, C) -> the same",
    options=CoordinateAttentionOptions,
    fit=fit_channels("CoordinateAttention", "inp"),
    module=CoordinateAttention,
    flops="4*(H + W)*inp*max(8, inp//reduction)",
    memory="itemsize*(H*W*inp + 4*(H + W)*inp)",
    example=attention_example("CoordinateAttention", "reduction: 32"),
    spellings=("CA", "CoordAtt", "CoordAttn", "CoordAttention", "CABlock"),
    gates=True,
)
