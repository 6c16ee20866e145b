"""Tests of fitting classes of the user's own.

Covers: layout, probes, trial.
"""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.decided.blueprint import Adaptation, Blueprint
from modswap.core.errors import ModswapError, RecipeError, ShapeError
from modswap.core.seen.site import Layout, Site
from modswap.core.seen.values import Group, Plain
from modswap.nn.construct import construct
from modswap.nn.custom.fit import fit_custom
from tests.nn.sites import NONE, call, group, number, site, tensor


class Last(nn.Module):
    """A linear layer over the last axis: (N, …, C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mix = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.mix(x)
        return out


class Second(nn.Module):
    """A 1x1 convolution: (N, C, H, W)."""

    def __init__(self, channels: int, groups: int = 1) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1, groups=groups)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        out: torch.Tensor = self.mix(x)
        return out if mask is None else out * mask


class Tokens(nn.Module):
    """Takes tokens alone: (N, L, C)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.mix = nn.Linear(d_model, d_model)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        n, length, channels = tokens.shape
        out: torch.Tensor = self.mix(tokens).reshape(n, length, channels)
        return out


class FixedLast(Last):
    """As `Last`, for 8x8 maps only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + torch.zeros(8, 8, 8)


class Sized(nn.Module):
    """Needs sizes."""

    def __init__(self, input_resolution: tuple[int, int], height: int, c1: int, c2: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(c1, c2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.mix(x)
        return out


class Needy(nn.Module):
    """Needs an argument that no site shows."""

    def __init__(self, dim: int, ratio: int, heads: int) -> None:
        super().__init__()


class Choosy(nn.Module):
    """Refuses its argument."""

    def __init__(self, dim: int, heads: int = 1) -> None:
        super().__init__()
        raise AssertionError(f"{dim} is not what I want")


class Open(nn.Module):
    """Takes any argument."""

    def __init__(self, dim: int, **more: Any) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clone()


class ValueReader(nn.Module):
    """Branches on values, which fake tensors do not have."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum().item() > 0 else -x


def fit(
    place: Site,
    cls: type[nn.Module],
    args: dict[str, Any] | None = None,
    *,
    adapt: bool = False,
    wants: Layout | None = None,
) -> Blueprint:
    name = f"net:{cls.__name__}"
    return fit_custom(place, cls, name, args or {}, adapt=adapt, wants=wants)


@pytest.mark.parametrize(
    ("cls", "name"), [(Last, "dim"), (Second, "channels"), (Tokens, "d_model")]
)
def test_channels_are_filled_in_under_their_usual_names(cls: type[nn.Module], name: str) -> None:
    blueprint = fit(site(tensor(1, 8, 4, 6)), cls)

    assert blueprint.args == {name: 8}
    assert blueprint.choices[0].reason == "8 channels observed"


def test_output_channels_and_sizes_are_filled_in() -> None:
    wider = call(tensor(1, 8, 4, 6), output=tensor(1, 16, 4, 6))

    blueprint = fit(site(wider), Sized)

    assert blueprint.args == {"input_resolution": [4, 6], "height": 4, "c1": 8, "c2": 16}


def test_defaults_stay_unless_the_recipe_says_auto() -> None:
    assert fit(site(tensor(1, 8, 4, 6)), Second, {"groups": 2}).args == {"groups": 2, "channels": 8}
    assert fit(site(tensor(1, 8, 4, 6)), Second, {"channels": "auto"}).args == {"channels": 8}


def test_layers_of_torch_itself_fit_any_rank() -> None:
    linear = fit(site(tensor(4, 8), layout=None), nn.Linear)

    assert linear.args == {"in_features": 8, "out_features": 8}
    assert linear.fits
    assert fit(site(tensor(4, 8), layout=None), nn.GELU).args == {}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "NLC"])
