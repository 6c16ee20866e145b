"""Convolutions whose classes have a forward of their own."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from modswap.nn.inherit.convolution import read_convolution
from modswap.nn.inherit.plain_convolution import plain_convolution


class PadsItself(nn.Conv2d):
    """Pads as TensorFlow does, by a module, and keeps its stride in a list."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type] # those of a convolution
        self.stride = [self.stride[0]] * 2  # type: ignore[assignment] # as EfficientNet's ports do
        whole = self.kernel_size[0] - self.stride[0]
        self.static_padding = nn.ZeroPad2d((whole // 2, whole - whole // 2) * 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = self.static_padding(x)
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, 1, self.groups)


class Standardised(nn.Conv2d):
    """Standardises its weights."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias)


class Broken(nn.Conv2d):
    """Cannot be run alone."""

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        raise RuntimeError


@pytest.mark.parametrize("kernel", [3, 5])
def test_padding_of_its_own_is_seen_in_a_run(kernel: int) -> None:
    layer = PadsItself(8, 8, kernel, groups=8, bias=False)
    found = plain_convolution(layer)
    assert found is not None
    assert (found.padding, found.stride) == ((kernel // 2,) * 2, (1, 1))
    reading = read_convolution(nn.Sequential(layer, nn.BatchNorm2d(8)))
    assert reading is not None
    assert (reading.conv, reading.norm, reading.notes) == ("0", "1", ())


@pytest.mark.parametrize(
    "layer",
    [
        PadsItself(4, 4, 3, stride=2),  # its padding hangs on the size
        Standardised(4, 4, 3),
        Broken(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_is_no_plain_convolution_is_not_read(layer: nn.Conv2d) -> None:
    assert plain_convolution(layer) is None


def test_an_own_padding_by_name_or_numbers_is_kept() -> None:
    class Same(nn.Conv2d):
        pass

    found = plain_convolution(Same(4, 6, 3, padding="same", dilation=2))
    assert found is not None
    assert (found.padding, found.dilation, found.out_channels) == ((2, 2), (2, 2), 6)
    strided = plain_convolution(Same(4, 4, 3, padding=1, stride=2))
    assert strided is not None
    assert (strided.padding, strided.stride) == ((1, 1), (2, 2))
