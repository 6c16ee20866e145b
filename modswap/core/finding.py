"""What an examination of a swap found, whether a report may call it a failure or not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["passed", "failed", "skipped"]
CheckName = Literal[
    "matrix",
    "reached",
    "gradients",
    "independence",
    "determinism",
    "finite",
    "untouched",
    "dependence",
    "sizes",
    "cost",
    "limits",
    "survival",
    "export",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one examination found at one place.

    Args:
        check: Name of the examination, a row of `modswap.ops.examine.table`.
        path: Path of the site or module that it concerns; empty for the whole model.
        status: `failed` ends with exit code 1; `skipped` says in `what` why nothing is known.
        what: What was found, with both sides; empty where there is nothing to tell.
        fix: What the user can do.
        data: Numbers and names behind it, as JSON can hold them.
    """

    check: CheckName
    path: str
    status: Status
    what: str = ""
    fix: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
