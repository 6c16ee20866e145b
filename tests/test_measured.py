"""Coverage is measured in the quick tests of some folders alone."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from coverage import Coverage

from tests.measured import MeasuredTests

PLACES = ["a/x.py", "b/y.py", "a/z.py", "a/slow.py", "b/u.py", "c.py", "a/w.py", "a/x.py"]


def item(place: str) -> Any:
    """Return a test in a file; those of `slow.py` have that mark."""
    marks = {"slow": pytest.mark.slow} if place.endswith("slow.py") else {}
    return SimpleNamespace(path=Path(place), get_closest_marker=marks.get)


ITEMS: list[Any] = [*map(item, PLACES)]


def test_part_of_each_worker_begins_with_measured_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")
    items = [*ITEMS]

    MeasuredTests([Path("a")]).pytest_collection_modifyitems(items)

    found = [item.path.as_posix() for item in items]
    assert found == [
        *("a/x.py", "a/x.py", "a/w.py", "a/slow.py", "b/y.py", "c.py"),
        *("a/z.py", "b/u.py"),
    ]


def test_others_are_not_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    tracing: Any = SimpleNamespace(
        start=lambda: calls.append("start"), stop=lambda: calls.append("stop")
    )
    monkeypatch.setattr(Coverage, "current", lambda: tracing)
    measured = MeasuredTests([Path("a"), Path("c.py")])

    for item in ITEMS:
        measured.pytest_runtest_protocol(item)
        calls.append(item.path.as_posix())

    assert calls == [
        *("a/x.py", "stop", "b/y.py", "start", "a/z.py", "stop", "a/slow.py"),
        *("b/u.py", "start", "c.py", "a/w.py", "a/x.py"),
    ]
