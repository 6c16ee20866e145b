"""Reading the map and the other inputs of a site."""

from dataclasses import replace

import pytest

from modswap.core.errors import ShapeError
from modswap.core.seen.site import Call, Layout, Site
from modswap.core.seen.values import Plain
from modswap.nn.fit.inputs import Size, read_inputs
from tests.nn.sites import NONE, call, group, number, site, tensor


@pytest.mark.parametrize(
    ("shape", "layout", "size"),
    [
        ((1, 8, 5, 7), "NCHW", Size(8, 5, 7)),
        ((1, 5, 7, 8), "NHWC", Size(8, 5, 7)),
        ((1, 49, 8), "NLC", Size(8, 7, 7)),
    ],
)
def test_sizes_are_read_by_layout(shape: tuple[int, ...], layout: Layout, size: Size) -> None:
    inputs = read_inputs(site(tensor(*shape), layout=layout))

    assert inputs.sizes == (size,)
    assert inputs.layout == layout
    assert inputs.ignores == ()


@pytest.mark.parametrize(
    ("one", "ignores"),
    [
        (call(tensor(1, 24, 8), number(4), number(6)), ("1", "2")),
        (call(tensor(1, 24, 8), group(number(4), number(6))), ("1",)),
        (call(tensor(1, 24, 8), size=group(number(4), number(6), kind="Size")), ("size",)),
        (call(tensor(1, 24, 8), NONE, H=number(4), W=number(6)), ("1", "H", "W")),
    ],
)
def test_height_and_width_of_tokens_come_from_the_call(one: Call, ignores: tuple[str, ...]) -> None:
    inputs = read_inputs(site(one, layout="NLC"))

    assert inputs.sizes == (Size(8, 4, 6),)
    assert inputs.ignores == ignores


@pytest.mark.parametrize(
    ("layer", "fix"),
    [
        ("LNC", "build the model with `batch_first=True`"),
        ("NCL", "such as `torch.nn:Conv1d`"),
        ("", "set `layout: NLC`"),
    ],
)
def test_fix_of_an_unknown_layout_is_none_that_mixes_samples(layer: str, fix: str) -> None:
    unknown = replace(site(tensor(9, 2, 8)), layout=None, other_layout=layer)

    with pytest.raises(ShapeError) as error:
        read_inputs(unknown)

    assert fix in error.value.fix


def tokens_of(count: int, grid: tuple[int, int] | None, *maps: tuple[int, int]) -> Site:
    """Return a site of tokens that come from a map, or not, with further maps before it."""
    one = call(tensor(1, count, 8))
    one = replace(one, grids=(("0", grid),) if grid else ())
    return replace(site(one, layout="NLC", flattened=False), grids=maps)


def test_tokens_of_a_square_map_are_that_map() -> None:
    assert read_inputs(tokens_of(16, (4, 4), (2, 8))).sizes == (Size(8, 4, 4),)


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (tokens_of(16, None), "16 tokens do not come from a map that was flattened"),
        (tokens_of(1, None), "1 tokens do not come from a map that was flattened"),
        (tokens_of(16, None, (4, 4)), "16 tokens do not come from a map that was flattened"),
        (tokens_of(16, None, (3, 5)), r"they look like 3x5 \+ 1 \(a class token\)"),
        (tokens_of(20, None, (4, 4)), r"they look like 4x4 \+ 4 \(class or register tokens\)"),
        (tokens_of(17, None), r"they look like 4x4 \+ 1 \(a class token\)"),
        (tokens_of(16, (2, 8)), "16 tokens are a map of 2x8, which the call does not say"),
        (tokens_of(15, (3, 5)), r"15 tokens are a map .* set `grid: \[3, 5\]` in its rule"),
        (replace(tokens_of(16, (4, 4)), grid=(3, 5)), "`grid` is 3x5, and the site is given 16"),
        (replace(site(tensor(1, 8, 4, 4)), grid=(4, 4)), "says `grid`, and it is given maps of 4x"),
    ],
)
def test_tokens_that_are_not_seen_to_be_a_square_map_are_refused(place: Site, told: str) -> None:
    with pytest.raises(ShapeError, match=told):
        read_inputs(place)


