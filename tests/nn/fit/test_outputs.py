"""Comparing the map of a new module with the output of its site."""

import pytest

from modswap.core.decided.blueprint import Adaptation
from modswap.core.errors import OutputError, ShapeError
from modswap.core.seen.site import Call, Site
from modswap.core.seen.values import TensorInfo, Value
from modswap.nn.fit.inputs import Size, read_inputs
from modswap.nn.fit.outputs import as_head, judge_output, other_channels
from tests.nn.sites import NONE, call, group, site, tensor


def judged(place: Site, *, adapt: bool = True) -> Adaptation | None:
    inputs = read_inputs(place)
    return judge_output(place, inputs.layout, inputs.sized_maps, adapt=adapt)


@pytest.mark.parametrize("adapt", [False, True])
def test_nothing_follows_where_the_site_keeps_its_map(adapt: bool) -> None:
    assert judged(site(tensor(1, 4, 8, 8), tensor(1, 4, 6, 9)), adapt=adapt) is None


ADAPTED = "set `adapt: true` in its rule"
WIDER = call(tensor(1, 8, 9, 8), output=tensor(1, 16, 9, 8))
HALVED = call(tensor(1, 8, 9, 8), output=tensor(1, 8, 5, 4))
HALVED_AGAIN = call(tensor(1, 8, 4, 4), output=tensor(1, 8, 2, 2))
FLATTER = call(tensor(1, 8, 9, 8), output=tensor(1, 16, 9, 4))
PAIR = call(tensor(1, 8, 9, 8), output=group(tensor(1, 8, 9, 8), NONE, NONE))
MERGED = call(tensor(1, 16, 8), output=tensor(1, 4, 32))


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (site(WIDER), Adaptation(8, 16)),
        (site(HALVED), Adaptation(8, 8, (2, 2))),
        (site(HALVED, HALVED_AGAIN), Adaptation(8, 8, (2, 2))),
        (site(HALVED_AGAIN), Adaptation(8, 8, (2, 2))),
        (site(FLATTER), Adaptation(8, 16, (1, 2))),
        (site(PAIR), Adaptation(8, 8, (1, 1), "tuple", 3)),
        (site(MERGED, layout="NLC"), Adaptation(8, 32, (2, 2))),
    ],
)
def test_projection_pooling_or_tuple_follows_if_the_rule_allows(
    place: Site, expected: Adaptation
) -> None:
    assert judged(place) == expected


@pytest.mark.parametrize("one", [WIDER, HALVED, PAIR])
def test_other_output_is_refused_with_both_shapes_unless_the_rule_allows(one: Call) -> None:
    with pytest.raises(ShapeError) as error:
        judged(site(one), adapt=False)

    text = str(error.value)
    assert (
        f"the site turns (1, 8, 9, 8) into {one.output}, the new module into (1, 8, 9, 8)" in text
    )
    assert text.startswith("stage.attn: ")
    assert text.endswith("set `adapt: true` in its rule")


@pytest.mark.parametrize(
    "output",
    [
        tensor(1, 8, 18, 16),
        tensor(1, 8, 5, 5),
        tensor(1, 8, 8),
        tensor(2, 8, 9, 8),
        TensorInfo((1, 8, 9, 8), "float16"),
        group(tensor(1, 8, 9, 8), tensor(1, 8)),
        group(tensor(1, 8, 9, 8), NONE, kind="list"),
        NONE,
    ],
    ids=str,
)
def test_output_that_nothing_makes_up_for_is_refused(output: TensorInfo) -> None:
    with pytest.raises(ShapeError, match="no projection or pooling makes up for that"):
        judged(site(call(tensor(1, 8, 9, 8), output=output)))


@pytest.mark.parametrize("other", [call(tensor(1, 8, 9, 8)), PAIR])
def test_calls_that_change_in_different_ways_are_refused(other: Call) -> None:
    with pytest.raises(ShapeError, match=r"differ in how they change it: .* and "):
        judged(site(HALVED, other))


@pytest.mark.parametrize(
    ("is_last", "named", "fix"),
    [
        (
            True,
            8,
            f"set `output: changed` in its rule, as for a new head; to keep its output: {ADAPTED}",
        ),
        (True, 4, f"{ADAPTED}; or set `output: changed` in its rule, as for a new head"),
        (None, 8, f"{ADAPTED}; or set `output: changed` in its rule, as for a new head"),
        (False, 8, ADAPTED),
    ],
)
def test_output_may_change_where_nothing_reads_it(
    is_last: bool | None, named: int, fix: str
) -> None:
    with pytest.raises(OutputError) as error:
        judged(site(WIDER), adapt=False)

    said = as_head(error.value, is_last=is_last, named=["no", True, named])

    assert said.fix == fix
    assert said.settings == error.value.settings == (("adapt", True),)


def test_output_of_another_structure_is_no_head() -> None:
    with pytest.raises(OutputError) as error:
        judged(site(PAIR), adapt=False)

    assert as_head(error.value, is_last=True, named=[8]) is error.value


def test_other_type_is_mended_in_the_module() -> None:
    wrong = TensorInfo((1, 16, 9, 8), "float64")

    with pytest.raises(OutputError) as error:
        judge_output(site(WIDER), "NCHW", [(wrong, Size(16, 9, 8))], adapt=True)

    assert error.value.fix == "it gives float64: end its forward with `.to(x.dtype)`"


@pytest.mark.parametrize(
    ("after", "alone"),
    [
        (tensor(1, 7, 9, 8), True),
        (tensor(1, 7, 7, 8), False),
        (tensor(1, 7, 9), False),
        (group(tensor(1, 8, 9, 8)), False),
    ],
)
def test_channels_are_one_axis(after: Value, alone: bool) -> None:
    assert other_channels(tensor(1, 8, 9, 8), after) == alone
