"""The progress of a fit in words."""

from modswap.core.healed.agreement import Agreement
from modswap.core.healed.progress import FitProgress, FitStep
from modswap.core.progress import Passing


def test_words_of_a_fit_say_all_that_is_known() -> None:
    now = FitProgress("fit", "mix", 10, 400, 0.01234, Agreement("top-1", 0.9812), 512.4, 75.2)
    step = FitStep.of(now)
    assert isinstance(step, Passing)
    assert step.now is now
    assert step == (
        "stage fit mix: step 10 of 400, loss 0.0123, agreement 0.981, 512 samples/s, 75 s left"
    )


def test_words_of_a_fit_of_all_modules_name_none() -> None:
    now = FitProgress("end", "", 1, 2, 1.0, None, 8.0, 3.0)
    assert FitStep.of(now) == "stage end: step 1 of 2, loss 1, 8 samples/s, 3 s left"
