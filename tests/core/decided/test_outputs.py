"""Outputs that a swap changes on purpose."""

import pytest

from modswap.core.decided.outputs import is_resized, resized_outputs, unexpected_outputs
from modswap.core.decided.verdict import CaseKey, Pass, Visit, judge
from modswap.core.seen.site import Call
from modswap.core.seen.values import Value
from tests.nn.sites import NONE, group, number, tensor

TEN, SEVEN, KEPT = tensor(2, 10), tensor(2, 7), tensor(2, 32)


@pytest.mark.parametrize(
    ("before", "after", "resized"),
    [
        (TEN, SEVEN, True),
        (TEN, TEN, True),
        (TEN, tensor(2, 10, 1), False),
        (TEN, tensor(2, 7, dtype="float16"), False),
        (TEN, group(TEN), False),
        (group(TEN, KEPT), group(SEVEN, KEPT), True),
        (group(TEN, KEPT), group(SEVEN), False),
        (group(TEN), group(TEN, kind="list"), False),
        (group(TEN, NONE), group(SEVEN, NONE), True),
        (group(TEN, NONE), group(SEVEN, number(1)), False),
    ],
)
def test_outputs_of_another_size_are_those_of_the_same_structure(
    before: Value, after: Value, resized: bool
) -> None:
    assert is_resized(before, after) is resized


def test_each_output_of_another_size_has_a_sentence() -> None:
    assert resized_outputs(TEN, SEVEN) == ("output was (2, 10), is now (2, 7)",)
    assert resized_outputs(group(KEPT, group(TEN)), group(KEPT, group(SEVEN))) == (
        "output[1][0] was (2, 10), is now (2, 7)",
    )
    assert resized_outputs(group(TEN, NONE), group(NONE, TEN)) == ()


@pytest.mark.parametrize(
    ("output", "name", "shape", "found"),
    [
        (TEN, "output", (2, 10), ""),
        (TEN, "output", (None, 10), ""),
        (TEN, "output", (2, 7), "output is (2, 10), expected (2, 7)"),
        (TEN, "output", (None, 10, 1), "output is (2, 10), expected (any, 10, 1)"),
        (group(KEPT, TEN), "1", (2, 10), ""),
        (group(KEPT, TEN), "output[1]", (2, 10), ""),
        (group(KEPT), "1", (2,), "there is no output '1' of (2): it gives output[0]"),
    ],
)
def test_outputs_are_compared_with_those_expected(
    output: Value, name: str, shape: tuple[int | None, ...], found: str
) -> None:
    assert unexpected_outputs(output, {name: shape}) == ((found,) if found else ())


def seen(*outputs: tuple[str, Value]) -> Pass:
    visits = tuple(Visit(path, Call((KEPT,), (), output)) for path, output in outputs)
    return Pass(CaseKey("(2, 3)"), visits, outputs[-1][1])


def test_outputs_behind_a_new_head_may_change_and_those_before_may_not() -> None:
    before = seen(("stem", KEPT), ("head", TEN), ("soft", TEN), ("", TEN))
    after = seen(("stem", KEPT), ("head", SEVEN), ("soft", SEVEN), ("", SEVEN))
    early = seen(("stem", tensor(2, 30)), ("head", SEVEN), ("soft", SEVEN), ("", SEVEN))
    other = seen(("stem", KEPT), ("head", SEVEN), ("soft", group(SEVEN)), ("", group(SEVEN)))

    verdict = judge([before], [after], ["head"], ["head"], {"output": (2, 7)})

    assert verdict.ok
    assert verdict.cases[0].changed == ("output was (2, 10), is now (2, 7)",)
    assert not judge([before], [after], ["head"]).ok
    assert [p.path for p in judge([before], [early], ["head"], ["head"]).problems] == ["stem"]
    assert [p.path for p in judge([before], [other], ["head"], ["head"]).problems] == ["soft", ""]
    (wrong,) = judge([before], [after], ["head"], ["head"], {"output": (2, 8)}).problems
    assert wrong.what == "output is (2, 7), expected (2, 8)"
    assert "verify.expect" in wrong.fix
