"""Of a table of cases, few stay in the quick tests."""

from collections.abc import Mapping
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest

from tests.tiers import each_once, mark_others_slow

AXES = (pytest.mark.parametrize("a", "abcdef"), pytest.mark.parametrize(("b", "c"), ["xx", "yy"]))
TABLE = [*enumerate(product("abcdef", ["xx", "yy"]))]


class Case:
    """A case of a table, as far as its tier asks."""

    def __init__(self, number: int, values: Mapping[str, Any], mark: Any) -> None:
        self.nodeid = f"test_a.py::test[{number}]"
        self.callspec = SimpleNamespace(indices=dict.fromkeys(values, number), params=values)
        self.marks = {mark.name: mark.mark}

    def get_closest_marker(self, name: str) -> Any:
        return self.marks.get(name)

    def iter_markers(self, name: str) -> list[pytest.Mark]:
        return [axis.mark for axis in AXES if axis.name == name]

    def add_marker(self, mark: pytest.MarkDecorator) -> None:
        self.marks[mark.name] = mark.mark


def quick(mark: pytest.MarkDecorator) -> list[str]:
    """Return the cases that stay, of all of a table."""
    cases = [Case(n, {"a": a, "b": bc[0], "c": bc[1]}, mark) for n, (a, bc) in TABLE]
    plain: Any = SimpleNamespace(nodeid="test_a.py::test")
    mark_others_slow([*reversed(cases), plain])  # type: ignore[list-item] # enough of one
    return ["".join(case.callspec.params.values()) for case in cases if "slow" not in case.marks]


def test_each_value_of_each_axis_has_a_quick_case() -> None:
    places = [*product(range(4), range(3), range(2))]

    found = [places[number] for number in each_once(places)]

    assert [{*axis} for axis in zip(*found, strict=True)] == [{0, 1, 2, 3}, {0, 1, 2}, {0, 1}]
    assert len(found) == 4


def test_cases_that_are_left_out_are_marked() -> None:
    assert quick(pytest.mark.each_once) == ["axx", "byy", "cxx", "dxx", "exx", "fxx"]
    assert quick(pytest.mark.one_in(5)) == ["axx", "cyy", "fxx"]
    assert len(quick(pytest.mark.usefixtures("golden"))) == len(TABLE)
