"""A drawing of the routing as plain shapes, which SVG and PNG show alike."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modswap.core.explained.routing import Box, RoutedWindows
from modswap.core.explained.words import Words

PANEL = 320  # width of a picture in the drawing
MARGIN = 16
CAPTION = 44  # height below a picture
LETTER = 13  # height of letters
PANELS_IN_A_ROW = 3
SOURCE, ROUTED, USED, INK = "#d1242f", "#0969da", "#bf8700", "#1f2328"
_LEAST, _MOST = 0.18, 0.62  # opacity of windows with the smallest and the largest weight
_USES = Words("how many windows attend to each", "每个窗口被多少个窗口关注")
_FROM = Words("window {0} (row, column) attends to", "窗口 {0}（行, 列）关注")
_NAMED = 5  # windows that a caption names


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A rectangle, filled or outlined."""

    box: Box
    color: str
    opacity: float = 0.0  # of the filling; 0 for none
    line: float = 0.0  # width of the outline; 0 for none


@dataclass(frozen=True, slots=True)
class Stroke:
    """A line from one point to another."""

    start: tuple[float, float]
    end: tuple[float, float]
    color: str
    width: float


@dataclass(frozen=True, slots=True)
class Label:
    """A text, centred on a point or beginning there."""

    at: tuple[float, float]
    text: str
    color: str
    centred: bool = True


Mark = Rectangle | Stroke | Label


@dataclass(frozen=True, slots=True)
class Drawing:
    """Marks over copies of a picture."""

    width: int
    height: int
    pictures: tuple[Box, ...]  # the places of the picture
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class _Panel:
    """A copy of the picture in the drawing."""

    left: float
    top: float
    scale: float

    def placed(self, box: Box) -> Box:
        left, top, right, bottom = (side * self.scale for side in box)
        return left + self.left, top + self.top, right + self.left, bottom + self.top

    def point(self, at: tuple[float, float]) -> tuple[float, float]:
        return at[0] * self.scale + self.left, at[1] * self.scale + self.top


def drawing_of(found: RoutedWindows, chosen: Sequence[int], language: str) -> Drawing:
    """Return the drawing: a panel for each chosen window, and one of how windows are used."""
    scale = PANEL / found.width
    height = found.height * scale
    panels = []
    for number in range(len(chosen) + 1):
        row, column = divmod(number, PANELS_IN_A_ROW)
        left = MARGIN + column * (PANEL + MARGIN)
        panels.append(_Panel(left, MARGIN + row * (height + CAPTION), scale))
    marks = [
        mark
        for panel, window in zip(panels[:-1], chosen, strict=True)
        for mark in _routed(found, window, panel, language)
    ]
    marks += _used(found, panels[-1], language)
    rows = -(-len(panels) // PANELS_IN_A_ROW)
    columns = min(len(panels), PANELS_IN_A_ROW)
    whole = (0.0, 0.0, float(found.width), float(found.height))
    return Drawing(
        round(MARGIN + columns * (PANEL + MARGIN)),
        round(MARGIN + rows * (height + CAPTION)),
        tuple(panel.placed(whole) for panel in panels),
        tuple(marks),
    )


def opacity_of(weight: float, weights: Sequence[float]) -> float:
    """Return the opacity of a window by its weight, among those of all windows attended to."""
    return _LEAST + (_MOST - _LEAST) * weight / (max(weights, default=1.0) or 1.0)


def _grid(found: RoutedWindows, panel: _Panel) -> Iterator[Mark]:
    for box in found.boxes:
        if box is not None:
            yield Rectangle(panel.placed(box), INK, line=0.4)


def _routed(found: RoutedWindows, window: int, panel: _Panel, language: str) -> Iterator[Mark]:
    yield from _grid(found, panel)
    weights = found.weights[window]
    names = []
    start = panel.point(found.centre(window))
    for rank, (other, weight) in enumerate(zip(found.routes[window], weights, strict=True), 1):
        box = found.boxes[other]
        if box is None:
            continue
        opacity = opacity_of(weight, weights)
        yield Rectangle(panel.placed(box), ROUTED, opacity=opacity)
        end = panel.point(found.centre(other))
        if other != window:
            yield Stroke(start, end, ROUTED, 1.5)
        yield Label(end, str(rank), INK)
        names.append(f"{_place(found, other)} {weight:.0%}")
    yield Rectangle(panel.placed(found.box(window)), SOURCE, line=3)
    more = ["…"] if len(names) > _NAMED else []
    yield _caption(found, panel, _FROM.into(language).format(_place(found, window)))
    yield _caption(found, panel, ", ".join([*names[:_NAMED], *more]), row=1)


def _used(found: RoutedWindows, panel: _Panel, language: str) -> Iterator[Mark]:
    uses = found.uses
    most = max(uses.values(), default=0) or 1
    for window, count in uses.items():
        box = panel.placed(found.box(window))
        yield Rectangle(box, USED, opacity=0.85 * count / most)
        yield Label(panel.point(found.centre(window)), str(count), INK)
    yield from _grid(found, panel)
    yield _caption(found, panel, _USES.into(language))


def _caption(found: RoutedWindows, panel: _Panel, text: str, row: int = 0) -> Label:
    below = panel.top + found.height * panel.scale + (row + 1) * (LETTER + 3)
    return Label((panel.left, below), text, INK, centred=False)


def _place(found: RoutedWindows, window: int) -> str:
    row, column = found.place(window)
    return f"({row},{column})"
