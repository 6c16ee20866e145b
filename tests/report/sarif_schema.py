"""The parts of SARIF 2.1.0 that modswap writes, as a closed JSON Schema.

The published schema accepts further properties in every object; this schema refuses them, so a
property that a change adds is added here too, as section 3 of the standard defines it. A document
that fits this schema fits the published one.
"""

from typing import Any


def _closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


_TEXT = {"type": "string", "minLength": 1}
_COUNT = {"type": "integer", "minimum": 1}
_MESSAGE = _closed({"text": _TEXT}, "text")
_LEVEL = {"enum": ["none", "note", "warning", "error"]}
_RULE = _closed(
    {
        "id": _TEXT,
        "shortDescription": _MESSAGE,
        "defaultConfiguration": _closed({"level": _LEVEL}),
    },
    "id",
)
_DRIVER = _closed(
    {
        "name": _TEXT,
        "version": _TEXT,
        "rules": {"type": "array", "items": _RULE, "uniqueItems": True},
    },
    "name",
)
_INVOCATION = _closed(
    {
        "executionSuccessful": {"type": "boolean"},
        "exitCode": {"type": "integer"},
        "properties": {"type": "object"},
    },
    "executionSuccessful",
)
# RFC 3986: neither blanks nor marks that would have to be encoded
_URI = {"type": "string", "pattern": r"^[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+$"}
_PHYSICAL = _closed(
    {
        "artifactLocation": _closed({"uri": _URI}, "uri"),
        "region": _closed({"startLine": _COUNT, "startColumn": _COUNT}, "startLine"),
    },
    "artifactLocation",
)
_LOGICAL = _closed({"fullyQualifiedName": _TEXT, "kind": {"enum": ["module"]}})
_LOCATION = _closed(
    {
        "physicalLocation": _PHYSICAL,
        "logicalLocations": {"type": "array", "items": _LOGICAL, "uniqueItems": True},
    }
)
_RESULT = _closed(
    {
        "ruleId": _TEXT,
        "ruleIndex": {"type": "integer", "minimum": 0},
        "level": _LEVEL,
        "message": _MESSAGE,
        "locations": {"type": "array", "items": _LOCATION, "minItems": 1},
    },
    "message",
)
_RUN = _closed(
    {
        "tool": _closed({"driver": _DRIVER}, "driver"),
        "invocations": {"type": "array", "items": _INVOCATION},
        "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
        "results": {"type": "array", "items": _RESULT},
    },
    "tool",
)
SCHEMA = _closed(
    {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {"type": "array", "items": _RUN},
    },
    "version",
    "runs",
)
