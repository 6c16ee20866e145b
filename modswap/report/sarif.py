"""Outcomes as SARIF 2.1.0, which code hosts show beside the recipe's lines."""

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from modswap.core.kept.outcome import Outcome
from modswap.core.version import __version__
from modswap.core.words.printable import tame
from modswap.report.checks import Fault, Place, faults_of, sentences_of
from modswap.report.page import Page, as_json

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif_report(outcomes: Sequence[Outcome], page: Page) -> str:
    """Return one run with a result for each failure; the page has no effect."""
    del page
    faults = dict.fromkeys(fault for outcome in outcomes for fault in faults_of(outcome))
    rules = sentences_of(outcomes)
    numbers = {name: number for number, name in enumerate(rules)}
    run = {
        "tool": {
            "driver": {
                "name": "modswap",
                "version": __version__,
                "rules": [_rule(name, about) for name, about in rules.items()],
            }
        },
        "invocations": [
            {
                "executionSuccessful": outcome.exit_code <= 1,
                "exitCode": outcome.exit_code,
                "properties": {"checkpoint": tame(outcome.checkpoint)},
            }
            for outcome in outcomes
        ],
        "columnKind": "unicodeCodePoints",
        "results": [_result(fault, numbers[fault.finding.check]) for fault in faults],
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return as_json(log)


def _rule(name: str, about: str) -> dict[str, Any]:
    return {
        "id": name,
        "shortDescription": {"text": about[:1].upper() + about[1:] + "."},
        "defaultConfiguration": {"level": "error"},
    }


def _result(fault: Fault, rule: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ruleId": fault.finding.check,
        "ruleIndex": rule,
        "level": "error",
        "message": {"text": _message(fault.text)},
    }
    location: dict[str, Any] = {}
    if fault.place is not None:
        location["physicalLocation"] = _physical(fault.place)
    if fault.finding.path:
        location["logicalLocations"] = [
            {"fullyQualifiedName": fault.finding.path, "kind": "module"}
        ]
    if location:
        found["locations"] = [location]
    return found


def _physical(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = {"artifactLocation": {"uri": _uri(place.file)}}
    if place.line:
        found["region"] = {"startLine": place.line}
        if place.column:
            found["region"]["startColumn"] = place.column
    return found


def _uri(file: str) -> str:
    path = PurePath(tame(file))
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


def _message(text: str) -> str:
    """Return a text without links and placeholders of SARIF."""
    return re.sub(r"\{(\d+)\}", r"{{\1}}", text).replace("](", r"\](")
