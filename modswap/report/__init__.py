"""Outcomes as text: one table of reports."""

from collections.abc import Callable, Mapping, Sequence

from modswap.core.kept.outcome import Outcome
from modswap.report.github import github_report
from modswap.report.graph.model_explorer import model_explorer_report
from modswap.report.json_report import json_report
from modswap.report.junit import junit_report
from modswap.report.page import Page
from modswap.report.sarif import sarif_report
from modswap.report.table import table_report
from modswap.report.web import html_report

__all__ = ["REPORTS", "Page"]

REPORTS: Mapping[str, Callable[[Sequence[Outcome], Page], str]] = {
    "table": table_report,
    "json": json_report,
    "junit": junit_report,
    "sarif": sarif_report,
    "github": github_report,
    "html": html_report,
    "model-explorer": model_explorer_report,
}
