"""The routing of windows to windows, in pixels of the picture, and measures of it."""

from collections import Counter
from dataclasses import dataclass
from math import dist, log
from statistics import fmean

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class RoutedWindows:
    """The windows that each window attends to.

    Windows are numbered row by row from the top left. Those that hold padding alone have no box,
    and no part in the measures.
    """

    width: int  # of the picture, in pixels
    height: int
    rows: int  # of windows
    columns: int
    boxes: tuple[Box | None, ...]
    routes: tuple[tuple[int, ...], ...]  # of each window, the best first
    weights: tuple[tuple[float, ...], ...]  # softmax over a window's routes

    @property
    def real(self) -> tuple[int, ...]:
        """Return the windows that hold a part of the picture."""
        return tuple(number for number, box in enumerate(self.boxes) if box is not None)

    def box(self, window: int) -> Box:
        """Return the place of a window; the origin for one of padding."""
        return self.boxes[window] or (0.0, 0.0, 0.0, 0.0)

    def centre(self, window: int) -> tuple[float, float]:
        """Return the centre of a window; the origin for one of padding."""
        left, top, right, bottom = self.box(window)
        return (left + right) / 2, (top + bottom) / 2

    @property
    def _pairs(self) -> list[tuple[int, int]]:
        real = set(self.real)
        return [(one, other) for one in self.real for other in self.routes[one] if other in real]

    @property
    def distance(self) -> float:
        """Return the mean distance from a window to those it attends to, centre to centre."""
        found = [dist(self.centre(one), self.centre(other)) for one, other in self._pairs]
        return fmean(found) if found else 0.0

    @property
    def any_distance(self) -> float:
        """Return the mean distance of any two windows, a window and itself included."""
        centres = [self.centre(one) for one in self.real]
        return fmean(dist(one, other) for one in centres for other in centres) if centres else 0.0

    @property
    def uses(self) -> Counter[int]:
        """Return how many windows attend to each."""
        return Counter(dict.fromkeys(self.real, 0) | Counter(other for _, other in self._pairs))

    @property
    def evenness(self) -> float:
        """Return the entropy of the uses over that of equal ones: 1 if all are used alike."""
        counts = [count for count in self.uses.values() if count]
        total = sum(counts)
        if len(self.real) < 2 or not total:
            return 1.0
        entropy = -sum(count / total * log(count / total) for count in counts)
        return entropy / log(len(self.real))

    @property
    def unused(self) -> int:
        """Return the number of windows to which no window attends."""
        return sum(not count for count in self.uses.values())

    @property
    def into_padding(self) -> float:
        """Return the share of routes that lead into padding."""
        routes = sum(len(self.routes[one]) for one in self.real)
        return 1 - len(self._pairs) / routes if routes else 0.0

    def number(self, row: int, column: int) -> int | None:
        """Return the number of a window by its place; None where there is none, or padding."""
        if not (0 <= row < self.rows and 0 <= column < self.columns):
            return None
        found = row * self.columns + column
        return found if self.boxes[found] is not None else None

    def place(self, window: int) -> tuple[int, int]:
        """Return the row and the column of a window."""
        return divmod(window, self.columns)

    @property
    def examples(self) -> tuple[int, ...]:
        """Return a few windows spread over the picture."""
        real = [self.place(one) for one in self.real]
        if not real:
            return ()
        rows, columns = (max(places) + 1 for places in zip(*real, strict=True))
        spread = ((0.25, 0.25), (0.25, 0.75), (0.5, 0.5), (0.75, 0.25), (0.75, 0.75))
        found = (self.number(int(rows * y), int(columns * x)) for y, x in spread)
        return tuple(dict.fromkeys(one for one in found if one is not None))


@dataclass(frozen=True, slots=True)
class SiteRouting:
    """The routing of a new module in a model, over a picture as JPEG."""

    path: str
    windows: RoutedWindows
    picture: bytes
