"""Concurrent spatial and channel squeeze and excitation (Roy et al., 2018, arXiv:1803.02579)."""

import torch
from torch import nn

from modswap.nn.catalogue.option_types import MapChannels, Reduction
from modswap.nn.catalogue.row import Options, Replacement, attention_example
from modswap.nn.checks import check_map, check_positive
from modswap.nn.fit.sizes import fit_channels


class SCSE(nn.Module):
    """Add the map with its channels rescaled to the map with its pixels rescaled.

    Roy, Navab and Wachinger, "Concurrent Spatial and Channel Squeeze & Excitation in Fully
    Convolutional Networks", MICCAI 2018, arXiv:1803.02579. Names as in
    segmentation-models-pytorch: `cSE.1`, `cSE.3`, `sSE.0`.

    Shape:
        Input (N, in_channels, H, W), output the same; same dtype and device.

    Args:
        in_channels: Channels of the map.
        reduction: How many times narrower the hidden layer is, which has at least 1 channel.

    Raises:
        ValueError: If a size is below 1; in the forward pass, if the input's shape does not fit.

    Examples:
        >>> SCSE(16)(torch.zeros(1, 16, 8, 8)).shape
        torch.Size([1, 16, 8, 8])
    """

    def __init__(self, in_channels: int, reduction: int = 16) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, reduction=reduction)
        self.in_channels = in_channels
        hidden = max(1, in_channels // reduction)
        self.cSE = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(in_channels, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, in_channels, 1),
            nn.Sigmoid(),
        )
        self.sSE = nn.Sequential(nn.Conv2d(in_channels, 1, 1), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of both rescaled maps."""
        check_map(x, self.in_channels)
        channels: torch.Tensor = self.cSE(x)  # (N, C, 1, 1)
        pixels: torch.Tensor = self.sSE(x)  # (N, 1, H, W)
        return x * channels + x * pixels


class SCSEOptions(Options):
    """Options of `SCSE` in a recipe."""

    in_channels: MapChannels = None
    reduction: Reduction = 16


ROW = Replacement(
    name="SCSE",
    summary="a weight for each channel and one for each pixel, side by side",
    source="Roy et al., MICCAI 2018, arXiv:1803.02579",
    shapes="(N, C, H, W), (N, H, W, C) or (N, L, C) -> the same",
    options=SCSEOptions,
    fit=fit_channels("SCSE", "in_channels"),
    module=SCSE,
    flops="4*in_channels*max(1, in_channels//reduction) + 2*H*W*in_channels",
    memory="itemsize*H*W*(2*in_channels + 1)",
    example=attention_example("SCSE", "reduction: 16"),
    spellings=("SCSEModule", "SCSEBlock", "ScSEAttention", "ChannelSpatialSELayer"),
    gates=True,
)
