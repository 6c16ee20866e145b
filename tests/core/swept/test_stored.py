"""Results of trials as texts: they come back as they were."""

import pytest

from modswap.core.healed.agreement import Agreement
from modswap.core.healed.healing import StageResult
from modswap.core.swept.record import SiteTrial, SweptCost, TrialResult
from modswap.core.swept.stored import result_of, text_of

TRIAL = SiteTrial("a.0", "BRA", {"topk": 4}, {"n_win": 7})
FULL = TrialResult(
    TRIAL, SweptCost(1, 2, 3, 0.5), 0.25, 0.5, "a", "closed", 1.5, "", "",
    Agreement("top-1", 0.75, None, 0.1, 8), 2.5, None, Agreement("top-1", 0.5),
    (StageResult("closed", Agreement("top-1", 0.75), 1.0, kept=False, note="x"),), 0.99,
)  # fmt: skip


@pytest.mark.parametrize("result", [FULL, TrialResult(TRIAL, reason="too wide", fix="adapt")])
def test_result_comes_back_as_it_was(result: TrialResult) -> None:
    assert result_of(text_of(result)) == result
    assert result_of(text_of(result)).trial.key == TRIAL.key


@pytest.mark.parametrize("text", ["[]", "{}", '{"trial": 1}', '{"trial": {"site": "a"}}', "{"])
def test_text_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"holds no result of a trial|Expecting property name"):
        result_of(text)
