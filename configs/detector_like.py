"""A YOLO-like detector: layers in a row, each with the indices of its sources."""

import torch
from torch import nn

# (from, class, channels): -1 is the layer before, a list is concatenated
PLAN: list[tuple[int | list[int], str, int]] = [
    (-1, "Down", 32),  # 0: stride 2
    (-1, "Down", 32),  # 1: stride 4
    (-1, "Down", 64),  # 2: stride 8
    (-1, "Mixer", 64),  # 3
    (-1, "Mixer", 64),  # 4
    (-1, "Down", 96),  # 5: stride 16
    (-1, "Mixer", 96),  # 6
    (-1, "Up", 96),  # 7
    ([7, 4], "Join", 64),  # 8
    (-1, "Mixer", 64),  # 9
]


class Down(nn.Sequential):
    """Convolution of stride 2: (N, C, H, W) -> (N, C', H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out_channels), nn.SiLU())


class Mixer(nn.Sequential):
    """Convolution that keeps the shape."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out_channels), nn.SiLU())


class Up(nn.Module):
    """Nearest upsampling by 2."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        del in_channels, out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the doubled map."""
        return nn.functional.interpolate(x, scale_factor=2.0)


class Join(nn.Module):
    """Concatenation along channels, then a 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Return one map of the smaller size."""
        height = min(m.shape[2] for m in maps)
        width = min(m.shape[3] for m in maps)
        out: torch.Tensor = self.mix(torch.cat([m[:, :, :height, :width] for m in maps], 1))
        return out


KINDS = {"Down": Down, "Mixer": Mixer, "Up": Up, "Join": Join}


class Detector(nn.Module):
    """Scores and boxes at two strides: (N, 3, H, W) -> list of (N, classes + 4, h, w)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        widths: list[int] = []
        for index, (source, kind, channels) in enumerate(PLAN):
            sources = [source] if isinstance(source, int) else source
            taken = sum(widths[s] for s in sources) if index else 3
            layer = KINDS[kind](taken, channels)
            layer.i, layer.f, layer.type = index, source, kind
            self.layers.append(layer)
            widths.append(channels)
        self.heads = nn.ModuleList(nn.Conv2d(c, classes + 4, 1) for c in (64, 96))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return one map of predictions per stride."""
        seen: list[torch.Tensor] = []
        for layer in self.layers:
            given = x if layer.f == -1 else [seen[j] for j in layer.f]
            x = layer(given)
            seen.append(x)
        return [self.heads[0](seen[9]), self.heads[1](seen[6])]


def build_detector(classes: int) -> Detector:
    """Build the model; the recipe's `model.factory`."""
    return Detector(classes)


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.save({"epoch": 0, "state_dict": build_detector(4).state_dict()}, "detector_like.pt")
