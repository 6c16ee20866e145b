"""Outcomes as text: one table of reports."""

from collections.abc import Callable, Mapping

from modswap.core.outcome import Outcome
from modswap.report.json_report import json_report
from modswap.report.page import Page
from modswap.report.table import table_report

__all__ = ["REPORTS", "Page"]

REPORTS: Mapping[str, Callable[[Outcome, Page], str]] = {
    "table": table_report,
    "json": json_report,
}
