"""The properties of a site and its calls."""

import pytest

from modswap.core.seen.joint import Joint
from modswap.core.seen.site import Call, Extent, Layout, Site, extent, gated
from modswap.core.seen.values import NONE, Group, TensorInfo

X = TensorInfo((2, 8, 4, 6))
Y = TensorInfo((2, 9))


def test_first_tensor_is_found_among_all_inputs() -> None:
    inside = Group("list", ("0",), (X,))
    site = Site("a", "torch.nn.Conv2d", ("b",), (Call((NONE,), (("x", inside),), Y),))

    assert site.input == X
    assert site.output == Y
    assert site.paths == ("a", "b")
    assert site.short_class == "Conv2d"
    assert str(site.calls[0]) == "(None, x=list[(2, 8, 4, 6)]) -> (2, 9)"


def test_site_that_was_never_called_has_neither_input_nor_output() -> None:
    site = Site("a", "Conv2d")

    assert site.input is None
    assert site.output is None


def test_call_without_tensors_has_no_input() -> None:
    site = Site("a", "Conv2d", (), (Call((NONE,), (), Y),))

    assert site.input is None


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((2, 8, 4, 6), "NCHW", Extent(8, 4, 6, 24)),
        ((2, 8, 4, 6), "NHWC", Extent(6, 8, 4, 32)),
        ((2, 49, 8), "NLC", Extent(8, None, None, 49)),
        ((2, 49, 8), "NCHW", None),
        ((2, 8, 4, 6), "NLC", None),
    ],
)
def test_extent_reads_a_shape_by_its_layout(
    shape: tuple[int, ...], layout: Layout, expected: Extent | None
) -> None:
    assert extent(shape, layout) == expected


def test_tensors_that_are_one_object_are_named() -> None:
    pair = Group("tuple", ("0", "1"), (X, X))
    call = Call((X, NONE, pair, X), (("key", X), ("value", Y)), Y, (0, 1, 0, 0, 0, 5))

    assert call.repeats("0") == ("3", "key")
    assert call.repeats("value") == ()


def test_tensors_that_all_differ_repeat_nothing() -> None:
    call = Call((X, X), (("key", X),), Y)

    assert call.firsts == (0, 1, 2)
    assert call.repeats("0") == ()


@pytest.mark.parametrize(
    ("layout", "channels", "axes"),
    [("NCHW", 8, 2), ("NHWC", 6, 0), ("NLC", 1, 0), (None, 1, 0)],
)
def test_gate_has_a_number_for_each_channel_where_these_are_known(
    layout: Layout | None, channels: int, axes: int
) -> None:
    site = Site("a", "Conv2d", (), (Call((X,), (), X),), layout)

    joint = gated(site, Joint("after"), "add")

    assert (joint.form, joint.channels, joint.axes) == ("add", channels, axes)


def test_gate_of_a_site_that_was_never_called_is_one_number() -> None:
    assert gated(Site("a", "Conv2d"), Joint("after"), "scale").channels == 1


def test_map_of_the_tokens_of_an_input_is_known_by_its_name() -> None:
    call = Call((TensorInfo((2, 64, 8), "float32"),), (), NONE, grids=(("0", (8, 8)),))

    assert call.grid("0") == (8, 8)
    assert call.grid("1") is None
