"""Fixtures and settings that all tests share."""

import gc
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.advice import refuse_foreign_options
from tests.measured import MeasuredTests
from tests.report_schema import refuse_other_reports
from tests.tiers import mark_others_slow

# a busy machine makes examples slowly, which is no fault of theirs
PATIENT: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [hypothesis.HealthCheck.too_slow],
}
hypothesis.settings.register_profile("quick", max_examples=50, **PATIENT)
# the same examples each time, for a verdict on a change; other profiles try new ones
hypothesis.settings.register_profile("ci", max_examples=50, derandomize=True, **PATIENT)
hypothesis.settings.register_profile("thorough", max_examples=500, **PATIENT)
hypothesis.settings.load_profile("quick")
# tests and the processes that they start share the cores: threads would wait for one another
os.environ.setdefault("OMP_NUM_THREADS", "1")
# those processes need not compile the package again
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# a shell that starts the tests in the background, or nohup, has them ignore signals, and their
# processes too
for number, handler in ((signal.SIGINT, signal.default_int_handler), (1, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)
GOLDEN = Path(__file__).parent / "golden"
MAX_WORKERS = 8  # a worker holds up to 1.5 GB
SLOWEST = 10  # tests that a summary names
SWITCH_SECONDS = 0.5  # between threads, where tests are traced
STARTED = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the expected reports anew")
    parser.addoption("--summary", type=Path, help="write counts, seconds and slowest tests there")
    parser.addoption(
        "--cov-of", action="append", help="with --cov: measure in quick tests of this folder alone"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the workers of `-n auto`: one for each core that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(cores, MAX_WORKERS)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_others_slow(items)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("cov_source", default=None):  # `--cov`
        # Python 3.11 fails to trace a thread if another one takes over while its tracing begins
        sys.setswitchinterval(SWITCH_SECONDS)
    if folders := config.getoption("--cov-of"):
        places = [config.rootpath / folder for folder in folders]
        config.pluginmanager.register(MeasuredTests(places), "measured tests")


def pytest_collection_finish() -> None:
    gc.freeze()  # what was imported is not looked through for garbage again and again


def pytest_unconfigure() -> None:
    gc.unfreeze()


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[STARTED] = time.monotonic()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write the file that `--summary` names."""
    file: Path | None = config.getoption("--summary")
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        wall = time.monotonic() - config.stash[STARTED]
        workers = config.getoption("numprocesses", None) or 1
        on = f"{workers} processes, Python {platform.python_version()}, {platform.machine()}"
        file.write_text(summary(terminalreporter.stats, wall, on), encoding="utf-8")


def summary(reports: Mapping[str, list[Any]], wall: float, on: str) -> str:
    """Return the counts of tests, the seconds they took and the slowest of them."""
    seconds: dict[str, float] = {}
    for report in (one for some in reports.values() for one in some if hasattr(one, "duration")):
        seconds[report.nodeid] = seconds.get(report.nodeid, 0.0) + report.duration
    slowest = sorted(seconds.items(), key=lambda item: -item[1])[:SLOWEST]
    kinds = [kind for kind in ("passed", "skipped", "failed", "error") if reports.get(kind)]
    counts = ", ".join(f"{len(reports[kind])} {kind}" for kind in kinds)
    return "\n".join(
        (
            f"{counts} in {wall:.0f} s, {on}",
            "",
            "slowest tests, in seconds with their fixtures:",
            *(f"{duration:8.1f}  {name}" for name, duration in slowest),
            "",
        )
    )


@pytest.fixture(autouse=True)
def _interrupts_heard() -> Iterator[None]:
    """Fail a test that leaves another handler of Ctrl-C, which child processes would inherit."""
    before = signal.getsignal(signal.SIGINT)
    yield
    left = signal.getsignal(signal.SIGINT)
    if left is not before:
        signal.signal(signal.SIGINT, before)
    assert left is before


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the expected one of a name."""

    def compare(name: str, text: str) -> None:
        file = GOLDEN / name
        if request.config.getoption("--update-golden"):
            file.write_text(text, encoding="utf-8")
        assert text == file.read_text(encoding="utf-8"), "pytest --update-golden writes it anew"

    return compare


@pytest.fixture(autouse=True, scope="session")
def _advice_of_commands() -> Iterator[None]:
    """Fail each run of the command whose advice names an option that it does not have.

    And each whose report in JSON is not of the schema.
    """
    with pytest.MonkeyPatch.context() as patch:
        refuse_foreign_options(patch)
        refuse_other_reports(patch)
        yield
