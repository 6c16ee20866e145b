"""The results of a sweep: their order, and the sweep in which nothing holds."""

from modswap.core.swept.record import SiteTrial, SweepResult, SweptCost, TrialResult, none_holds

NOTHING = SweptCost(0, 0, 0, 0.0)


def measured(site: str, error: float) -> TrialResult:
    return TrialResult(SiteTrial(site, "M"), NOTHING, error, error)


FAILED = TrialResult(SiteTrial("c", "M"), reason="too wide", fix="make it narrow")


def test_results_are_ranked_by_their_error() -> None:
    found = SweepResult("", NOTHING, (measured("a", 0.5), FAILED, measured("b", 0.1)), 3)

    assert [one.trial.site for one in found.ranked] == ["b", "a"]
    assert found.failed == (FAILED,)
    assert found.exit_code == 0


def test_sweep_in_which_nothing_holds_is_an_error() -> None:
    assert none_holds([]) is None
    assert none_holds([FAILED, measured("a", 1.0)]) is None
    error = none_holds([FAILED, FAILED])
    assert error is not None
    assert str(error) == "c: none of 2 trials holds; the first: too wide; make it narrow"
    assert SweepResult("", NOTHING, (FAILED,), 1, error=error).exit_code == 1
