"""The JSON report on outcomes as types, of which its schema is made."""

from typing import Any, Literal

from typing_extensions import TypedDict  # pydantic reads those of the standard library from 3.12 on

from modswap.report.page import SCHEMA

Shapes = list[list[int]]
ModuleData = TypedDict("ModuleData", {"class": str, "params": int})
MadeData = TypedDict("MadeData", {"class": str, "params": int, "args": dict[str, Any]})
OriginData = TypedDict("OriginData", {"name": str, "from": str})


class CallData(TypedDict):
    """The shapes of a call of a module."""

    input: Shapes
    output: Shapes


class ChoiceData(TypedDict):
    """A value that was chosen for an option that the recipe left open."""

    name: str
    value: Any
    reason: str


class SiteData(TypedDict):
    """A swapped module, or one that was put in beside another."""

    path: str
    aliases: list[str]
    rule: str
    place: str
    new_path: str
    old: ModuleData
    new: MadeData
    parameters: list[str]
    calls: list[CallData]
    layout: str | None
    start: str
    shared_with: list[str]
    chosen: list[ChoiceData]
    notes: list[str]
    mapped: list[OriginData]
    fresh: list[str]


class CaseData(TypedDict):
    """A pass of the model before and after the swap."""

    input: str
    mode: str
    dtype: str
    before: Shapes
    after: Shapes
    ok: bool
    error: str | None


class CheckData(TypedDict):
    """The result of an examination, of a module or of the model."""

    check: str
    about: str
    path: str
    status: Literal["passed", "failed", "skipped"]
    what: str
    fix: str
    data: dict[str, Any]


class VerifyData(TypedDict):
    """All passes and examinations."""

    cases: list[CaseData]
    checks: list[CheckData]
    finite: bool | None
    ok: bool


class AmountData(TypedDict):
    """A number of tensors."""

    tensors: int
    bytes: int


class NamedAmountData(AmountData):
    """A number of tensors, with their names."""

    names: list[str]


class LedgerData(TypedDict):
    """The fate of every tensor."""

    kept: AmountData
    mapped: NamedAmountData
    fresh: NamedAmountData
    dropped: NamedAmountData
    proved: bool


class ParamsData(TypedDict):
    """Parameter elements of the model."""

    before: int
    after: int


class OutputData(TypedDict):
    """The written file."""

    file: str
    bytes: int
    sha256: str
    format: str


class InputData(TypedDict):
    """The dummy input that was found."""

    input: str
    why: str
    inputs: list[dict[str, Any]]


class SingleErrorData(TypedDict):
    """An error: its place, the fault and a fix; `code` is the exit code."""

    check: str
    code: int
    where: str
    what: str
    fix: str
    retry: list[str]


class ErrorData(SingleErrorData):
    """An error with those that came with it."""

    more: list[SingleErrorData]


class ReportData(TypedDict):
    """The report of `replace`, `check`, `heal`, `finalize` and `revert`."""

    schema: Literal[1]
    modswap: str
    command: str
    checkpoint: str
    recipe: str
    ok: bool
    sites: list[SiteData]
    verify: VerifyData | None
    ledger: LedgerData | None
    params: ParamsData
    output: OutputData | None
    input_found: InputData | None
    healing: dict[str, Any] | None
    notes: list[str]
    seconds: float
    error: ErrorData | None


def report_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the report on one outcome, or on several."""
    from pydantic import TypeAdapter

    from modswap.core.healed.healing import Healing

    schema = TypeAdapter(ReportData).json_schema(mode="serialization")
    healing = TypeAdapter(Healing).json_schema(mode="serialization")
    defs = {**schema.pop("$defs"), **_nullable(healing.pop("$defs"))}
    defs["HealingData"] = healing
    schema["properties"]["healing"] = {"anyOf": [_ref("HealingData"), {"type": "null"}]}
    defs["ReportData"] = schema
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "modswap report",
        "description": f"The report of form {SCHEMA}; further keys may be added to it.",
        "anyOf": [_ref("ReportData"), {"type": "array", "items": _ref("ReportData")}],
        "$defs": defs,
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


def _nullable(value: Any) -> Any:
    """Return a schema whose numbers may be null: JSON has no infinity."""
    if isinstance(value, dict):
        if value.get("type") == "number":
            return {**value, "type": ["number", "null"]}
        return {name: _nullable(one) for name, one in value.items()}
    return [_nullable(one) for one in value] if isinstance(value, list) else value
