"""Coverage in the quick tests of some folders alone: tracing doubles the time of a test."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from coverage import Coverage


class MeasuredTests:
    """Trace the quick tests of some folders, which every worker runs first, and no others."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        self._coverage: Coverage | None = None  # while others run

    def measures(self, item: pytest.Item) -> bool:
        """Return whether a test is in one of the folders and has no mark `slow`."""
        if item.get_closest_marker("slow"):
            return False
        return any(item.path.is_relative_to(folder) for folder in self.folders)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Order the tests so that each worker's part begins with its share of the measured ones.

        The slow ones come next, and the quick ones last: then no worker waits long for another.
        A file's tests of one kind stay with one worker, where its fixtures and caches are.
        """
        workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
        kinds: list[dict[Path, list[pytest.Item]]] = [{}, {}, {}]
        for item in items:
            slow = item.get_closest_marker("slow") is not None
            kind = kinds[0 if self.measures(item) else 1 if slow else 2]
            kind.setdefault(item.path, []).append(item)
        items[:] = [
            item
            for worker in range(workers)
            for kind in kinds
            for file in [*kind.values()][worker::workers]
            for item in file
        ]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        """Stop the tracing before the first of the others, and go on with it if one comes late."""
        if not self.measures(item) and self._coverage is None:
            self._coverage = Coverage.current()
            if self._coverage is not None:
                self._coverage.stop()
        elif self.measures(item) and self._coverage is not None:
            self._coverage.start()
            self._coverage = None
