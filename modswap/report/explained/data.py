"""A forward pass explained line by line, as JSON."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from modswap.core.explained.record import Explained
from modswap.core.explained.words import Words
from modswap.core.version import __version__
from modswap.report.page import Page, as_json

SCHEMA = 1


def explained_json(explained: Explained, language: str, page: Page) -> str:
    """Return the explanation as JSON, its texts in one language."""
    del page
    head = {"modswap": __version__, "schema": SCHEMA, "command": "explain", "language": language}
    return as_json(head | _plain(explained, language))


def _plain(value: Any, language: str) -> Any:
    """Return a record as plain data."""
    if isinstance(value, Words):
        return value.into(language)
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name), language) for one in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item, language) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item, language) for item in value]
    return value
