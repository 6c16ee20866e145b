"""Options that are chosen for bi-level routing attention at a site, and refusals."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modswap.core.decided.blueprint import Adaptation, Blueprint
from modswap.core.errors import RecipeError, ShapeError
from modswap.core.seen.site import Layout, Site
from modswap.nn import CATALOGUE
from modswap.nn.catalogue.row import read_options
from modswap.nn.construct import construct
from tests.nn.sites import NONE, call, group, site, tensor

ROW = CATALOGUE["BiLevelRoutingAttention"]


def fit(place: Site, args: dict[str, Any] | None = None, *, adapt: bool = False) -> Blueprint:
    return ROW.fit(place, read_options(ROW, args or {}, lambda name: name), adapt=adapt)


def test_main_case_needs_neither_dim_nor_layout() -> None:
    blueprint = fit(site(tensor(1, 512, 14, 14), reason="a Conv2d takes it"))

    assert blueprint.fits
    assert blueprint.args == {
        "dim": 512,
        "num_heads": 16,
        "n_win": 7,
        "qk_dim": 512,
        "qk_scale": None,
        "kv_per_win": 4,
        "kv_downsample_ratio": 4,
        "kv_downsample_kernel": None,
        "kv_downsample_mode": "identity",
        "topk": 4,
        "param_attention": "qkvo",
        "param_routing": False,
        "diff_routing": False,
        "soft_routing": False,
        "side_dwconv": 3,
        "auto_pad": True,
        "variant": "original",
        "mask_padding": False,
        "layout": "NCHW",
    }
    assert {choice.name: choice.reason for choice in blueprint.choices} == {
        "dim": "512 channels observed",
        "num_heads": "512 channels, head size 32",
        "n_win": "14x14 observed, divides it",
        "auto_pad": "n_win 7 divides 14x14, and other sizes stay possible",
        "topk": "of 49 windows",
        "layout": "the site is NCHW: a Conv2d takes it",
        "qk_dim": "as many as dim",
    }


def test_what_the_recipe_sets_is_taken_and_not_reported_as_chosen() -> None:
    args = {"dim": 512, "num_heads": 8, "n_win": 2, "topk": 3, "auto_pad": True, "qk_dim": 64}

    blueprint = fit(site(tensor(1, 512, 14, 14)), args)

    assert {name: blueprint.args[name] for name in args} == args
    assert [choice.name for choice in blueprint.choices] == ["layout"]


@pytest.mark.parametrize(
    ("layout", "shape", "wants"),
    [
        ("NCHW", (1, 8, 4, 4), "NCHW"),
        ("NHWC", (1, 4, 4, 8), "NHWC"),
        ("NLC", (1, 16, 8), "NHWC"),
    ],
)
def test_layout_follows_the_site(layout: Layout, shape: tuple[int, ...], wants: Layout) -> None:
    blueprint = fit(site(tensor(*shape), layout=layout))

    assert (blueprint.layout, blueprint.wants) == (layout, wants)
    assert (blueprint.args["dim"], blueprint.args["layout"]) == (8, wants)


@pytest.mark.parametrize(
    ("channels", "args", "heads"),
    [
        (64, {}, 2),
        (48, {}, 2),
        (8, {}, 1),
        (37, {}, 1),
        (96, {"qk_dim": 32}, 4),
        (96, {"qk_dim": 64}, 4),
    ],
)
def test_heads_are_as_near_to_32_channels_as_divides(
    channels: int, args: dict[str, Any], heads: int
) -> None:
    assert fit(site(tensor(1, channels, 7, 7)), args).args["num_heads"] == heads


@pytest.mark.parametrize(
    ("sizes", "args", "n_win", "auto_pad"),
    [
        ([(14, 14)], {}, 7, True),
        ([(7, 7)], {}, 7, True),
        ([(13, 13)], {}, 7, True),
        ([(80, 80)], {}, 7, True),
        ([(16, 16)], {}, 4, True),
        ([(10, 10)], {}, 5, True),
        ([(17, 17)], {}, 6, True),
        ([(22, 22)], {}, 6, True),
        ([(3, 5)], {}, 3, True),
        ([(1, 1)], {}, 1, True),
        ([(1, 9)], {}, 1, True),
        ([(14, 14), (16, 16)], {}, 3, True),
        ([(28, 28), (56, 56)], {}, 7, True),
        ([(13, 13)], {"auto_pad": False}, 1, False),
        ([(16, 16)], {"auto_pad": False}, 4, False),
        ([(14, 14)], {"auto_pad": True}, 7, True),
        ([(16, 16)], {"n_win": 7}, 7, True),
        ([(16, 16)], {"n_win": 8}, 8, True),
        ([(5, 5)], {"n_win": 7}, 7, True),
        ([(16, 16)], {"topk": 30}, 6, True),
        ([(14, 14)], {"kv_downsample_mode": "avgpool"}, 3, True),
        ([(16, 16)], {"kv_downsample_mode": "maxpool"}, 4, True),
    ],
)
def test_windows_fit_every_map_or_pad_cheaply(
    sizes: list[tuple[int, int]], args: dict[str, Any], n_win: int, auto_pad: bool
) -> None:
    blueprint = fit(site(*(tensor(1, 8, *size) for size in sizes)), args)

    assert (blueprint.args["n_win"], blueprint.args["auto_pad"]) == (n_win, auto_pad)


@pytest.mark.parametrize(("size", "topk"), [(14, 4), (2, 4), (1, 1)])
def test_topk_stays_within_the_windows(size: int, topk: int) -> None:
    assert fit(site(tensor(1, 8, size, size))).args["topk"] == topk


@given(
    st.integers(1, 70),
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=3),
    st.sampled_from([None, False, True]),
)
def test_chosen_arguments_are_possible(
    channels: int, sizes: list[tuple[int, int]], auto_pad: bool | None
) -> None:
    args = {} if auto_pad is None else {"auto_pad": auto_pad}

    chosen = fit(site(*(tensor(1, channels, *size) for size in sizes)), args).args

    assert channels % chosen["num_heads"] == 0
    assert 1 <= chosen["topk"] <= chosen["n_win"] ** 2
    for side in (side for size in sizes for side in size):
        assert chosen["n_win"] <= side
        assert chosen["auto_pad"] or side % chosen["n_win"] == 0


@pytest.mark.parametrize(
    ("place", "args", "message"),
    [
        (
            site(tensor(1, 8, 7, 7)),
            {"dim": 16},
            r"dim is 16, the site is given 8 channels: \(1, 8, 7, 7\) as NCHW",
        ),
        (site(tensor(1, 8, 7, 7)), {"num_heads": 3}, "num_heads 3 does not divide 8 channels; set"),
        (
            site(tensor(1, 8, 7, 7)),
            {"num_heads": 8, "qk_dim": 16, "dim": 8},
            None,
        ),
        (
            site(tensor(1, 12, 7, 7)),
            {"num_heads": 4, "qk_dim": 8},
            None,
        ),
        (
            site(tensor(1, 10, 7, 7)),
            {"num_heads": 4, "qk_dim": 8},
            "num_heads 4 does not divide dim 10 and qk_dim 8; set `num_heads: 2`",
        ),
        (
            site(tensor(1, 8, 16, 15)),
            {"n_win": 4, "auto_pad": False},
            "n_win 4 does not divide 16x15, and auto_pad is false; set `auto_pad: true`",
        ),
        (
            site(tensor(1, 8, 3, 3)),
            {"topk": 10},
            "topk is 10, but maps of 3x3 have at most 9 windows; set `topk: 9` or less",
        ),
        (
            site(tensor(1, 8, 13, 13)),
            {"topk": 2, "auto_pad": False},
            "topk 2 needs more windows than divide 13x13, and auto_pad is false",
        ),
        (
            site(tensor(1, 8, 3, 5)),
            {"kv_downsample_mode": "avgpool"},
            "kv_downsample_ratio 4 is larger than the windows: n_win 1 cuts 3x5 into windows",
        ),
        (
            site(tensor(1, 8, 14, 14)),
            {"kv_downsample_mode": "maxpool", "n_win": 7},
            "n_win 7 cuts 14x14 into windows with sides of 2; set `kv_downsample_ratio: 2`",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_both_numbers(
    place: Site, args: dict[str, Any], message: str | None
) -> None:
    if message is None:
        assert fit(place, args).args["num_heads"] == args["num_heads"]
        return

    with pytest.raises(ShapeError, match=rf"^stage\.attn: .*{message}"):
        fit(place, args)


def test_stride_channels_and_tuple_need_the_rules_word() -> None:
    output = group(tensor(1, 16, 7, 7), NONE)
    place = site(call(tensor(1, 8, 14, 14), output=output))

    with pytest.raises(ShapeError, match="set `adapt: true` in its rule"):
        fit(place)
    assert fit(place, adapt=True).adaptation == Adaptation(8, 16, (2, 2), "tuple", 2)


def test_dropped_inputs_and_keyword_are_part_of_the_blueprint() -> None:
    blueprint = fit(site(call(x=tensor(1, 8, 14, 14), mask=NONE)))

    assert (blueprint.keyword, blueprint.ignores, blueprint.fits) == ("x", ("mask",), False)


@pytest.mark.parametrize("size", [(14, 14), (13, 13), (3, 5), (1, 1)])
def test_blueprint_makes_a_module_that_takes_the_site(size: tuple[int, int]) -> None:
    import torch

    module = construct(fit(site(tensor(2, 8, *size))))

    assert module(torch.randn(2, 8, *size)).shape == (2, 8, *size)


@pytest.mark.parametrize(
    ("args", "option"),
    [
        ({"qk_dim": 8, "dim": 16}, "qk_dim"),
        ({"kv_downsample_mode": "avgpool"}, "kv_downsample_mode"),
        ({"param_attention": "qkv"}, "param_attention"),
        ({"soft_routing": True}, "soft_routing"),
        ({"auto_pad": False}, "auto_pad"),
    ],
)
def test_options_that_the_later_class_lacks_are_refused(args: dict[str, Any], option: str) -> None:
    with pytest.raises(RecipeError, match=f"variant is refactored, which has a fixed {option}"):
        fit(site(tensor(1, 16, 14, 14)), {"variant": "refactored", **args})


def test_more_windows_than_pixels_are_refused_for_the_later_class() -> None:
    with pytest.raises(ShapeError, match="n_win 7 is above a side of 5x14, and variant is ref"):
        fit(site(tensor(1, 16, 5, 14)), {"variant": "refactored", "n_win": 7})
