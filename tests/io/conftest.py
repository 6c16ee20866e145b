"""What the tests of files share."""

from collections.abc import Iterator

import pytest

from tests.io.worker import Worker


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    """Yield a process that runs the command; torch is imported once for all of them."""
    shared = Worker()
    yield shared
    shared.close()
