"""The budget of a file: the most that reading an untrusted file may cost, in one place.

Every bound is on what a file asks for, and known before it is spent. Sound files stay far below.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate, islice

MAX_HEADER_ENTRIES = 500_000  # tensors of a safetensors header
MAX_NAME_CHARACTERS = 4_096  # of a module or tensor
MAX_NAME_DOTS = 256
MAX_MODULE_DEPTH = 200  # modules inside modules; torch's own walks call themselves at each
MAX_MODULES = 100_000  # of a model that a file holds, each under each of its paths
MAX_PATHS = 20_000  # of shared modules, beyond the number of modules
MAX_SHARED_ENTRIES = 2_000_000  # of shared containers, under all their paths
MAX_PATH_CHARACTERS = 64 << 20  # of the paths of all modules or tensors together
MAX_WALKED_CHARACTERS = 1 << 30  # of the names of all entries, most of which no walk makes
MAX_EXPANDED_BYTES = 512 << 20  # of all tensors, beyond `EXPANDED_TIMES` the file's size
EXPANDED_TIMES = 4  # how often the bytes of a file may be in its tensors: ties, views, copies
SHORTER_NAMES = "save it again with shorter names"  # the remedy
FREE_BYTES = 64 << 20  # of memory that any pickle may take
_BYTES_PER_BYTE = 32  # of memory for each byte of a pickle
_MAX_MEMORY_BYTES = 1 << 30


def name_flaw(name: str) -> str:
    """Return the flaw of the name of a tensor or module; empty for a name that can be used."""
    if len(name) > MAX_NAME_CHARACTERS:
        return f"a name in it has {len(name):,} characters, over {MAX_NAME_CHARACTERS:,}"
    if name.count(".") > MAX_NAME_DOTS:
        return f"a name in it has {name.count('.'):,} dots, over {MAX_NAME_DOTS}"
    return ""


def names_flaw(names: Iterable[str]) -> str:
    """Return the flaw of the names of a model's tensors; empty for names that can be used.

    The paths that they imply, every dotted beginning once, have a length in all.
    """
    known = list(names)
    if flaw := next(filter(None, map(name_flaw, known)), ""):
        return flaw
    # beginnings that names share count each time in this sum, which is quick and mostly enough
    if sum(len(name) * name.count(".") for name in known) <= MAX_PATH_CHARACTERS:
        return ""
    if _path_characters(known) <= MAX_PATH_CHARACTERS:
        return ""
    return f"the paths that its names imply have over {MAX_PATH_CHARACTERS:,} characters in all"


def _path_characters(names: Iterable[str]) -> int:
    """Return the characters of all dotted beginnings of names, each beginning once."""
    total = 0
    last: list[str] = []
    for segments in sorted(name.split(".")[:-1] for name in names):
        pairs = zip(last, segments, strict=False)
        least = min(len(last), len(segments))
        shared = next((at for at, (old, new) in enumerate(pairs) if old != new), least)
        ends = accumulate(len(segment) + 1 for segment in segments)
        total += sum(islice(ends, shared, None))
        last = segments
    return total


@dataclass(slots=True)
class PathBudget:
    """The paths of a model's modules seen so far, those of shared modules under each path.

    `most` is the number of paths that there may be.
    """

    most: int = MAX_MODULES
    modules: set[int] = field(default_factory=set)  # their ids
    paths: int = 0
    characters: int = 0  # of all paths

    def flaw(self, path: str, depth: int, module: object) -> str:
        """Add a path of a module; return the flaw of all so far, empty for usable ones."""
        self.paths += 1
        self.characters += len(path)
        self.modules.add(id(module))
        if depth > MAX_MODULE_DEPTH:
            return f"its modules are nested over {MAX_MODULE_DEPTH} deep"
        if self.paths > self.most:
            return f"it has over {self.most:,} modules"
        if self.paths > len(self.modules) + MAX_PATHS:
            return f"its shared modules have over {MAX_PATHS:,} paths"
        if self.characters > MAX_PATH_CHARACTERS:
            return f"its paths have over {MAX_PATH_CHARACTERS:,} characters"
        return name_flaw(path)


def expanded_flaw(nbytes: int, file_bytes: int) -> str:
    """Return the flaw of a file whose tensors, each view counted once, have so many bytes."""
    most = EXPANDED_TIMES * file_bytes + MAX_EXPANDED_BYTES
    if nbytes <= most:
        return ""
    return (
        f"its tensors have {nbytes:,} bytes, and the file {file_bytes:,}: used, they would take "
        "more memory than the file can account for"
    )


@dataclass(slots=True)
class MemoryBudget:
    """The bytes of memory that the objects of a pickle may take, by the bytes read of it.

    `room` is lowered by those who spend; below zero they call `grow`.
    """

    free: int = FREE_BYTES  # granted to any pickle
    granted: int = field(init=False)
    room: int = field(init=False)

    def __post_init__(self) -> None:
        self.granted = self.room = self.free

    def grow(self, read_bytes: int) -> bool:
        """Grant what the bytes read so far allow; return False if more is spent than that."""
        spent = self.granted - self.room
        self.granted = min(self.free + _BYTES_PER_BYTE * read_bytes, _MAX_MEMORY_BYTES)
        self.room = self.granted - spent
        return self.room >= 0