def test_rule_says_which_map_the_tokens_are() -> None:
    place = replace(tokens_of(24, None), grid=(4, 6))

    assert read_inputs(place).sizes == (Size(8, 4, 6),)
    assert read_inputs(place, any_length=True).sizes == (Size(8, 4, 6),)


def test_tokens_that_need_not_be_a_map_are_a_row() -> None:
    place = replace(site(tensor(1, 17, 8), layout="NLC"), grids=((4, 4),))

    assert read_inputs(place, any_length=True).sizes == (Size(8, 17, 1),)


def test_inputs_that_say_nothing_in_any_call_are_dropped() -> None:
    first = call(tensor(1, 4, 8, 8), mask=NONE)
    second = call(tensor(1, 4, 4, 4), mask=NONE, output_attentions=Plain("bool", "False"))

    inputs = read_inputs(site(first, second))

    assert inputs.ignores == ("mask", "output_attentions")
    assert inputs.sizes == (Size(4, 8, 8), Size(4, 4, 4))


def test_map_that_comes_by_keyword_is_found() -> None:
    inputs = read_inputs(site(call(hidden_states=tensor(1, 4, 8, 8), mask=NONE)))

    assert inputs.keyword == "hidden_states"
    assert inputs.ignores == ("mask",)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (site(), r"stage\.attn: the dummy forward never calls it; give an input"),
        (
            site(tensor(1, 4, 8, 8), layout=None, reason="no layer tells"),
            r"layout of \(1, 4, 8, 8\) is unknown \(no layer tells\); set `layout: NCHW` or `layo",
        ),
        (
            site(tensor(1, 9, 8), layout=None),
            r"layout of \(1, 9, 8\) is unknown; set `layout: NLC`",
        ),
        (site(tensor(1, 9, 8)), r"it is given \(1, 9, 8\), which is not NCHW; set `layout: NLC`"),
        (site(tensor(1, 9)), r"given \(1, 9\), expected a map of 4 axes or tokens of 3"),
        (
            site(tensor(1, 4, 8, 8), tensor(1, 6, 8, 8)),
            r"calls differ in channels: .*\(1, 4, 8, 8\)\) -> .* and \(\(1, 6, 8, 8\)\) -> ",
        ),
        (
            site(tensor(1, 197, 8), layout="NLC"),
            r"197 tokens are no map: they look like 14x14 \+ 1 \(a class token\)",
        ),
        (site(tensor(1, 201, 8), layout="NLC"), r"14x14 \+ 5 \(class or register tokens\)"),
        (
            site(tensor(1, 280, 8), layout="NLC"),
            "280 tokens do not come from .*, and the call does",
        ),
        (
            site(call(tensor(1, 4, 8, 8), tensor(1, 8))),
            r"also given input 1, \(1, 8\), .* not take: \(\(1, 4, 8, 8\), \(1, 8\)\) -> ",
        ),
        (
            site(call(tensor(1, 4, 8, 8), past=Plain("DynamicCache", "<DynamicCache>"))),
            "also given 'past', <Dynamic.*; add `{use_cache: false}` to the kwargs of the dummy in",
        ),
        (site(call(tensor(1, 4, 8, 8), size=number(8))), "also given 'size', 8, which"),
        (site(call(tensor(1, 4, 8, 8), number(8), number(9))), "also given input 1, 8, which"),
        (site(call(group(tensor(1, 4, 8, 8)))), r"first input is not a tensor: \(tuple\["),
        (site(call(NONE)), r"first input is not a tensor: \(None\)"),
    ],
)
def test_site_that_gives_no_plain_map_is_refused(place: Site, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        read_inputs(place)
