"""The usual ways to scale pictures."""

import pytest
import torch
from torch import nn

from modswap.ops.heal.data.preprocessing import preprocessing
from modswap.ops.heal.data.taker import DataRequest
from modswap.ops.heal.data.usual import USUAL, likeliest
from tests.ops.heal.data.takers import convolution, taker_of

PICTURES = nn.functional.interpolate(
    torch.randint(0, 256, (32, 3, 4, 4), dtype=torch.uint8).float(), (16, 16), mode="bilinear"
).to(torch.uint8)


def trained_on(mean: tuple[float, ...], std: tuple[float, ...]) -> nn.Sequential:
    """Return a net whose norm holds the statistics of pictures that are scaled so."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16, momentum=None)).train()
    scaled = (torch.tensor(one).view(1, -1, 1, 1) for one in (mean, std))
    with torch.no_grad():
        net((PICTURES / 255 - next(scaled)) / next(scaled))
    return net.eval()


@pytest.mark.parametrize("number", range(len(USUAL)))
def test_way_of_the_training_is_found(number: int) -> None:
    mean, std = USUAL[number]
    taker = taker_of(trained_on(mean, std))

    how = likeliest(taker, preprocessing(taker, DataRequest(), ""), [*PICTURES])

    assert how.mean == pytest.approx(mean * (3 // len(mean)))
    assert how.std == pytest.approx(std * (3 // len(std)))
    words = "of the usual ways the one that fits the batch norm '1' best" if number else "neither"
    assert words in how.numbers


def test_way_that_is_known_or_cannot_be_judged_stays() -> None:
    other = taker_of(trained_on((0.5,), (0.5,)), payload={"mean": [0.1] * 3, "std": [0.9] * 3})
    known = preprocessing(other, DataRequest(), "")
    assert likeliest(other, known, [*PICTURES]) is known
    never = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Identity())
    never[1].add_module("inner", trained_on((0.5,), (0.5,)))  # no pass reaches it
    for model in (convolution(), never):
        taker = taker_of(model)
        plain = preprocessing(taker, DataRequest(), "")
        assert likeliest(taker, plain, [*PICTURES]) is plain


def test_grey_pictures_have_no_way_of_three_channels() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16, momentum=None)).train()
    with torch.no_grad():
        net(PICTURES[:, :1].float())
    taker = taker_of(net.eval(), 1, 1, 16, 16)

    how = likeliest(taker, preprocessing(taker, DataRequest(), ""), [*PICTURES[:, :1]])

    assert (how.mean, how.std) == ((0.0,), (1 / 255,))
