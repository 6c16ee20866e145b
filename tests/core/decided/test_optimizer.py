"""The parameter of each state of an optimizer: found with certainty, or not at all."""

from collections.abc import Sequence

import pytest

from modswap.core.decided.optimizer import Parameter, ParameterGroup, regroup

BEFORE = (
    Parameter("stem.weight", (8, 3)),
    Parameter("stem.bias", (8,)),
    Parameter("gate.weight", (8, 8)),
    Parameter("norm.weight", (8,)),
    Parameter("norm.bias", (8,)),
    Parameter("head.weight", (2, 8)),
    Parameter("head.bias", (2,)),
)
AFTER = (
    *BEFORE[:2],
    Parameter("gate.weight", (8, 8)),  # the old one's name and shape
    Parameter("gate.bias", (8,)),
    *BEFORE[3:],
)
SWAPPED = ("gate.",)
IDS = range(7)


def moments(order: Sequence[int]) -> dict[int | str, list[tuple[int, ...]]]:
    return {number: [BEFORE[place].shape, ()] for number, place in enumerate(order)}


def test_new_parameter_of_an_old_name_and_shape_has_no_state() -> None:
    done = regroup([ParameterGroup(tuple(IDS))], moments(IDS), BEFORE, AFTER, SWAPPED)

    assert done is not None
    assert done.groups == (tuple(p.name for p in AFTER),)
    assert "gate.weight" not in done.ids
    assert done.ids["norm.weight"] == 3
    assert done.fresh == ("gate.weight", "gate.bias")


@pytest.mark.parametrize(
    ("sizes", "order", "groups"),
    [
        ((3, 4), (0, 2, 5, 1, 3, 4, 6), (("stem", "gate", "head"), ("stem", "gate", "norm"))),
        ((3, 3, 1), (1, 4, 6, 0, 2, 5, 3), (("stem", "gate", "norm"), ("stem", "gate", "head"))),
        ((2, 5), (0, 1, 2, 3, 4, 5, 6), (("stem", "stem"), ("gate", "gate", "norm"))),
    ],
    ids=["decay", "kinds", "parts"],
)
def test_usual_ways_of_grouping_are_recognised(
    sizes: tuple[int, ...], order: tuple[int, ...], groups: tuple[tuple[str, ...], ...]
) -> None:
    numbers = iter(IDS)
    given = [ParameterGroup(tuple(next(numbers) for _ in range(size))) for size in sizes]

    done = regroup(given, moments(order), BEFORE, AFTER, SWAPPED)

    assert done is not None
    owners = [tuple(name.partition(".")[0] for name in group) for group in done.groups]
    for found, begin in zip(owners, groups, strict=False):
        assert found[: len(begin)] == begin


@pytest.mark.parametrize(
    ("groups", "shapes"),
    [
        ([ParameterGroup((0, 1, 2))], {}),
        ([ParameterGroup(tuple(IDS))], {0: [(9, 9)]}),
        ([ParameterGroup((0, 1, 2)), ParameterGroup((3, 4, 5, 6))], {}),  # cut in two, or by kind
        ([ParameterGroup(tuple(IDS), ("x",) * 7)], {}),
        ([ParameterGroup(("a.x", "a.y"))], {}),
        ([ParameterGroup(("a.stem.weight", "b.stem.bias"))], {}),
    ],
    ids=["count", "shape", "two ways", "unknown names", "foreign names", "two prefixes"],
)
def test_doubt_is_reported(
    groups: list[ParameterGroup], shapes: dict[int | str, list[tuple[int, ...]]]
) -> None:
    assert regroup(groups, shapes, BEFORE, AFTER, SWAPPED) is None


def test_names_decide_and_keep_an_order_of_their_own() -> None:
    names = tuple(p.name for p in BEFORE[::-1])

    done = regroup([ParameterGroup(tuple(IDS), names)], {}, BEFORE, AFTER, SWAPPED)

    assert done is not None
    kept = [name for name in names if name != "gate.weight"]
    assert done.groups == ((*kept, "gate.weight", "gate.bias"),)


def test_prefix_of_a_wrapper_is_passed_over() -> None:
    names = tuple(f"module.{p.name}" for p in BEFORE)

    done = regroup([ParameterGroup(names)], {}, BEFORE, AFTER, SWAPPED)

    assert done is not None
    assert done.ids["stem.bias"] == "module.stem.bias"


def test_only_trainable_parameters_may_have_been_given() -> None:
    before = (Parameter("stem.weight", (8, 3), trainable=False), *BEFORE[1:])
    after = (before[0], *AFTER[1:])
    held = {number: [p.shape] for number, p in enumerate(before[1:])}

    done = regroup([ParameterGroup(tuple(range(6)))], held, before, after, SWAPPED)  # type: ignore[arg-type] # invariant

    assert done is not None
    assert "stem.weight" not in done.groups[0]


def test_factored_moments_fit_their_parameters() -> None:
    before = (Parameter("a.weight", (4, 6)), Parameter("gate.weight", (2,)))
    held: dict[int | str, list[tuple[int, ...]]] = {
        0: [(4, 1), (1, 6), (4,), (6,), (1,)],
        1: [(2,)],
    }

    done = regroup([ParameterGroup((0, 1))], held, before, before, SWAPPED)

    assert done is not None
    assert done.ids == {"a.weight": 0}


def test_new_parameters_without_any_like_them_go_to_their_neighbours() -> None:
    before = (Parameter("gate.weight", (4, 4)), Parameter("head.weight", (2, 4)))
    after = (Parameter("gate.bias", (4,)), before[1])

    done = regroup(
        [ParameterGroup((0,)), ParameterGroup((1,))],
        {0: [(4, 4)], 1: [(2, 4)]},
        before,
        after,
        SWAPPED,
    )

    assert done is not None
    assert done.groups == (("gate.bias",), ("head.weight",))


def test_new_parameters_of_a_model_without_any_go_to_the_first_group() -> None:
    done = regroup([ParameterGroup(())], {}, (), (Parameter("gate.weight", (4,)),), SWAPPED)

    assert done is not None
    assert done.groups == (("gate.weight",),)
