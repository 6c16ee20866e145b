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


GRIDS = [
    (16, ((4, 4), (2, 8)), "4x4"),
    (16, ((2, 8),), "16 tokens are a map of 2x8, which the call does not say"),
    (15, ((3, 5),), "15 tokens are a map of 3x5, which the call does not say"),
    (16, ((3, 5),), r"they look like 3x5 \+ 1 \(a class token\)"),
    (16, ((40, 40), (1, 4)), "4x4"),
    (20, ((4, 4),), r"they look like 4x4 \+ 4 \(class or register tokens\)"),
]


@pytest.mark.parametrize(("tokens", "grids", "told"), GRIDS)
def test_tokens_are_laid_out_as_the_map_that_they_were_seen_to_come_from(
    tokens: int, grids: tuple[tuple[int, int], ...], told: str
) -> None:
    place = replace(site(tensor(1, tokens, 8), layout="NLC"), grids=grids)

    if told == "4x4":
        assert read_inputs(place).sizes == (Size(8, 4, 4),)
        return
    with pytest.raises(ShapeError, match=told):
        read_inputs(place)


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
        (site(tensor(1, 280, 8), layout="NLC"), "280 tokens are no square, and the call does not"),
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