@pytest.mark.parametrize(
    ("cls", "wants"),
    [(Last, {"NHWC", "NLC"}), (Second, {"NCHW"}), (Tokens, {"NLC"})],
)
@pytest.mark.parametrize("channels", [8, 6])
def test_layout_is_found_even_where_all_sides_are_equal(
    layout: Layout, cls: type[nn.Module], wants: set[Layout], channels: int
) -> None:
    shapes = {"NCHW": (1, channels, 8, 8), "NHWC": (1, 8, 8, channels), "NLC": (1, 64, channels)}
    place = site(tensor(*shapes[layout]), layout=layout)

    blueprint = fit(place, cls)

    assert blueprint.layout == layout
    assert blueprint.wants in wants
    assert "found by trying" in blueprint.choices[-1].reason
    x = torch.randn(shapes[layout])
    assert construct(blueprint, cls)(x).shape == x.shape


def test_layout_that_the_recipe_names_is_taken() -> None:
    blueprint = fit(site(tensor(1, 8, 4, 6)), Last, wants="NLC")

    assert blueprint.wants == "NLC"
    assert [choice.name for choice in blueprint.choices] == ["dim"]


def test_fixed_size_that_shows_no_layout_is_refused_with_the_fix() -> None:
    place = site(tensor(1, 8, 8, 8))

    with pytest.raises(ShapeError, match=r"runs on \(1, 8, 8, 8\) as NCHW and NHWC alike.*wants:"):
        fit(place, FixedLast)
    assert fit(place, FixedLast, wants="NHWC").wants == "NHWC"


def test_fixed_size_that_runs_in_one_layout_only_is_taken() -> None:
    class FixedTokens(Tokens):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return super().forward(tokens) + torch.zeros(1, 64, 8)

    blueprint = fit(site(tensor(1, 64, 8), layout="NLC"), FixedTokens)

    assert blueprint.wants == "NLC"
    assert blueprint.choices[-1].reason == "the only layout in which it runs"


@pytest.mark.parametrize(
    ("cls", "args", "messages"),
    [
        (
            Needy,
            {"rato": 2},
            [
                "net:Needy has no argument 'rato'; did you mean 'ratio'?",
                "net:Needy needs 'ratio', which is not given and cannot be read from the site",
                "net:Needy needs 'heads', which is not given and cannot be read from the site",
            ],
        ),
        (Second, {"groups": "auto"}, ["'groups' of net:Second cannot be read from the site"]),
        (nn.GELU, {"zzz": 1}, ["net:GELU has no argument 'zzz'; it has approximate"]),
        (ValueReader, {"zzz": 1}, ["net:ValueReader has no argument 'zzz'; it takes none"]),
    ],
)
def test_arguments_that_do_not_fit_the_class_are_reported_at_once(
    cls: type[nn.Module], args: dict[str, Any], messages: list[str]
) -> None:
    with pytest.raises(RecipeError) as error:
        fit(site(tensor(1, 8, 4, 6)), cls, args)

    lines = [one.line() for one in error.value.all]
    assert len(lines) == len(messages)
    for line, message in zip(lines, messages, strict=True):
        assert line.startswith(f"stage.attn: {message}")


def test_class_that_takes_any_argument_gets_what_is_given() -> None:
    assert fit(site(tensor(1, 8, 4, 6)), Open, {"x": 1}).args == {"x": 1, "dim": 8}


