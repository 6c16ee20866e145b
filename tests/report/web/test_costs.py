"""Numbers before and after a swap, as rows of a page."""

from dataclasses import replace

import pytest

from modswap.core.finding import Finding
from modswap.core.kept.model_view import ModelView
from modswap.core.kept.outcome import Outcome
from modswap.report import REPORTS
from modswap.report.page import Page
from modswap.report.web.costs import _duration, costs
from modswap.report.web.outcome import SHOWN_REASONS
from tests.report import outcomes
from tests.report.web.pages import parsed_page


@pytest.mark.parametrize(
    ("ms", "spread", "said"),
    [
        (0.1234, 0.0, "0.123 ms"),
        (181.4, 2.34, "181 ± 2 ms"),
        (999.6, 0.0, "1 s"),
        (1640.0, 31.0, "1.64 ± 0.03 s"),
    ],
)
def test_latency_is_said_with_its_spread_and_that_of_seconds_in_seconds(
    ms: float, spread: float, said: str
) -> None:
    assert _duration(ms, spread) == said


@pytest.mark.parametrize(("spread", "within"), [(0.0, False), (1.0, False), (2.0, True)])
def test_latency_that_differs_by_less_than_its_spread_says_so(
    spread: float, *, within: bool
) -> None:
    view = ModelView(milliseconds=(20.0, 23.0), spread=(spread, spread))

    (row,) = (one for one in costs(replace(outcomes.DONE, view=view)) if one.key == "latency")

    assert row.change == ("+15.0 %, within the spread" if within else "+15.0 %")


def skipped(*findings: tuple[str, str]) -> Outcome:
    verdict = outcomes.EXAMINED.verdict
    assert verdict is not None
    found = tuple(Finding(check, "a", "skipped", what) for check, what in findings)
    return replace(outcomes.EXAMINED, verdict=replace(verdict, findings=found))


def test_reasons_of_skipped_checks_are_at_the_top() -> None:
    some = skipped(("sizes", "no other size"), ("export", "no other size"), ("drift", "no values"))
    many = skipped(*((f"check{n}", f"reason {n}") for n in range(SHOWN_REASONS + 2)))

    top, top_of_many = (
        parsed_page(REPORTS["html"]([one], Page())).text.partition("What does it cost?")[0]
        for one in (some, many)
    )

    assert "– sizes, export: no other size" in top
    assert "– drift: no values" in top
    assert f"reason {SHOWN_REASONS - 1}" in top_of_many
    assert f"reason {SHOWN_REASONS}" not in top_of_many
    assert "and 2 more reasons, below" in top_of_many
