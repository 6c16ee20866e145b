"""The changed source of a model, as reports print it and files get it."""

from dataclasses import dataclass
from typing import Literal

Way = Literal["call", "line"]


@dataclass(frozen=True, slots=True)
class FileChange:
    """A source file, as it was read and as it is after the change."""

    file: str
    before: bytes
    after: bytes
    encoding: str


@dataclass(frozen=True, slots=True)
class SiteChange:
    """The place in the source at which a new module is made."""

    path: str
    way: Way  # whether the old call was replaced, or a line was added
    file: str
    line: int  # in the file as it was; for an added line, that of its class
    literals: tuple[str, ...] = ()  # observed arguments that are written as numbers


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A source file that was changed in place."""

    file: str
    copy: str  # where its old text is kept; empty where git has it


@dataclass(frozen=True, slots=True)
class StandaloneFile:
    """The text of a file that builds and loads a swapped model without modswap."""

    text: str
    apart: float  # largest difference from the swapped model's outputs, over the largest or 1
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CodeChange:
    """The changed files of a model, and the proof that they build the swapped model."""

    files: tuple[FileChange, ...]
    sites: tuple[SiteChange, ...]
    builder: str  # the call that built the model
    apart: float  # largest difference from the swapped model's outputs, over the largest or 1
    modules: int  # number of modules whose classes were compared
    notes: tuple[str, ...] = ()
    written: str = ""  # the checkpoint that was written with other names; empty for none
