"""Cases of a table that stay in the quick tests; the others are slow."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import pytest

Indices = tuple[int, ...]  # the place of a case on each axis


def mark_others_slow(items: Iterable[pytest.Item]) -> None:
    """Mark as slow the cases that `each_once` and `one_in` leave out of the quick tests."""
    tables: defaultdict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if hasattr(item, "callspec"):
            tables[item.nodeid.partition("[")[0]].append(item)
    for cases in tables.values():
        of = {item: tuple(vars(item)["callspec"].indices.values()) for item in cases}
        step = cases[0].get_closest_marker("one_in")
        if step:
            quick = {*sorted(of.values())[:: step.args[0]]}
        elif cases[0].get_closest_marker("each_once"):
            quick = each_once([*of.values()])
        else:
            continue
        for item, place in of.items():
            if place not in quick:
                item.add_marker(pytest.mark.slow)


def each_once(places: Sequence[Indices]) -> set[Indices]:
    """Return few cases that hold each value of each axis that any case holds."""
    quick: set[Indices] = set()
    unseen = {(axis, value) for place in places for axis, value in enumerate(place)}
    left = sorted(places)
    while unseen:
        best = max(left, key=lambda place: len(unseen & {*enumerate(place)}))
        unseen -= {*enumerate(best)}
        quick.add(best)
    return quick