@pytest.mark.parametrize(
    ("place", "cls", "args", "message"),
    [
        (site(), Last, {}, "the dummy forward never calls it"),
        (
            site(tensor(1, 8, 4, 6)),
            Choosy,
            {},
            r"net:Choosy\(dim=8\) raised AssertionError: 8 is not what I want; correct `args`",
        ),
        (
            site(tensor(1, 8, 4, 6)),
            Second,
            {"channels": 5},
            r"net:Second does not take \(1, 8, 4, 6\): as NCHW: it raises RuntimeError: .*5",
        ),
        (
            site(tensor(1, 8, 4, 6), layout=None, reason="nothing tells"),
            Last,
            {},
            r"the layout of \(1, 8, 4, 6\) is unknown \(nothing tells\)",
        ),
        (
            site(call(tensor(1, 8, 4, 6), tensor(1, 1))),
            Last,
            {},
            r"net:Last takes \(x: .*, the site is called as \(\(1, 8, 4, 6\), \(1, 1\)\)",
        ),
        (
            site(call(tensor(1, 8, 4, 6), state=Plain("Cache", "<Cache>"))),
            Open,
            {},
            "net:Open takes .*; add `{use_cache: false}` to the kwargs of the dummy input",
        ),
        (
            site(call(tensor(1, 8, 4, 6), Plain("Cache", "<Cache>"))),
            Second,
            {},
            "NLC: an input of class Cache cannot be made; add `{use_cache: false}` to the ",
        ),
        (
            site(call(tensor(1, 8, 4, 6), output=tensor(1, 8))),
            Second,
            {},
            r"turns \(1, 8, 4, 6\) into \(1, 8\), the new module into \(1, 8, 4, 6\)",
        ),
        (
            site(tensor(4, 8), layout=None),
            nn.Linear,
            {"in_features": 8, "out_features": 5},
            r"net:Linear: the site turns \(4, 8\) into \(4, 8\), the new module into \(4, 5\)",
        ),
        (
            site(call(tensor(1, 8, 4, 6), output=NONE)),
            Sized,
            {"c1": 8},
            "its output None is no map, so its channels are unknown",
        ),
        (
            site(tensor(1, 8, 4, 6), tensor(1, 8, 4, 4)),
            Sized,
            {},
            r"needs 'input_resolution', and the site has no single one: \(1, 8, 4, 6\), \(1, 8, 4",
        ),
    ],
)
def test_what_cannot_be_fitted_is_refused_at_its_path(
    place: Site, cls: type[nn.Module], args: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModswapError, match=rf"^stage\.attn: .*{message}"):
        fit(place, cls, args)


def test_other_channels_need_the_rules_word() -> None:
    place = site(tensor(1, 8, 4, 6))
    args = {"kernel_size": 1, "out_channels": 3}

    with pytest.raises(ShapeError, match="set `adapt: true` in its rule"):
        fit(place, nn.Conv2d, args)
    blueprint = fit(place, nn.Conv2d, args, adapt=True)

    assert blueprint.adaptation == Adaptation(3, 8)
    assert construct(blueprint, nn.Conv2d)(torch.randn(1, 8, 4, 6)).shape == (1, 8, 4, 6)


def test_stride_and_tuple_of_the_site_are_given_by_adaptation() -> None:
    output = group(tensor(1, 8, 2, 3), NONE)
    place = site(call(tensor(1, 8, 4, 6), output=output))

    blueprint = fit(place, Last, adapt=True)
    y, none = construct(blueprint, Last)(torch.randn(1, 8, 4, 6))

    assert blueprint.adaptation == Adaptation(8, 8, (2, 2), "tuple", 2)
    assert (tuple(y.shape), none) == ((1, 8, 2, 3), None)


def test_class_with_the_sites_own_stride_needs_no_adaptation() -> None:
    place = site(call(tensor(1, 8, 8, 8), output=tensor(1, 16, 4, 4)))

    blueprint = fit(place, nn.Conv2d, {"kernel_size": 3, "stride": 2, "padding": 1})

    assert blueprint.fits
    assert blueprint.args["out_channels"] == 16


def test_inputs_that_the_class_takes_are_passed_and_others_dropped() -> None:
    place = site(call(tensor(1, 8, 4, 6), mask=tensor(1, 8, 4, 6)))
    assert fit(place, Second).fits

    silent = site(call(tensor(1, 8, 4, 6), mask=NONE))
    assert fit(silent, Second).ignores == ()
    assert fit(silent, nn.Identity).ignores == ("mask",)


def test_map_under_another_keyword_is_given_by_position() -> None:
    other = fit(site(call(hidden_states=tensor(1, 8, 4, 6))), Second)
    same = fit(site(call(x=tensor(1, 8, 4, 6))), Second)

    assert (other.keyword, same.keyword) == ("hidden_states", "")
    x = torch.randn(1, 8, 4, 6)
    assert construct(other, Second)(hidden_states=x).shape == x.shape


