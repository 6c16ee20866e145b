"""ACmix's row of the catalogue: observed options, refusals, and the cost.

Covers: fit.sizes, fit.stride.
"""

from dataclasses import replace
from math import ceil
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from modswap.core.errors import ModswapError
from modswap.core.seen.site import Layout
from modswap.core.seen.values import TensorInfo
from modswap.io.recipe.reader import parse_recipe
from modswap.nn import acmix as layer
from modswap.nn.acmix import ACmix
from modswap.nn.acmix_row import ROW
from modswap.nn.catalogue.row import read_options
from tests.nn.sites import call, site, tensor


def fitted(
    *calls: Any, layout: Layout = "NCHW", adapt: bool = False, **args: Any
) -> dict[str, Any]:
    place = site(*calls, layout=layout)
    return dict(ROW.fit(place, read_options(ROW, args, str), adapt=adapt).args)


@pytest.mark.parametrize(
    ("given", "output", "layout", "expected"),
    [
        ((2, 8, 6, 9), (2, 8, 6, 9), "NCHW", (8, 8, 7, 4, 1)),
        ((2, 8, 6, 9), (2, 12, 3, 5), "NCHW", (8, 12, 7, 4, 2)),
        ((2, 6, 9, 8), (2, 2, 3, 6), "NHWC", (8, 6, 7, 3, 3)),
        ((2, 36, 8), (2, 9, 10), "NLC", (8, 10, 7, 5, 2)),
        ((2, 8, 3, 9), (2, 8, 3, 9), "NCHW", (8, 8, 5, 4, 1)),
        ((2, 8, 1, 1), (2, 8, 1, 1), "NCHW", (8, 8, 1, 4, 1)),
    ],
)
def test_sizes_are_observed(
    given: tuple[int, ...], output: tuple[int, ...], layout: Layout, expected: tuple[int, ...]
) -> None:
    args = fitted(call(tensor(*given), output=tensor(*output)), layout=layout)

    names = ("in_planes", "out_planes", "kernel_att", "head", "stride")
    assert tuple(args[name] for name in names) == expected


@pytest.mark.parametrize(
    ("shape", "layout"), [((2, 8, 6, 9), "NCHW"), ((2, 6, 9, 8), "NHWC"), ((2, 36, 8), "NLC")]
)
def test_fitted_module_gives_what_the_site_gave(shape: tuple[int, ...], layout: Layout) -> None:
    blueprint = ROW.fit(site(TensorInfo(shape), layout=layout), ROW.options(), adapt=False)

    assert blueprint.wants == "NCHW"
    assert blueprint.adaptation is None
    assert ROW.module(**blueprint.args)(torch.randn(2, 8, 6, 6)).shape == (2, 8, 6, 6)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"head": 3}, "stage.attn: head 3 does not divide out_planes 8"),
        (
            {"kernel_att": 7, "dilation": 2},
            "stage.attn: kernel_att 7 with dilation 2 reflects 6 pixels, the map is 6x9",
        ),
        ({"kernel_att": 4}, "kernel_att: kernel_att is 4, expected an odd number, or auto"),
        ({"out_planes": 8, "head": 3}, "head: head 3 does not divide out_planes 8"),
        ({"stride": 2}, "stage.attn: the site turns"),
    ],
)
def test_options_that_do_not_fit_are_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ModswapError) as refusal:
        fitted(tensor(2, 8, 6, 9), **args)

    assert message in str(refusal.value)


def test_other_channels_are_projected_if_allowed() -> None:
    place = site(tensor(2, 8, 6, 9))

    blueprint = ROW.fit(place, read_options(ROW, {"out_planes": 16}, str), adapt=True)

    assert blueprint.adaptation is not None
    assert (blueprint.adaptation.in_channels, blueprint.adaptation.out_channels) == (16, 8)


def test_example_reads() -> None:
    recipe = parse_recipe(f"version: 1\nreplace:\n{ROW.example}", "example", ".")

    (rule,) = recipe.replace
    assert rule.with_ == ROW.name == ROW.module.__name__
    read_options(ROW, rule.args, str)


@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 2, "kernel_conv": 5, "kernel_att": 3}, {"head": 2, "dilation": 2}],
)
def test_flops_are_those_of_the_plain_way(
    options: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer, "supported", lambda terms: False)
    place = site(tensor(1, 8, 9, 13), layout="NCHW")
    size = tuple(ceil(side / options.get("stride", 1)) for side in (9, 13))
    place = replace(place, calls=(call(tensor(1, 8, 9, 13), output=tensor(1, 16, *size)),))
    args = dict(ROW.fit(place, read_options(ROW, options, str), adapt=False).args)

    with FlopCounterMode(display=False) as counter:
        ACmix(**args)(torch.randn(1, 8, 9, 13))

    assert ROW.cost(args, 9, 13).flops == counter.get_total_flops()
