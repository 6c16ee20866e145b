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
    ("ms", "said"), [(0.1234, "0.123 ms"), (181.4, "181 ms"), (999.6, "1 s"), (1640.0, "1.64 s")]
)
def test_latency_of_seconds_is_said_in_seconds(ms: float, said: str) -> None:
    assert _duration(ms) == said


@pytest.mark.parametrize(
    ("spread", "said"),
    [
        ((0.0, 0.0), ""),
        ((1.0, 0.123), "within ±1 ms before and ±0.1 ms after: the change is more than that"),
        ((26.0, 2.0), "within ±30 ms before and ±2 ms after: the change is not more than that"),
    ],
)
def test_latency_comes_with_its_spread(spread: tuple[float, float], said: str) -> None:
    view = ModelView(milliseconds=(20.0, 23.0), spread=spread)
    shown = replace(outcomes.DONE, view=view)

    (row,) = (one for one in costs(shown) if one.key == "latency")

    assert (row.before, row.after, row.change) == ("20 ms", "23 ms", "+15.0 %")
    assert row.remark == (f"most passes are {said}" if said else "")
    assert said in parsed_page(REPORTS["html"]([shown], Page())).text


def skipped(*findings: tuple[str, str]) -> Outcome:
    verdict = outcomes.EXAMINED.verdict
    assert verdict is not None
    found = tuple(Finding(check, "a", "skipped", what) for check, what in findings)
    return replace(outcomes.EXAMINED, verdict=replace(verdict, findings=found))


def test_reasons_of_skipped_checks_are_at_the_top() -> None:
    some = skipped(
        ("sizes", "no other size"),
        ("export", "no other size"),
        ("drift", "no values: a reason, longer"),
    )
    many = skipped(*((f"check{n}", f"reason {n}") for n in range(SHOWN_REASONS + 2)))

    top, top_of_many = (
        parsed_page(REPORTS["html"]([one], Page())).text.partition("What does it cost?")[0]
        for one in (some, many)
    )

    assert "– sizes, export: no other size" in top
    assert "– drift: no values\n" in top
    assert f"reason {SHOWN_REASONS - 1}" in top_of_many
    assert f"reason {SHOWN_REASONS}" not in top_of_many
    assert "and 2 more reasons, below" in top_of_many
