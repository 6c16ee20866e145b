"""Verdicts: outputs of a model before a swap compared with those after it."""

from dataclasses import replace

import pytest

from modswap.core.decided.verdict import CaseKey, Pass, Visit, judge, lost_format
from modswap.core.finding import Finding
from modswap.core.seen.site import Call
from modswap.core.seen.values import NONE, Group, TensorInfo, Value

X = TensorInfo((1, 8, 4, 4))
Y = TensorInfo((1, 8, 2, 2))
STATES = Group("tuple", ("0", "1"), (X, Group("tuple", ("0", "1"), (Y, Y))))
KEY = CaseKey("(1, 8, 4, 4)")


def call(output: Value = X) -> Call:
    return Call((X,), (), output)


def visits(*outputs: tuple[str, Value]) -> tuple[Visit, ...]:
    return tuple(Visit(path, call(output)) for path, output in outputs)


INSIDE = Visit("gate.0", call(), ("gate",))
BEFORE = Pass(KEY, (*visits(("a", X)), INSIDE, *visits(("gate", X), ("head", X))), X, True)
AFTER = replace(BEFORE, visits=visits(("a", X), ("gate", X), ("head", X)))


def problems(after: Pass, before: Pass = BEFORE) -> tuple[Finding, ...]:
    return judge([before], [after], ["gate"]).problems


def test_same_shapes_hold() -> None:
    verdict = judge([BEFORE], [AFTER], ["gate"])

    assert verdict.ok
    assert verdict.finite is True
    assert verdict.cases[0].ok


def test_first_module_whose_output_changed_is_named() -> None:
    changed = visits(("a", X), ("gate", X), ("head", Y), ("tail", Y))
    before = replace(BEFORE, visits=(*BEFORE.visits, *visits(("tail", X))))

    (first,) = problems(replace(AFTER, visits=changed), before)

    assert first == Finding(
        "pass", "head", "failed", "output was (1, 8, 4, 4), is now (1, 8, 2, 2)"
    )


def test_site_that_changed_its_own_shape_gets_advice() -> None:
    (first,) = problems(replace(AFTER, visits=visits(("a", X), ("gate", Y))))

    assert first.path == "gate"
    assert "adapt: true" in first.fix


def test_every_call_is_compared_with_the_same_call_before() -> None:
    twice = replace(BEFORE, visits=visits(("gate", X), ("gate", Y)))

    assert judge([twice], [twice], ["gate"]).ok
    wrong = replace(twice, visits=visits(("gate", X), ("gate", X)))
    assert problems(wrong, twice)[0].what == "output was (1, 8, 2, 2), is now (1, 8, 4, 4)"


def test_module_shared_with_the_inside_of_a_site_is_compared_by_its_other_calls() -> None:
    act = (Visit("act", call(Y), ("gate",)), Visit("act", call()))
    before = replace(BEFORE, visits=(*act[:1], *visits(("gate", X)), *act[1:]))

    assert not problems(replace(AFTER, visits=(*visits(("gate", X)), *act[1:])), before)


def test_site_that_is_not_reached_any_more_fails() -> None:
    (first,) = problems(replace(AFTER, visits=visits(("a", X))))

    assert first.what == "was called 1 times, is now called 0 times"


def test_site_that_was_never_reached_fails() -> None:
    unseen = replace(BEFORE, visits=visits(("a", X)))

    assert problems(unseen, unseen)[0].what == "was called 0 times, is now called 0 times"


def test_exception_inside_the_site_blames_its_args() -> None:
    raised = Pass(KEY, (), None, None, "ValueError: dim 8", "gate.qkv")

    (first,) = problems(raised)

    assert first.path == "gate.qkv"
    assert first.what == "the forward pass raised ValueError: dim 8"
    assert "does not take its site's inputs" in first.fix


def test_attribute_of_the_replaced_module_that_its_parent_reads_is_named() -> None:
    error = "AttributeError: 'SiteAdapter' object has no attribute 'batch_first'"

    (first,) = problems(Pass(KEY, (), None, None, error, "", "batch_first", "gate"))

    assert first.what == f"the forward pass raised {error}"
    assert first.fix.startswith(
        "the module around reads `.batch_first` of the module that was replaced: "
        "keep 'gate' out with `exclude`, or swap in a class that has it"
    )


@pytest.mark.parametrize(("place", "at"), [("gate", "gate"), ("head", "head")])
def test_attribute_that_is_missing_elsewhere_gets_the_usual_advice(place: str, at: str) -> None:
    (first,) = problems(Pass(KEY, (), None, None, "AttributeError: x", place, "x", at))

    assert "does not take its" in first.fix


def test_exception_behind_the_site_blames_what_follows() -> None:
    (first,) = problems(Pass(KEY, (), None, None, "RuntimeError: size", "head"))

    assert "a module behind the swap" in first.fix


