"""What all tests share."""

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

# the same examples each time, for a verdict on a change; elsewhere new ones are tried
# a machine that is busy makes them slowly, which is no fault of theirs
SLOW = (hypothesis.HealthCheck.too_slow,)
hypothesis.settings.register_profile("ci", derandomize=True, suppress_health_check=SLOW)
if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: threads would wait for theirs
    os.environ.setdefault("OMP_NUM_THREADS", "1")
GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the expected reports anew")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the expected one of a name."""

    def compare(name: str, text: str) -> None:
        file = GOLDEN / name
        if request.config.getoption("--update-golden"):
            file.write_text(text, encoding="utf-8")
        assert text == file.read_text(encoding="utf-8"), "pytest --update-golden writes it anew"

    return compare
