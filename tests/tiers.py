"""Cases of a table that stay in the quick tests; the others are slow."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

Place = tuple[Any, ...]  # the value of a case on each axis


def mark_others_slow(items: Iterable[pytest.Item]) -> None:
    """Mark as slow the cases that `each_once` and `one_in` leave out of the quick tests."""
    tables: defaultdict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if hasattr(item, "callspec"):
            tables[item.nodeid.partition("[")[0]].append(item)
    for table in tables.values():
        step, each = (table[0].get_closest_marker(name) for name in ("one_in", "each_once"))
        cases = sorted(table, key=_number) if step or each else []
        quick = cases[:: step.args[0]] if step else _picked(cases, each_once([*map(_place, cases)]))
        for item in cases:
            if item not in quick:
                item.add_marker(pytest.mark.slow)


def _number(item: pytest.Item) -> list[int]:
    return [*vars(item)["callspec"].indices.values()]


def _place(item: pytest.Item) -> Place:
    """Return the values of a case, those of one `parametrize` as one."""
    values = vars(item)["callspec"].params
    tables = [mark.args[0] for mark in item.iter_markers("parametrize")]
    names = [one.replace(",", " ").split() if isinstance(one, str) else one for one in tables]
    return tuple(tuple(id(values[name]) for name in some) for some in names)


def _picked(cases: Sequence[pytest.Item], numbers: Iterable[int]) -> list[pytest.Item]:
    return [cases[number] for number in numbers]


def each_once(places: Sequence[Place]) -> list[int]:
    """Return the numbers of few cases that hold each value of each axis that any case holds."""
    quick: list[int] = []
    unseen = {pair for place in places for pair in enumerate(place)}
    while unseen:
        best = max(range(len(places)), key=lambda n: len(unseen & {*enumerate(places[n])}))
        unseen -= {*enumerate(places[best])}
        quick.append(best)
    return quick
