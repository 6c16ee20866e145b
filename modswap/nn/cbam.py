"""Convolutional block attention (Woo et al., 2018, arXiv:1807.06521)."""

import torch
from pydantic import Field
from torch import nn

from modswap.nn.catalogue.option_types import MapChannels, Reduction
from modswap.nn.catalogue.row import Options, Replacement, attention_example
from modswap.nn.checks import check_map, check_positive
from modswap.nn.fit.sizes import fit_channels


class CBAM(nn.Module):
    """Rescale each channel, then each pixel, by weights in (0, 1) from their means and maxima.

    Woo, Park, Lee and Kweon, "CBAM: Convolutional Block Attention Module", ECCV 2018,
    arXiv:1807.06521. Names as the authors': `ChannelGate.mlp.1.weight`,
    `SpatialGate.spatial.conv.weight`, `SpatialGate.spatial.bn.weight` and so on.

    Shape:
        Input (N, gate_channels, H, W), output the same; same dtype and device.

    Args:
        gate_channels: Channels of the map.
        reduction_ratio: How many times narrower the hidden layer is, which has at least 1 channel.
        no_spatial: Whether the weights of the pixels are left out.

    Raises:
        ValueError: If a size is below 1; in the forward pass, if the input's shape does not fit.

    Examples:
        >>> CBAM(16)(torch.zeros(1, 16, 8, 8)).shape
        torch.Size([1, 16, 8, 8])
    """

    def __init__(
        self, gate_channels: int, reduction_ratio: int = 16, *, no_spatial: bool = False
    ) -> None:
        super().__init__()
        check_positive(gate_channels=gate_channels, reduction_ratio=reduction_ratio)
        self.gate_channels = gate_channels
        self.no_spatial = no_spatial
        self.ChannelGate = _ChannelGate(gate_channels, max(1, gate_channels // reduction_ratio))
        if not no_spatial:
            self.SpatialGate = _SpatialGate()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` with its channels and pixels rescaled."""
        check_map(x, self.gate_channels)
        y: torch.Tensor = self.ChannelGate(x)
        if not self.no_spatial:
            y = self.SpatialGate(y)
        return y


class _ChannelGate(nn.Module):
    """Rescaled channels: (N, C, H, W) -> the same."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the rescaled map."""
        logits: torch.Tensor = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))  # (N, C)
        return x * logits.sigmoid()[:, :, None, None]


class _SpatialGate(nn.Module):
    """Rescaled pixels: (N, C, H, W) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.Sequential()
        self.spatial.add_module("conv", nn.Conv2d(2, 1, 7, padding=3, bias=False))
        self.spatial.add_module("bn", nn.BatchNorm2d(1, momentum=0.01))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the rescaled map."""
        both = torch.stack([x.amax(1), x.mean(1)], dim=1)  # (N, 2, H, W)
        weight: torch.Tensor = self.spatial(both).sigmoid()  # (N, 1, H, W)
        return x * weight


class CBAMOptions(Options):
    """Options of `CBAM` in a recipe."""

    gate_channels: MapChannels = None
    reduction_ratio: Reduction = 16
    no_spatial: bool = Field(default=False, description="leave out the weights of the pixels")


ROW = Replacement(
    name="CBAM",
    summary="a weight for each channel, then for each pixel",
    source="Woo et al., ECCV 2018, arXiv:1807.06521",
    shapes="(N, C, H, W), (N, H, W, C) or (N, L, C) -> the same",
    options=CBAMOptions,
    fit=fit_channels("CBAM", "gate_channels"),
    module=CBAM,
    flops="8*gate_channels*max(1, gate_channels//reduction_ratio) + (1 - no_spatial)*196*H*W",
    memory="itemsize*H*W*(gate_channels + 4)",
    example=attention_example("CBAM", "reduction_ratio: 16"),
    spellings=("CBAMBlock", "CBAMLayer", "CBAMModule", "CBAMAttention"),
    gates=True,
)
