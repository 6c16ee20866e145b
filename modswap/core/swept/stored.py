"""Results of trials as texts in a file, and back."""

import json
from dataclasses import asdict
from typing import Any

from modswap.core.healed.agreement import Agreement
from modswap.core.healed.healing import StageResult
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
    added = data.pop("added")
    healed, unhealed = (_agreement(data.pop(name, None)) for name in ("healed", "unhealed"))
    stages = tuple(_stage(**one) for one in data.pop("stages", ()))
    cost = None if added is None else SweptCost(**added)
    return TrialResult(trial, added=cost, healed=healed, unhealed=unhealed, stages=stages, **data)


def _agreement(data: dict[str, Any] | None) -> Agreement | None:
    return None if data is None else Agreement(**data)


def _stage(agreement: dict[str, Any], **rest: Any) -> StageResult:
    return StageResult(agreement=Agreement(**agreement), **rest)
