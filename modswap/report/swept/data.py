"""A sweep as JSON."""

from dataclasses import asdict
from math import isfinite
from typing import Any

from modswap.core.swept.record import SweepChoice, SweepResult, TrialResult
from modswap.core.version import __version__
from modswap.report.page import as_json


def sweep_json(found: SweepResult) -> str:
    """Return a sweep as one JSON object, every trial in the order of the sites."""
    error = found.error
    data = {
        "schema": 1,
        "modswap": __version__,
        "command": "sweep",
        "checkpoint": found.checkpoint,
        "ok": error is None,
        "inputs": found.inputs,
        "samples": {"what": found.samples, "learned": found.learned, "held": found.held},
        "before": asdict(found.before),
        "trials": [_trial(one) for one in found.results],
        "planned": found.planned,
        "choice": None if found.choice is None else _choice(found.choice),
        "recipe": found.recipe or None,
        "interrupted": found.interrupted,
        "notes": list(found.notes),
        "seconds": round(found.seconds, 3),
        "error": None
        if error is None
        else {"code": error.code, "where": error.where, "what": error.what, "fix": error.fix},
    }
    return as_json(data)


def _trial(one: TrialResult) -> dict[str, Any]:
    return {
        "site": one.trial.site,
        "module": one.trial.module,
        "args": dict(one.trial.args),
        "base": dict(one.trial.base),
        "holds": one.holds,
        "reason": one.reason or None,
        "fix": one.fix or None,
        "error": _number(one.error),
        "at_block": _number(one.at_block),
        "at_site": _number(one.at_site),
        "block": one.block,
        "how": one.how or None,
        "added": None if one.added is None else asdict(one.added),
        "healed": None if one.healed is None else asdict(one.healed),
        "stages": [asdict(stage) for stage in one.stages],
        "seconds": round(one.seconds, 3),
        "healing_seconds": round(one.healing_seconds, 3),
    }


def _choice(choice: SweepChoice) -> dict[str, Any]:
    return {
        "asked": choice.asked,
        "error": choice.error,
        "cost": asdict(choice.cost),
        "together": None if choice.together is None else asdict(choice.together),
        "trials": [
            {"site": one.trial.site, "module": one.trial.module, "args": dict(one.trial.args)}
            for one in choice.results
        ],
    }


def _number(value: float | None) -> float | None:
    """Return a number, None for one that JSON has no room for."""
    return value if value is not None and isfinite(value) else None
