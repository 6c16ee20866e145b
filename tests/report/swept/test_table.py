"""A sweep as a table and as JSON.

Covers: data.
"""

import json
from dataclasses import replace

import pytest

from modswap.core.errors import ShapeError
from modswap.core.healed.agreement import Agreement
from modswap.core.swept.record import SiteTrial, SweepChoice, SweepResult, SweptCost, TrialResult
from modswap.report.page import Page
from modswap.report.swept.data import sweep_json
from modswap.report.swept.table import sweep_table
from tests.report.swept.sweeps import BEFORE, FAILED, FOUND, NOTHING_HELD, RESULTS, result


def lines(found: SweepResult, page: Page = Page(80)) -> list[str]:  # noqa: B008 - it is frozen
    return [" ".join(line.split()) for line in sweep_table(found, page).splitlines()]


def test_trials_are_listed_the_smallest_error_first_with_reasons_below() -> None:
    shown = lines(FOUND)

    assert shown[:5] == [
        "OK 2 of 3 trials measured in net.pt, 1 does not hold (2.0 s)",
        "data 40 rows: 32 to learn from, 8 held out to judge",
        "note a note",
        "before 1,000 parameters, 2.0 M FLOPs, 4.0 KiB, 1.50 ms, for (1, 3)",
        "",
    ]
    assert shown[5] == "site options error params FLOPs memory ms s"
    assert shown[6:] == [
        "net.1 k=4 0.12 -200 +1.5 k +2.0 KiB +0.25 0.5",
        "net.0 k=1 0.25 -200 +1.5 k +2.0 KiB +0.25 0.5",
        "",
        "fails net.3 BRA k=9: k is too much; take 4",
    ]


def test_several_modules_and_healings_have_columns_of_their_own() -> None:
    other = replace(
        result("net.1", 0.2), trial=SiteTrial("net.1", "CBAM"), added=SweptCost(0, 0, 0, 0)
    )
    healed = replace(RESULTS[0], healed=Agreement("top-1", 0.75, None, 0.1, 8))
    found = replace(FOUND, checkpoint="", results=(healed, other), planned=2)

    shown = lines(found, Page(120))
    assert shown[0].startswith("OK 2 of 2 trials measured in the model")
    assert shown[5] == "site module options error params FLOPs memory ms s healed"
    assert shown[6] == "net.1 CBAM 0.2 0 0 0 B +0.00 0.5"
    assert shown[7].endswith("0.5 0.750")


@pytest.mark.parametrize(
    ("width", "left_out"),
    [(68, "params, ms, FLOPs, memory, s"), (80, "ms, FLOPs, memory, s"), (120, "")],
)
def test_names_never_break_and_a_narrow_page_goes_without_some_columns(
    width: int, left_out: str
) -> None:
    trial = SiteTrial("encoder.layers.0.attention", "BiLevelRoutingAttention", {"k": 4})
    found = replace(FOUND, results=(replace(result("a", 0.25), trial=trial), RESULTS[0]))

    text = sweep_table(found, Page(width))

    (row,) = (line for line in text.splitlines() if line.startswith(trial.site))
    assert row.split()[:4] == [trial.site, trial.module, "k=4", "0.25"]
    said = [line for line in text.splitlines() if line.startswith("no room")]
    assert said == ([f"no room for {left_out}: -v shows all columns"] if left_out else [])
    assert max(map(len, text.splitlines())) <= width
    assert "no room" not in sweep_table(found, Page(width, verbose=True))


def test_long_sweeps_are_cut_unless_all_is_asked_for() -> None:
    many = tuple(result(f"net.{i}", 0.1 + i) for i in range(50))
    reasons = tuple(
        TrialResult(SiteTrial(f"net.{i}", "BRA", {"k": j}), reason=f"reason {min(i, 9)}")
        for i in range(11)
        for j in range(10 if i > 8 else 1)
    )
    found = replace(FOUND, results=(*many, *reasons), planned=50)

    assert "and 10 more with larger errors; -v lists all" in lines(found)
    assert "and 2 more reasons; -v lists all" in lines(found)
    shown = lines(found, Page(200, verbose=True))
    assert sum(line.startswith("net.") for line in shown) == 50
    last = [line for line in shown if line.startswith("fails")][-1]
    assert last.startswith("fails net.9–10 ×2 BRA k=0, BRA k=1")
    assert last.endswith("BRA k=7 and 2 more: reason 9")


def test_choice_is_shown_with_its_cost() -> None:
    choice = SweepChoice("1", (RESULTS[1],), 0.125, replace(BEFORE, params=800))
    alone = lines(replace(FOUND, choice=choice))
    shown = lines(replace(FOUND, choice=replace(choice, together=BEFORE)))

    assert "chosen net.1 BRA k=4 0.12" in shown
    by_sites = "by the sites sum of errors 0.12, 800 parameters, 2.0 M FLOPs, 4.0 KiB, 1.50 ms"
    assert by_sites in shown
    assert "together 1,000 parameters, 2.0 M FLOPs, 4.0 KiB, 1.50 ms" in shown
    assert [line for line in shown if not line.startswith("together")] == alone
    data = json.loads(sweep_json(replace(FOUND, choice=choice)))
    assert data["choice"]["trials"] == [{"site": "net.1", "module": "BRA", "args": {"k": 4}}]


def test_sweep_that_was_broken_off_or_failed_says_so() -> None:
    assert lines(replace(FOUND, interrupted=True))[0].startswith("STOPPED 2 of 3 trials")
    assert lines(NOTHING_HELD)[0] == (
        "FAILED net.3: none of 1 trials holds; the first: k is too much; take 4"
    )
    assert json.loads(sweep_json(NOTHING_HELD))["error"]["code"] == ShapeError.code


def test_json_has_every_trial_in_order() -> None:
    data = json.loads(sweep_json(replace(FOUND, results=(result("net.0", float("inf")), FAILED))))

    assert data["trials"][0]["error"] is None
    assert data["trials"][0]["added"]["params"] == -200
    assert data["trials"][1]["reason"] == "k is too much"
    assert data["samples"] == {"what": "40 rows", "learned": 32, "held": 8}
    assert data["ok"] is True


def test_names_of_a_file_bring_no_escape_sequences() -> None:
    bad = replace(RESULTS[0], trial=SiteTrial("\x1b[31mred", "BRA"))

    assert "\x1b" not in sweep_table(replace(FOUND, results=(bad,)), Page())
