"""Reports as pages of HTML that open anywhere: one file, no network, no foreign code."""

from collections.abc import Sequence

from modswap.core.kept.outcome import Outcome
from modswap.report.page import Page


def html_report(outcomes: Sequence[Outcome], page: Page) -> str:
    """Return outcomes as one page."""
    # the templates' library takes a tenth of a second, which the other forms do not need
    from modswap.report.web.outcome import outcome_page

    return outcome_page(outcomes, page)
