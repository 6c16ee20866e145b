"""A forward pass explained line by line, as text, Markdown, HTML or JSON."""

from collections.abc import Callable, Mapping

from modswap.core.explained.record import Explained
from modswap.report.explained.data import explained_json
from modswap.report.explained.html import explained_html
from modswap.report.explained.markdown import explained_markdown
from modswap.report.explained.text import explained_text
from modswap.report.page import Page

__all__ = ["FORMS"]

FORMS: Mapping[str, Callable[[Explained, str, Page], str]] = {
    "text": explained_text,
    "markdown": explained_markdown,
    "html": explained_html,
    "json": explained_json,
}
