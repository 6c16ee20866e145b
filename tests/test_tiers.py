"""Of a table of cases, few stay in the quick tests."""

from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest

from tests.tiers import each_once, mark_others_slow


class Case:
    """A case of a table, as far as its tier asks."""

    def __init__(self, place: tuple[int, ...], *marks: pytest.MarkDecorator) -> None:
        self.nodeid = f"test_a.py::test[{place}]"
        self.callspec = SimpleNamespace(indices=dict(enumerate(place)))
        self.marks = {one.name: one.mark for one in marks}

    def get_closest_marker(self, name: str) -> Any:
        return self.marks.get(name)

    def add_marker(self, mark: pytest.MarkDecorator) -> None:
        self.marks[mark.name] = mark.mark


def quick(*cases: Any) -> int:
    mark_others_slow(reversed(cases))
    return sum("slow" not in case.marks for case in cases)


def test_each_value_of_each_axis_has_a_quick_case() -> None:
    places = [*product(range(4), range(3), range(2))]

    found = each_once(places)

    assert len(found) == 4
    assert [{place[axis] for place in found} for axis in range(3)] == [
        {0, 1, 2, 3},
        {0, 1, 2},
        {0, 1},
    ]
    assert each_once(places[::-1]) == found


def test_cases_that_are_left_out_are_marked() -> None:
    table = [(n, m) for n in range(6) for m in range(2)]

    assert quick(*(Case(place, pytest.mark.each_once) for place in table)) == 6
    assert quick(*(Case(place, pytest.mark.one_in(5)) for place in table)) == 3
    assert quick(*(Case(place) for place in table)) == 12
    assert quick(SimpleNamespace(nodeid="test_a.py::test", marks={})) == 1
