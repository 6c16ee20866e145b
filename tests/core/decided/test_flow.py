"""The flow of tensors around a module."""

from modswap.core.decided.flow import MAX_NEIGHBOURS, Flow, Neighbour, edges_of, flows_of
from modswap.core.decided.verdict import Visit
from modswap.core.seen.site import Call
from modswap.core.seen.values import TensorInfo

MAP = TensorInfo((1, 8, 4, 4))


def visit(path: str, takes: tuple[str, ...] = (), around: tuple[str, ...] = ("",)) -> Visit:
    return Visit(path, Call((MAP,), (), MAP), around, takes=takes)


def test_neighbours_are_the_makers_and_the_outermost_takers_of_the_very_tensors() -> None:
    inner = visit("head.conv", ("site",), ("", "head"))
    visits = [visit("stem"), visit("site", ("stem",)), inner, visit("head", ("site",))]

    (flow,) = flows_of(visits, ["site", "never"])

    shape = "(1, 8, 4, 4)"
    assert flow == Flow("site", shape, shape, (Neighbour("stem"),), (Neighbour("head"),))


def test_operations_of_the_module_around_are_named_with_the_calls_beside() -> None:
    (flow,) = flows_of([visit("stem"), visit("site"), visit("head")], ["site"])

    assert flow.sources == (Neighbour("", inside=True, beside="stem"),)
    assert flow.targets == (Neighbour("", inside=True, beside="head"),)


def test_model_itself_has_nothing_around_it() -> None:
    (flow,) = flows_of([visit("", around=())], [""])

    assert flow.sources == flow.targets == (Neighbour("", inside=True),)


def test_inputs_of_two_makers_are_both_sources_and_many_takers_are_cut() -> None:
    two = Visit("site", Call((MAP, MAP, MAP), (), MAP), ("",), takes=("a", "b"))
    takers = [visit(f"t{n}", ("site",)) for n in range(9)]

    (flow,) = flows_of([visit("a"), visit("b"), two, *takers], ["site"])

    assert flow.sources == (
        Neighbour("a"), Neighbour("b"), Neighbour("", inside=True, beside="b"),
    )  # fmt: skip
    assert len(flow.targets) == MAX_NEIGHBOURS


def test_edges_join_the_innermost_modules() -> None:
    visits = [
        visit("stem.conv", (), ("", "stem")),
        visit("stem.act", ("stem.conv",), ("", "stem")),
        visit("stem"),
        visit("body.first", ("stem",), ("", "body")),
        visit("body", ("stem",)),
        visit("head", ("body",)),
        visit("", (), ()),
    ]

    assert edges_of(visits) == (
        ("stem.conv", "stem.act"), ("stem.act", "body.first"), ("body.first", "head"),
    )  # fmt: skip