@pytest.mark.parametrize(
    ("changed", "advice"),
    [
        ((), "choose args that keep those of the old one, or replace 'head' too"),
        (("gate",), "keep the sizes of the old one, or replace 'head' too"),
    ],
)
def test_exception_behind_the_site_names_the_site_that_changed(
    changed: tuple[str, ...], advice: str
) -> None:
    seen = visits(("a", X), ("gate", Y))
    after = replace(AFTER, visits=seen, output=None, error="bad", raised_in="head")

    found = judge([BEFORE], [after], ["a", "gate"], changed).problems

    (first,) = (one for one in found if "behind the swap" in one.fix)
    assert f"'gate' gave {X}, now gives {Y}; {advice}" in first.fix


def test_exception_behind_sites_of_the_same_shapes_names_them() -> None:
    after = replace(AFTER, visits=visits(("gate", X)), output=None, error="bad", raised_in="")

    (first,) = judge([BEFORE], [after], ["gate"]).problems

    assert first.fix.endswith(
        "leave out the site that feeds it, of 'gate', or change the model's forward"
    )


def test_model_output_of_another_structure_fails() -> None:
    (first,) = problems(replace(AFTER, output=Group("tuple", ("0",), (X,))))

    assert first.what == "output was (1, 8, 4, 4), is now tuple[(1, 8, 4, 4)]"


def test_output_that_became_infinite_fails() -> None:
    verdict = judge([BEFORE], [replace(AFTER, finite=False)], ["gate"])

    assert verdict.finite is False
    assert verdict.problems[0].what == "output is not finite any more"


def test_output_that_was_not_finite_before_is_not_blamed_on_the_swap() -> None:
    before = replace(BEFORE, finite=False)

    assert not problems(replace(AFTER, finite=False), before)


def test_pass_without_values_says_nothing_of_finite() -> None:
    assert judge([BEFORE], [replace(AFTER, finite=None)], ["gate"]).finite is None


def test_same_problem_in_two_cases_is_reported_once() -> None:
    broken = replace(AFTER, output=Y)
    verdict = judge([BEFORE, BEFORE], [broken, broken], ["gate"])

    assert len(verdict.problems) == 1
    assert not verdict.ok
    assert str(verdict.cases[0].key) == "(1, 8, 4, 4) eval float32"


def test_site_that_returns_another_order_of_axes_is_advised_to_return_the_batch_first() -> None:
    turned = visits(("a", X), ("gate", TensorInfo((8, 1, 4, 4))))

    (first,) = problems(replace(AFTER, visits=turned))

    assert first.fix == "its axes are in another order: return the batch first, as in its input"


def test_site_that_returns_another_dtype_is_advised_to_keep_it() -> None:
    half = TensorInfo(X.shape, "bfloat16")
    before = replace(BEFORE, visits=visits(("a", half), ("gate", half), ("head", half)))

    (first, *_) = problems(replace(AFTER, visits=visits(("a", half), ("gate", X))), before)

    assert first.fix == "it gives float32: end its forward with `.to(x.dtype)`"


def test_site_that_returns_another_container_is_advised_to_adapt() -> None:
    pair = Group("tuple", ("0", "1"), (X, NONE))
    before = replace(BEFORE, visits=visits(("a", X), ("gate", pair), ("head", X)))

    (first, *_) = problems(replace(AFTER, visits=visits(("a", X), ("gate", X))), before)

    assert first.fix.startswith("set `adapt: true` on its rule")


@pytest.mark.parametrize(
    ("was", "now"), [(STATES, X), (X, STATES), (STATES, Group("tuple", ("0", "1"), (X, X)))]
)
def test_another_structure_needs_a_class_that_returns_the_same(was: Value, now: Value) -> None:
    before = replace(BEFORE, visits=visits(("a", X), ("gate", was), ("head", X)))

    (first, *_) = problems(replace(AFTER, visits=visits(("a", X), ("gate", now))), before)

    wanted = f"choose a class that gives {was}, as the replaced one does, and not {now}"
    assert first.fix == wanted


def test_difference_is_reported_before_the_exception_that_follows_from_it() -> None:
    raised = Pass(KEY, visits(("gate", Y)), None, None, "RuntimeError: size", "head")

    assert [one.path for one in problems(raised)] == ["gate", "head"]


def lying(*ways: tuple[str, str]) -> Pass:
    """Return a pass in which modules return maps of some memory formats."""
    return Pass(KEY, tuple(Visit(path, call(), (), lies) for path, lies in ways), X)


LAST = lying(("a", "channels_last"), ("gate", "channels_last"), ("head", "channels_last"))


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        (LAST, LAST, None),
        (LAST, lying(("a", "channels_last"), ("gate", "contiguous"), ("head", "other")), "gate"),
        (LAST, lying(("gate", ""), ("head", "other")), "head"),
        (lying(("gate", "contiguous")), lying(("gate", "other")), None),
        (lying(("gate", "")), lying(("gate", "contiguous")), None),
        (LAST, lying(("gate", "channels_last"), ("gate", "contiguous"), ("new", "other")), None),
    ],
)
def test_first_module_that_loses_channels_last_is_named(
    before: Pass, after: Pass, lost: str | None
) -> None:
    assert lost_format(before, after, {"gate"}) == lost


def test_memory_formats_inside_a_site_do_not_matter() -> None:
    inner = Visit("gate.0", call(), ("gate",), "contiguous")

    assert lost_format(LAST, replace(LAST, visits=(inner, *LAST.visits)), {"gate"}) is None
