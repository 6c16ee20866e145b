"""The result of an examination at one place of a swapped model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one examination at one place.

    Args:
        check: Name of the examination, a row of `modswap.ops.examine.table`.
        path: Path of the site or module that it concerns; empty for the whole model.
        status: `failed` ends with exit code 1; `skipped` gives the reason in `what`.
        what: The observation, with both sides; empty where there is nothing to report.
        fix: What the user can do.
        data: Numbers and names behind it, as JSON can hold them.
        about: Sentence of the examination's row, for reports.
    """

    check: str
    path: str
    status: Status
    what: str = ""
    fix: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""
