"""Results of trials as texts in a file, and back."""

import json
from dataclasses import asdict
from typing import Any

from modswap.core.healed.agreement import Agreement
from modswap.core.swept.record import SiteTrial, SweptCost, TrialResult


def text_of(result: TrialResult) -> str:
    """Return a result as JSON."""
    return json.dumps(asdict(result))


def result_of(text: str) -> TrialResult:
    """Return the result that a text holds.

    Raises:
        ValueError: If it holds none.
    """
    try:
        return _result_of(text)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"it holds no result of a trial: {error}") from None


def _result_of(text: str) -> TrialResult:
    data: dict[str, Any] = json.loads(text)
    trial = SiteTrial(**data.pop("trial"))
    added, healed = data.pop("added"), data.pop("healed")
    return TrialResult(
        trial,
        added=None if added is None else SweptCost(**added),
        healed=None if healed is None else Agreement(**healed),
        **data,
    )
