"""The schema of the JSON report, and reports that keep it."""

import json
from dataclasses import replace
from math import inf
from typing import Any

import jsonschema
import pytest

from modswap.core.kept.outcome import Outcome
from modswap.report import REPORTS, Page
from modswap.report.json_shapes import report_schema
from tests.report import outcomes
from tests.report.test_reports import CASES

SCHEMA = report_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def report(*found: Outcome) -> Any:
    return json.loads(REPORTS["json"](found, Page()))


@pytest.mark.parametrize("name", CASES)
def test_every_report_keeps_the_schema(name: str) -> None:
    VALIDATOR.validate(report(CASES[name]))


def test_schema_takes_several_reports_and_numbers_that_json_lacks() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    healing = replace(outcomes.HEALING, before=replace(outcomes.AGREED_BEFORE, error=inf))
    VALIDATOR.validate(report(replace(outcomes.HEALED, healing=healing), outcomes.FAILED))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("schema",), 2),
        (("ok",), "yes"),
        (("sites", 0, "old", "params"), "1"),
        (("verify", "checks", 0, "status"), "unknown"),
        (("healing", "stages", 0, "seconds"), "long"),
        (("healing", "before", "value"), "high"),
        (("ledger", "fresh", "names"), None),
    ],
)
def test_schema_refuses_another_form(place: tuple[Any, ...], value: Any) -> None:
    data = report(replace(outcomes.MEASURED, healing=outcomes.HEALING))
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value

    assert not VALIDATOR.is_valid(data)


def test_schema_asks_for_every_key_of_a_report() -> None:
    data = report(outcomes.DONE)

    assert set(SCHEMA["$defs"]["ReportData"]["required"]) == set(data)
    for key in data:
        assert not VALIDATOR.is_valid({name: one for name, one in data.items() if name != key})
