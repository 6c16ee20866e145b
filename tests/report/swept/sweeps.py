"""Sweeps for the tests of reports."""

from dataclasses import replace

from modswap.core.swept.record import SiteTrial, SweepResult, SweptCost, TrialResult, none_holds

BEFORE = SweptCost(1000, 2_000_000, 4096, 1.5)
ADDED = SweptCost(-200, 1500, 2048, 0.25)


def result(site: str, error: float, **args: object) -> TrialResult:
    trial = SiteTrial(site, "BRA", args, {"n_win": 2})
    return TrialResult(trial, ADDED, error, error, "block", "closed", 0.5)


FAILED = TrialResult(SiteTrial("net.3", "BRA", {"k": 9}), reason="k is too much", fix="take 4")
RESULTS = (result("net.0", 0.25, k=1), result("net.1", 0.125, k=4), FAILED)
FOUND = SweepResult(
    "net.pt", BEFORE, RESULTS, 3, "40 rows", 32, 8, notes=("a note",), seconds=2.0, inputs="(1, 3)"
)
NOTHING_HELD = replace(FOUND, results=(FAILED,), error=none_holds([FAILED]))
