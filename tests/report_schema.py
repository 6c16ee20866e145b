"""Every JSON report that a test makes keeps the schema of `modswap schema report`."""

import json
from functools import cache
from typing import Any

import pytest


@cache
def _validator() -> Any:
    import jsonschema

    from modswap.report.json_shapes import report_schema

    return jsonschema.Draft202012Validator(report_schema())


def refuse_other_reports(patch: pytest.MonkeyPatch) -> None:
    """Fail each report in JSON that the schema does not take."""
    from importlib import import_module

    json_report: Any = import_module("modswap.report.json_report")  # a function has that name too
    make = json_report.as_data

    def checked(outcome: Any) -> Any:
        data = make(outcome)
        _validator().validate(json.loads(json_report.as_json(data)))
        return data

    patch.setattr(json_report, "as_data", checked)
