"""The convolutional gate of attention networks: convolution, batch norm, ReLU."""

import torch
from pydantic import Field
from torch import nn

from modswap.core.decided.blueprint import Blueprint
from modswap.core.seen.site import Site
from modswap.nn.catalogue.option_types import AtLeast1, Odd, OutChannels, Stride
from modswap.nn.catalogue.row import Options, Replacement, attention_example
from modswap.nn.checks import check_map, check_odd, check_positive
from modswap.nn.fit.inputs import read_inputs
from modswap.nn.fit.sizes import Draft, channels_of
from modswap.nn.fit.stride import other_size, output_choices


class ConvGate(nn.Module):
    """Convolve, normalise over the batch, and clip below zero.

    The block of attention gates, with the batch norm of Ioffe and Szegedy, "Batch Normalization",
    ICML 2015, arXiv:1502.03167.

    Shape:
        Input (N, in_channels, H, W), output (N, out_channels, H / stride, W / stride), rounded up;
        same dtype and device.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output; None: as many as of the input.
        kernel_size: Side of the kernel, odd.
        stride: Pixels of the input for each of the output.

    Raises:
        ValueError: If a size is below 1 or `kernel_size` is even; in the forward pass, if the
            input's shape does not fit.

    Examples:
        >>> ConvGate(16)(torch.zeros(1, 16, 8, 8)).shape
        torch.Size([1, 16, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_size: int = 3,
        stride: int = 1,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        check_positive(in_channels=in_channels, out_channels=out_channels, stride=stride)
        check_odd(kernel_size=kernel_size)
        self.in_channels = in_channels
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the gated map."""
        check_map(x, self.in_channels)
        y: torch.Tensor = self.relu(self.bn(self.conv(x)))
        return y


class ConvGateOptions(Options):
    """Options of `ConvGate` in a recipe."""

    in_channels: AtLeast1 | None = Field(
        None, description="channels of the input; auto: as observed"
    )
    out_channels: OutChannels = None
    kernel_size: Odd = Field(3, description="side of the kernel, odd")
    stride: Stride = None


def fit(site: Site, options: ConvGateOptions, *, adapt: bool) -> Blueprint:
    """Return how to make the layer for a site, as `Fit` says."""
    inputs = read_inputs(site)
    channels = channels_of(site, inputs, "in_channels", options.in_channels)
    out, stride = output_choices(site, inputs, options, channels, "out_channels")
    draft = Draft("ConvGate", site, inputs, options, [channels], "NCHW")
    return other_size(draft, out, stride, adapt=adapt)


ROW = Replacement(
    name="ConvGate",
    summary="convolution, batch norm and ReLU, as gates are made of",
    source="Ioffe and Szegedy, ICML 2015, arXiv:1502.03167",
    shapes="(N, C, H, W), (N, H, W, C) or (N, L, C) -> with other channels and sizes, if need be",
    options=ConvGateOptions,
    fit=fit,
    module=ConvGate,
    terms={"P": "ceil(H/stride)*ceil(W/stride)"},
    flops="2*P*kernel_size**2*in_channels*out_channels",
    memory="itemsize*P*out_channels",
    example=attention_example("ConvGate", "kernel_size: 3"),
    gates=True,
)
