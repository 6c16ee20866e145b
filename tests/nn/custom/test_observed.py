"""Arguments of usual names are taken from the site."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.decided.blueprint import Blueprint
from modswap.core.errors import ShapeError
from modswap.core.seen.site import Site
from modswap.nn.custom.fit import fit_custom
from modswap.nn.custom.observed import CHANNELS, OUT_CHANNELS, SIZES, Observed
from tests.nn.sites import call, site, tensor

MAP = site(tensor(1, 8, 4, 6))
SQUARE = site(tensor(1, 8, 4, 4))
TOKENS = site(tensor(1, 16, 8), layout="NLC")


def fit(place: Site, cls: type[nn.Module], args: dict[str, Any] | None = None) -> Blueprint:
    return fit_custom(place, cls, f"net:{cls.__name__}", args or {}, adapt=False, wants=None)


def named(name: str, default: str = "") -> type[nn.Module]:
    """Return a convolution whose channels are an argument of a name."""

    def build(self: Any, width: int) -> None:
        nn.Module.__init__(self)
        self.mix = nn.Conv2d(width, width, 1)

    space = {"build": build}
    exec(f"def init(self, {name}{default}): build(self, {name})", space)
    forward = lambda self, x: self.mix(x)  # noqa: E731 - a method of a class made here
    return type("Named", (nn.Module,), {"__init__": space["init"], "forward": forward})


class Fixed(nn.Module):
    """Takes one size: (N, d_model, H, W) -> the same."""

    def __init__(self, d_model: int = 512, H: int = 7, W: int = 7) -> None:  # noqa: N803 - as published
        super().__init__()
        self.mix = nn.Conv2d(d_model, d_model, 1)
        self.places = nn.Parameter(torch.zeros(H, W))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.mix(x) + self.places
        return out


class Between(nn.Module):
    """Channels of its own between those of the site."""

    def __init__(self, in_channels: int, embed_dim: int = 24, c2: int | None = None) -> None:
        super().__init__()
        self.into = nn.Conv2d(in_channels, embed_dim, 1)
        self.out = nn.Conv2d(embed_dim, c2 or in_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.out(self.into(x))
        return out


class Side(nn.Module):
    """A square of one side."""

    def __init__(self, dim: int, resolution: int = 14) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.zeros(dim, resolution, resolution))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.places


class Annotated(Side):
    """A square whose side has no default."""

    def __init__(self, dim: int, resolution: int) -> None:
        super().__init__(dim, resolution)


class Sides(nn.Module):
    """A map of one size."""

    def __init__(self, dim: int, img_size: tuple[int, int] = (14, 14)) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.zeros(dim, *img_size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.places


class Words(nn.Module):
    """Tokens of one number: (N, seq_len, d_model) -> the same."""

    def __init__(self, d_model: int = 256, seq_len: int = 10) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.mix = nn.Linear(seq_len, seq_len)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.mix(self.norm(x).mT).mT
        return out


class Odd(nn.Module):
    """A convolution with an unusual name for its channels."""

    def __init__(self, nc: int = 512, groups: int = 1) -> None:
        super().__init__()
        self.mix = nn.Conv2d(nc, nc, 1, groups=groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.mix(x)
        return out


USUAL = ["d_model", "dim", "channels", "channel", "c1", "in_channels", "in_planes", "inp"]


@pytest.mark.each_once
@pytest.mark.parametrize("name", [*USUAL, "embed_dim", "in_ch", "nf", "num_features", "n_feats"])
@pytest.mark.parametrize("default", ["", "=512", "=None"])
def test_channels_of_a_usual_name_are_the_sites(name: str, default: str) -> None:
    cls = named(name, default)

    assert fit(MAP, cls).args == {name: 8}
    assert fit(MAP, cls, {name: "auto"}).args == {name: 8}
    reason = fit(MAP, cls).choices[0].reason
    assert reason == "8 channels observed" + (f"; its default is {default[1:]}" if default else "")


@pytest.mark.parametrize(("layout", "channels"), [("NCL", 8), ("LNC", 5)])
def test_channels_of_a_row_are_read_by_the_layers_that_take_it(layout: str, channels: int) -> None:
    row = site(call(tensor(2, 8, 5), output=tensor(2, 8, 5)))
    place = replace(row, layout=None, other_layout=layout)
    observed = Observed(place, nn.Conv1d, "torch.nn:Conv1d")

    assert observed.choice("in_channels").value == channels
    assert observed.choice("out_channels").value == channels


def test_no_name_means_two_sizes() -> None:
    groups = (CHANNELS, OUT_CHANNELS, SIZES)

    assert len(CHANNELS | OUT_CHANNELS | SIZES) == sum(map(len, groups))


def test_default_that_fits_is_kept() -> None:
    assert fit(MAP, Between).args == {"in_channels": 8}
    wider = site(call(tensor(1, 8, 4, 6), output=tensor(1, 10, 4, 6)))
    assert fit(wider, Between).args == {"in_channels": 8, "embed_dim": 8, "c2": 10}


def test_sizes_are_taken_from_the_site_and_said_to_be_fixed() -> None:
    found = fit(MAP, Fixed)

    assert found.args == {"d_model": 8, "H": 4, "W": 6}
    assert [choice.reason for choice in found.choices[:2]] == [
        "8 channels observed; its default is 512",
        "4x6 observed; the module is fixed to this size; its default is 7",
    ]
    auto = fit(MAP, Fixed, {"d_model": "auto", "H": "auto", "W": "auto"})
    assert auto.args == found.args
    assert auto.choices[1].reason == "4x6 observed; the module is fixed to this size"
    assert fit(TOKENS, Fixed).args == {"d_model": 8, "H": 4, "W": 4}


@pytest.mark.parametrize(
    ("place", "cls", "args"),
    [
        (SQUARE, Side, {"dim": 8, "resolution": 4}),
        (SQUARE, Annotated, {"dim": 8, "resolution": 4}),
        (SQUARE, Sides, {"dim": 8, "img_size": [4, 4]}),
        (MAP, Sides, {"dim": 8, "img_size": [4, 6]}),
        (TOKENS, Words, {"d_model": 8, "seq_len": 16}),
    ],
)
def test_sides_are_numbers_or_pairs_as_the_class_has_them(
    place: Site, cls: type[nn.Module], args: dict[str, Any]
) -> None:
    assert fit(place, cls).args == args


@pytest.mark.parametrize(
    ("place", "cls", "args", "what", "settings"),
    [
        (
            MAP, Fixed, {"d_model": 5},
            r"\(H: 4x6 .*; d_model: 8 channels observed; the rule says 5\); set `args:",
            ("d_model", "auto"),
        ),
        (
            MAP, Odd, {},
            r"\(nc: its default is 512, 8 channels observed\); set `args: \{nc: 8\}`, or choose a",
            ("nc", 8),
        ),
        (MAP, Side, {}, r"dim=8, resolution=\[4, 6\]\) raised TypeError", None),
        (
            site(tensor(1, 8, 4, 6), tensor(1, 8, 8, 6)), Fixed, {},
            r"as NCHW: .*\(d_model: 8 channels observed; its default is 512\)", None,
        ),
        (
            site(tensor(1, 8, 4, 6), tensor(1, 8, 8, 6)), Fixed, {"H": "auto"},
            r"needs 'H', and the site has no single one: \(1, 8, 4, 6\), \(1, 8, 8, 6\)", None,
        ),
        (
            site(tensor(1, 8, 4), tensor(1, 9, 4), layout="NLC"), Words, {"seq_len": "auto"},
            "needs 'seq_len', and the site has no single one", None,
        ),
    ],
)  # fmt: skip
def test_value_that_is_not_the_sites_is_named(
    place: Site, cls: type[nn.Module], args: dict[str, Any], what: str, settings: Any
) -> None:
    with pytest.raises(ShapeError, match=what) as error:
        fit(place, cls, args)

    assert settings is None or error.value.settings[0] == settings


@pytest.mark.parametrize("shape", [(2, 8), (2, 5, 8), (2, 3, 4, 8), (2, 3, 4, 5, 8)])
def test_linear_layer_takes_the_last_axis(shape: tuple[int, ...]) -> None:
    output = tensor(*shape[:-1], 6)
    layout: Any = {3: "NLC", 4: "NHWC"}.get(len(shape))

    found = fit(site(call(tensor(*shape), output=output), layout=layout), nn.Linear)

    assert found.args == {"in_features": 8, "out_features": 6}
    assert found.fits


class Failing(nn.Module):
    """A layer whose message has the number of the channels, and of a default, in it."""

    def __init__(self, channels: int, ratio: int = 16) -> None:
        super().__init__()
        self.ratio = channels // ratio

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(f"no map of {x.shape[1]} channels")


def test_argument_that_has_the_value_of_the_site_already_is_not_suspected() -> None:
    with pytest.raises(ShapeError, match="no map of 16 channels") as raised:
        fit(site(tensor(1, 16, 4, 6)), Failing)

    assert "ratio" not in f"{raised.value.what} {raised.value.fix}"
