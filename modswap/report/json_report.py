"""The outcome as one JSON object, several as a list, for programs."""

from collections.abc import Sequence

from modswap.core.decided.verdict import CaseVerdict, Verdict
from modswap.core.errors import ModswapError
from modswap.core.finding import THE_MODEL, Finding
from modswap.core.kept.found_input import FoundInput
from modswap.core.kept.outcome import Amount, Ledger, Outcome, SiteOutcome
from modswap.core.seen.site import Call
from modswap.core.seen.values import shapes
from modswap.core.version import __version__
from modswap.report.healing import healing_as_data
from modswap.report.json_shapes import (
    AmountData,
    CallData,
    CaseData,
    CheckData,
    ErrorData,
    InputData,
    LedgerData,
    NamedAmountData,
    ReportData,
    SingleErrorData,
    SiteData,
    VerifyData,
)
from modswap.report.page import SCHEMA, Page, as_json


def json_report(outcomes: Sequence[Outcome], page: Page) -> str:
    """Return one outcome as a JSON object, several as a list; the page has no effect."""
    del page
    data = [as_data(outcome) for outcome in outcomes]
    return as_json(data[0] if len(data) == 1 else data)


def as_data(outcome: Outcome) -> ReportData:
    """Return the outcome as plain data."""
    written = outcome.written
    return {
        "schema": SCHEMA,
        "modswap": __version__,
        "command": outcome.command,
        "checkpoint": outcome.checkpoint,
        "recipe": outcome.recipe,
        "ok": outcome.ok,
        "sites": [_site(site) for site in outcome.sites],
        "verify": _verify(outcome.verdict),
        "ledger": _ledger(outcome.ledger),
        "params": {"before": outcome.params_before, "after": outcome.params_after},
        "output": None
        if written is None
        else {
            "file": str(written.file),
            "bytes": written.nbytes,
            "sha256": written.sha256,
            "format": written.format,
        },
        "input_found": _found(outcome.found_input),
        "healing": healing_as_data(outcome.healing),
        "notes": list(outcome.notes),
        "seconds": round(outcome.seconds, 3),
        "error": error_as_data(outcome.error),
    }


def _found(found: FoundInput | None) -> InputData | None:
    if found is None:
        return None
    inputs = [entry.model_dump(mode="json", exclude_defaults=True) for entry in found.inputs]
    return {"input": found.shown, "why": found.why, "inputs": inputs}


def _site(site: SiteOutcome) -> SiteData:
    return {
        "path": site.path,
        "aliases": list(site.aliases),
        "rule": site.rule,
        "place": site.place,
        "new_path": site.new_path or site.path,
        "old": {"class": site.old_class, "params": site.old_params},
        "new": {"class": site.new_class, "params": site.new_params, "args": dict(site.args)},
        "parameters": list(site.parameters),
        "calls": calls_as_data(site.calls),
        "layout": site.layout,
        "start": site.start,
        "shared_with": list(site.shared_with),
        "chosen": [{"name": c.name, "value": c.value, "reason": c.reason} for c in site.choices],
        "notes": list(site.notes),
        "mapped": [{"name": name, "from": source} for name, source in site.mapped],
        "fresh": list(site.fresh),
    }


def calls_as_data(calls: Sequence[Call]) -> list[CallData]:
    """Return the shapes of calls as plain data."""
    return [
        {
            "input": [shape for value in call.inputs for shape in shapes(value)],
            "output": shapes(call.output),
        }
        for call in calls
    ]


def _verify(verdict: Verdict | None) -> VerifyData | None:
    if verdict is None:
        return None
    return {
        "cases": [_case(case) for case in verdict.cases],
        "checks": [_finding(found) for found in verdict.findings],
        "finite": verdict.finite,
        "ok": verdict.ok,
    }


def _finding(found: Finding) -> CheckData:
    return {
        "check": found.check,
        "about": found.about,
        "path": found.path,
        "status": found.status,
        "what": found.what,
        "fix": found.fix,
        "data": dict(found.data),
    }


def _case(case: CaseVerdict) -> CaseData:
    first = case.problems[0] if case.problems else None
    return {
        "input": case.key.input,
        "mode": case.key.mode,
        "dtype": case.key.dtype,
        "before": shapes(case.before) if case.before is not None else [],
        "after": shapes(case.after) if case.after is not None else [],
        "ok": case.ok,
        "error": None if first is None else f"{first.path or THE_MODEL}: {first.what}",
    }


def _ledger(ledger: Ledger | None) -> LedgerData | None:
    if ledger is None:
        return None
    return {
        "kept": _amount(ledger.kept),
        "mapped": _named(ledger.mapped),
        "fresh": _named(ledger.fresh),
        "dropped": _named(ledger.dropped),
        "proved": ledger.proved,
    }


def _amount(amount: Amount) -> AmountData:
    return {"tensors": amount.tensors, "bytes": amount.nbytes}


def _named(amount: Amount) -> NamedAmountData:
    return {"tensors": amount.tensors, "bytes": amount.nbytes, "names": list(amount.names)}


def error_as_data(error: ModswapError | None) -> ErrorData | None:
    """Return an error, and those that came with it, as plain data."""
    if error is None:
        return None
    first, *more = [_alone(each) for each in error.all]
    return {**first, "more": more}


def _alone(error: ModswapError) -> SingleErrorData:
    return {
        "check": error.check,
        "code": error.code,
        "where": error.where,
        "what": error.what,
        "fix": error.fix,
        "retry": list(error.retry),
    }