def test_tokens_with_their_size_in_the_call_become_a_map() -> None:
    place = site(call(tensor(1, 24, 8), number(4), number(6)), layout="NLC")

    class Mapped(Second):
        def forward(self, x: torch.Tensor, *size: int) -> torch.Tensor:  # type: ignore[override] # on purpose
            return super().forward(x.reshape(1, 8, *size))

    assert fit(place, Mapped).wants == "NCHW"


def test_class_that_reads_values_is_tried_on_real_ones() -> None:
    assert fit(site(tensor(1, 8, 4, 6)), ValueReader).wants == "NCHW"


def test_inputs_in_containers_are_made_up() -> None:
    class Many(nn.Module):
        def forward(self, x: torch.Tensor, shapes: Any, names: Any, table: Any) -> torch.Tensor:
            assert (shapes, names[0].shape, table["k"]) == ((4, 6), (1,), 2.5)
            return x + 1

    table = group(Plain("float", "2.5"), kind="dict")
    named = type(table)("dict", ("k",), table.items)
    others = (group(number(4), number(6)), group(tensor(1), kind="list"), named)

    assert fit(site(call(tensor(1, 8, 4, 6), *others)), Many).wants == "NCHW"


class Containers(nn.Module):
    """Returns its map inside a given container."""

    def __init__(self, container: str) -> None:
        super().__init__()
        self.container = container

    def forward(self, x: torch.Tensor) -> Any:
        if self.container == "pair":
            return x + 1, None
        return {"map": x + 1, "kept": 3} if self.container == "dict" else range(3)


def test_containers_that_the_class_gives_itself_are_compared() -> None:
    x = tensor(1, 8, 4, 6)
    table = Group("dict", ("map", "kept"), (x, number(3)))

    assert fit(site(call(x, output=group(x, NONE))), Containers, {"container": "pair"}).fits
    assert fit(site(call(x, output=table)), Containers, {"container": "dict"}).fits
    with pytest.raises(ShapeError, match=r"\(1, 8, 4, 6\), the new module into tuple\[\(1, 8"):
        fit(site(x), Containers, {"container": "pair"}, adapt=True)
    with pytest.raises(ShapeError, match=r"the new module into <range>"):
        fit(site(x), Containers, {"container": "none"})


def test_input_in_an_unknown_container_cannot_be_made_up() -> None:
    place = site(call(tensor(1, 8, 4, 6), group(NONE, kind="Boxes")))

    with pytest.raises(ShapeError, match="an input of class Boxes cannot be made"):
        fit(place, Second)


def test_trying_leaves_the_random_state_alone() -> None:
    before = torch.random.get_rng_state()

    fit(site(tensor(1, 8, 4, 6)), nn.Dropout2d, {"p": 0.5})
    fit(site(tensor(1, 8, 4, 6)), Second)

    assert torch.equal(torch.random.get_rng_state(), before)


def test_layers_that_keep_other_states_are_advised_to_return_the_same() -> None:
    states = group(tensor(1, 2, 16), tensor(1, 2, 16))
    place = site(call(tensor(2, 9, 16), output=group(tensor(2, 9, 16), states)), layout="NLC")
    args = {"input_size": 16, "hidden_size": 16, "batch_first": True}
    wanted = re.escape(f"; choose a class that gives {place.calls[0].output}, as the replaced one ")

    with pytest.raises(ShapeError, match=rf"{wanted}does, and not tuple\[\(2, 9, 16\), \(1, 2, 1"):
        fit(place, nn.GRU, args, adapt=True)
    with pytest.raises(ShapeError, match=wanted):
        fit(replace(place, layout=None), nn.GRU, args)
    with pytest.raises(ShapeError, match=r"makes up for that: choose a class that gives tuple\["):
        fit(place, nn.Linear, {"in_features": 16, "out_features": 16}, adapt=True)
