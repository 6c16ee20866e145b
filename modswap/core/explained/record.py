"""The record of an explained forward pass: what each line computed, without tensors."""

from collections.abc import Iterator
from dataclasses import dataclass

from modswap.core.explained.routing import RoutedWindows
from modswap.core.explained.words import ModuleText, Words


@dataclass(frozen=True, slots=True)
class Numbers:
    """The cost of a line, with that of all it calls."""

    flops: int = 0  # as torch's own counter has them
    beyond: int = 0  # in operators that torch's counter leaves out
    nbytes: int = 0  # of newly allocated results
    seconds: float | None = None  # None where no time was taken


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a tensor."""

    sizes: tuple[int, ...]
    axes: tuple[str, ...]  # a name for each axis; its size as text where it has none
    dtype: str = ""  # empty for the dtype of the whole pass

    def __str__(self) -> str:
        one = "," if len(self.axes) == 1 else ""
        return f"({', '.join(self.axes)}{one})" + (f" {self.dtype}" if self.dtype else "")


@dataclass(frozen=True, slots=True)
class SetValue:
    """A value that a line set, or returned."""

    name: str  # empty for the value that is returned
    what: tuple[Shape | str, ...]  # the first of the different values that it had
    more: bool = False  # whether it had others too

    def __str__(self) -> str:
        shown = " | ".join(map(str, self.what)) + (" | …" if self.more else "")
        if not self.name:
            return f"→ {shown}"
        tensor = isinstance(self.what[0], Shape) or self.what[0].startswith(("(", "["))
        return f"{self.name} {shown}" if tensor else f"{self.name} = {shown}"


@dataclass(frozen=True, slots=True)
class Line:
    """A statement of the source, as it ran."""

    first: int  # number of its first line in the file
    last: int
    source: tuple[str, ...]  # its rows, without the indentation of the function
    count: int = 0  # how often it ran; 0 where it did not
    numbers: Numbers = Numbers()
    values: tuple[SetValue, ...] = ()
    legend: str = ""  # the axes of an einsum
    marks: tuple[str, ...] = ()  # NaN, infinity
    words: Words | None = None  # the explanation of the step
    calls: tuple["Followed", ...] = ()  # functions that it called, as far as they are followed

    @property
    def text(self) -> str:
        """Return the statement on one line."""
        return " ".join(row.strip() for row in self.source).replace("( ", "(").replace(" )", ")")

    @property
    def indent(self) -> int:
        """Return the number of blanks before it, within its function."""
        return len(self.source[0]) - len(self.source[0].lstrip()) if self.source else 0


@dataclass(frozen=True, slots=True)
class Followed:
    """A function as one line called it, all calls from there together."""

    name: str  # `ACmix.forward`
    file: str
    first: int  # number of its first line
    count: int
    numbers: Numbers
    paths: tuple[str, ...] = ()  # of the modules whose method it is; empty for a plain function
    returned: SetValue | None = None
    lines: tuple[Line, ...] = ()  # empty where it is not shown line by line
    # whether it is the forward of torch's Sequential, which only calls its layers
    container: bool = False

    def walk(self) -> Iterator[Line]:
        """Yield its lines, and those of all that they call."""
        for line in self.lines:
            yield line
            for inner in line.calls:
                yield from inner.walk()


@dataclass(frozen=True, slots=True)
class UsedOption:
    """An argument of the constructor with its value in use."""

    name: str
    value: str  # empty where the module does not keep it
    words: Words | None = None


@dataclass(frozen=True, slots=True)
class OtherForm:
    """The other form of a module with two: that of the paper, or that which runs."""

    name: str  # plain, or fast
    numbers: Numbers
    difference: float  # of the outputs, the largest, over their size


@dataclass(frozen=True, slots=True)
class Formula:
    """The formula of FLOPs in the catalogue's row."""

    text: str
    flops: int  # for the batch of this pass


@dataclass(frozen=True, slots=True)
class Explained:
    """A forward pass, explained line by line."""

    title: str  # the module with its arguments
    inputs: tuple[str, ...]
    facts: tuple[Words, ...]  # dtype, device, mode, weights
    root: Followed
    numbers: Numbers  # of the whole pass; its seconds are those of the lines together
    counter: int  # FLOPs as torch's own counter has them in a run of its own
    # operators that it leaves out, with their FLOPs
    left_out: tuple[tuple[str, int], ...] = ()
    equal: bool = True  # whether its outputs were compared with those of a plain pass, and equal
    plain_seconds: float | None = None  # of the pass without a recorder
    axes: tuple[tuple[str, str], ...] = ()  # names of axes and sizes
    options: tuple[UsedOption, ...] = ()
    form: str = ""  # plain or fast, of a module with two forms
    other: OtherForm | None = None
    formula: Formula | None = None
    text: ModuleText | None = None
    routing: RoutedWindows | None = None
    notes: tuple[Words, ...] = ()
