"""Squeeze-and-excitation (Hu et al., 2018, arXiv:1709.01507)."""

import torch
from pydantic import Field
from torch import nn

from modswap.nn.catalogue.option_types import MapChannels, Reduction
from modswap.nn.catalogue.row import Options, Replacement, attention_example
from modswap.nn.checks import check_map, check_positive
from modswap.nn.fit.sizes import fit_channels


class SEBlock(nn.Module):
    """Rescale each channel by a weight in (0, 1) that is computed from all channels' means.

    Hu, Shen and Sun, "Squeeze-and-Excitation Networks", CVPR 2018, arXiv:1709.01507. Names as in
    the usual port to PyTorch: `fc.0.weight`, `fc.2.weight`.

    Shape:
        Input (N, channel, H, W), output the same; same dtype and device.

    Args:
        channel: Channels of the map.
        reduction: How many times narrower the hidden layer is, which has at least 1 channel.
        bias: Whether both layers have a bias, as in timm and torchvision.

    Raises:
        ValueError: If a size is below 1; in the forward pass, if the input's shape does not fit.

    Examples:
        >>> SEBlock(16)(torch.zeros(1, 16, 8, 8)).shape
        torch.Size([1, 16, 8, 8])
    """

    def __init__(self, channel: int, reduction: int = 16, *, bias: bool = False) -> None:
        super().__init__()
        check_positive(channel=channel, reduction=reduction)
        self.channel = channel
        hidden = max(1, channel // reduction)
        self.fc = nn.Sequential(
            nn.Linear(channel, hidden, bias=bias),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channel, bias=bias),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` with its channels rescaled."""
        check_map(x, self.channel)
        weight: torch.Tensor = self.fc(x.mean((2, 3)))  # (N, C)
        return x * weight[:, :, None, None]


class SEBlockOptions(Options):
    """Options of `SEBlock` in a recipe."""

    channel: MapChannels = None
    reduction: Reduction = 16
    bias: bool = Field(default=False, description="whether both layers have a bias")


ROW = Replacement(
    name="SEBlock",
    summary="a weight for each channel from all channels' means",
    source="Hu et al., CVPR 2018, arXiv:1709.01507",
    shapes="(N, C, H, W), (N, H, W, C) or (N, L, C) -> the same",
    options=SEBlockOptions,
    fit=fit_channels("SEBlock", "channel"),
    module=SEBlock,
    flops="4*channel*max(1, channel//reduction)",
    memory="itemsize*(channel + max(1, channel//reduction))",
    example=attention_example("SEBlock", "reduction: 16"),
    spellings=(
        "SE",
        "SEAttention",
        "SELayer",
        "SEModule",
        "SqueezeExcite",
        "SqueezeExcitationBlock",
        "SqueezeExciteBlock",
        "SqueezeExcitation",
        "SqueezeAndExcitation",
    ),
    gates=True,
)
