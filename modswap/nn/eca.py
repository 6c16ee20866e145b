"""Efficient channel attention (Wang et al., 2020, arXiv:1910.03151)."""

from math import log2

import torch
from pydantic import Field
from torch import nn

from modswap.core.decided.blueprint import Choice
from modswap.core.seen.site import Site
from modswap.nn.catalogue.option_types import MapChannels, OddOrAuto
from modswap.nn.catalogue.row import Options, Replacement, attention_example
from modswap.nn.checks import check_map, check_odd, check_positive
from modswap.nn.fit.inputs import MapInputs
from modswap.nn.fit.sizes import choose, fit_channels


def adaptive_size(channel: int) -> int:
    """Return the paper's kernel size for C channels: odd, near (log2 C + 1) / 2."""
    size = int(abs((log2(channel) + 1) / 2))
    return size if size % 2 else size + 1


class ECA(nn.Module):
    """Rescale each channel by a weight in (0, 1) computed from its neighbours' means.

    Wang, Wu, Zhu, Li, Zuo and Hu, "ECA-Net: Efficient Channel Attention for Deep Convolutional
    Neural Networks", CVPR 2020, arXiv:1910.03151. Names as the authors': `conv.weight`.

    Shape:
        Input (N, channel, H, W), output the same; same dtype and device.

    Args:
        channel: Channels of the map.
        k_size: Neighbouring channels that a weight is computed from, odd.

    Raises:
        ValueError: If a size is below 1 or `k_size` is even; in the forward pass, if the input's
            shape does not fit.

    Examples:
        >>> ECA(16)(torch.zeros(1, 16, 8, 8)).shape
        torch.Size([1, 16, 8, 8])
    """

    def __init__(self, channel: int, k_size: int = 3) -> None:
        super().__init__()
        check_positive(channel=channel)
        check_odd(k_size=k_size)
        self.channel = channel
        self.conv = nn.Conv1d(1, 1, k_size, padding=k_size // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` with its channels rescaled."""
        check_map(x, self.channel)
        mean = x.mean((2, 3))  # (N, C)
        weight: torch.Tensor = self.conv(mean[:, None])[:, 0].sigmoid()  # (N, C)
        return x * weight[:, :, None, None]


class ECAOptions(Options):
    """Options of `ECA` in a recipe."""

    channel: MapChannels = None
    k_size: OddOrAuto = Field(
        None, description="channels that a weight is computed from, odd; auto: by the paper's rule"
    )


def _more(_: Site, inputs: MapInputs, options: ECAOptions) -> list[Choice]:
    reason = f"by the paper's rule for {inputs.channels}"
    return [choose("k_size", options.k_size, adaptive_size(inputs.channels), reason)]


ROW = Replacement(
    name="ECA",
    summary="a weight for each channel from its neighbours' means",
    source="Wang et al., CVPR 2020, arXiv:1910.03151",
    shapes="(N, C, H, W), (N, H, W, C) or (N, L, C) -> the same",
    options=ECAOptions,
    fit=fit_channels("ECA", "channel", _more),
    module=ECA,
    flops="2*channel*k_size",
    memory="itemsize*2*channel",
    example=attention_example("ECA", "k_size: 3"),
    spellings=("ECAAttention", "ECALayer", "ECABlock", "ECAModule", "EfficientChannelAttention"),
    gates=True,
)
