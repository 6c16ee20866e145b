"""The record of a check of the swap: it passed, failed or was skipped, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["passed", "failed", "skipped"]
THE_MODEL = "the model"
Settings = tuple[tuple[str, Any], ...]
ADAPT: Settings = (("adapt", True),)
HERE = ""  # in a setting: the key that the error is about


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check at a place: a pass, or an examination of a module or of the model."""

    check: str  # `pass`, or the name of an examination, a row of `modswap.ops.examine.table`
    path: str  # path of the site or module that it concerns; empty for the whole model
    status: Status  # `failed` ends with exit code 1; `skipped` gives the reason in `what`
    what: str = ""  # the observation, with both sides; empty where there is nothing to report
    fix: str = ""  # a step that the user can take
    # numbers and names behind it, as JSON can hold them
    data: Mapping[str, Any] = field(default_factory=dict, hash=False)
    # keys of the rule, or of its `args`, with values that could mend a failure
    settings: Settings = ()
    about: str = field(default="", compare=False)  # sentence of the examination's row, for reports
