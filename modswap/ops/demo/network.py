"""A UNet++ whose deepest map goes through two gates (Zhou et al., 2018, arXiv:1807.10165)."""

import torch
from torch import nn

STAGES = 5  # encoder stages; the deepest map is H/16 x W/16


class Stage(nn.Sequential):
    """Two 3x3 convolutions with batch norm: (N, in, H, W) → (N, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


def gate(channels: int) -> nn.Sequential:
    """Return the convolution of a gate: (N, C, H, W) → (N, C, H, W)."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


class GatedUNetPlusPlus(nn.Module):
    """Nested U-Net whose deepest map is refined by a channel gate, then by a space gate.

    Node x_i_j sits at depth i, j steps to the right; it joins all earlier nodes of its row and the
    upsampled node below.

    Shape:
        Input (N, in_channels, H, W), output logits (N, classes, H, W); H and W are multiples of 16.

    Args:
        classes: Number of classes.
        in_channels: Channels of the image.
        base_width: Channels of the first stage; each deeper one doubles them.
    """

    def __init__(self, classes: int, in_channels: int = 3, base_width: int = 32) -> None:
        super().__init__()
        widths = [base_width * 2**i for i in range(STAGES)]
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=True)
        self.encoder = nn.ModuleList(
            Stage(in_channels if i == 0 else widths[i - 1], widths[i]) for i in range(STAGES)
        )
        self.channel_attention = gate(widths[-1])
        self.space_attention = gate(widths[-1])
        self.nested = nn.ModuleDict(
            {
                f"x{i}_{j}": Stage(j * widths[i] + widths[i + 1], widths[i])
                for j in range(1, STAGES)
                for i in range(STAGES - j)
            }
        )
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        nodes: dict[tuple[int, int], torch.Tensor] = {}
        for i, stage in enumerate(self.encoder):
            x = stage(x if i == 0 else self.pool(x))
            nodes[i, 0] = x
        nodes[STAGES - 1, 0] = self.gated(x)
        for j in range(1, STAGES):
            for i in range(STAGES - j):
                row = [nodes[i, k] for k in range(j)]
                joined = torch.cat([*row, self.up(nodes[i + 1, j - 1])], dim=1)
                nodes[i, j] = self.nested[f"x{i}_{j}"](joined)
        logits: torch.Tensor = self.head(nodes[0, STAGES - 1])
        return logits

    def gated(self, x: torch.Tensor) -> torch.Tensor:
        """Return the deepest map (N, C, H/16, W/16) after both gates, of the same shape."""
        weight = nn.functional.adaptive_max_pool2d(x, 1).sigmoid()  # (N, C, 1, 1)
        x = x + self.channel_attention(x * weight)
        weight = x.amax(dim=1, keepdim=True).sigmoid()  # (N, 1, H/16, W/16)
        refined: torch.Tensor = x + self.space_attention(x * weight)
        return refined


def build_network(
    classes: int = 11, in_channels: int = 3, base_width: int = 32
) -> GatedUNetPlusPlus:
    """Build the network; a factory for `--model`."""
    return GatedUNetPlusPlus(classes, in_channels, base_width)
