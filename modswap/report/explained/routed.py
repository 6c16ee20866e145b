"""The routing of an explained module on a page: windows over a picture, chosen one by one."""

from base64 import b64encode
from dataclasses import dataclass
from math import dist

from modswap.core.explained.drawing import opacity_of
from modswap.core.explained.routing import RoutedWindows
from modswap.report.explained.labels import label, routed_words

MAX_WINDOWS = 1024  # of a page
SIDE = 640  # of the drawing, the longer one
_ROOM = 18  # of a window that holds a number


@dataclass(frozen=True, slots=True)
class DrawnWindow:
    """A window of the drawing.

    Args:
        place: Its row and its column, as `3,4`.
        box: Its left and top side, its width and its height.
        routes: The windows that it attends to, the best first: numbers among those that are drawn,
            each with the opacity of its colour, as `7:0.62 8:0.4`.
        words: The same for readers.
        uses: How many windows attend to it.
    """

    place: tuple[int, int]
    box: tuple[float, float, float, float]
    routes: str
    words: str
    uses: int

    @property
    def numbered(self) -> bool:
        """Return whether it has room for a number."""
        return min(self.box[2:]) >= _ROOM


@dataclass(frozen=True, slots=True)
class DrawnRouting:
    """The routing as a page shows it.

    Args:
        width: Of the drawing.
        height: Of the drawing.
        picture: The address of the picture; empty where there is none.
        windows: Those that hold a part of the picture; none where there are too many for a page.
        start: The number of the one that is chosen at first.
    """

    width: int
    height: int
    picture: str
    windows: tuple[DrawnWindow, ...]
    start: int

    def rank(self, number: int) -> tuple[int, str]:
        """Return the rank of a window among those of the first choice, and its opacity; 0: none."""
        for rank, route in enumerate(self.windows[self.start].routes.split(), 1):
            other, _, opacity = route.partition(":")
            if int(other) == number:
                return rank, opacity
        return 0, "0"


def drawn_routing(found: RoutedWindows, picture: bytes, language: str) -> DrawnRouting:
    """Return a routing as a page shows it, over a picture as JPEG, or over nothing."""
    scale = SIDE / max(found.width, found.height)
    real = found.real if len(found.real) <= MAX_WINDOWS else ()
    numbers = {window: number for number, window in enumerate(real)}
    uses = found.uses
    windows = tuple(
        DrawnWindow(
            found.place(window),
            _scaled(found, window, scale),
            _routes(found, window, numbers),
            _words(found, window, language),
            uses[window],
        )
        for window in real
    )
    middle = found.width / 2, found.height / 2
    start = min(real, key=lambda one: dist(found.centre(one), middle), default=0)
    address = f"data:image/jpeg;base64,{b64encode(picture).decode('ascii')}" if picture else ""
    sides = round(found.width * scale), round(found.height * scale)
    return DrawnRouting(*sides, address, windows, numbers.get(start, 0))


def _scaled(found: RoutedWindows, window: int, scale: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = (round(side * scale, 1) for side in found.box(window))
    return left, top, round(right - left, 1), round(bottom - top, 1)


def _routes(found: RoutedWindows, window: int, numbers: dict[int, int]) -> str:
    weights = found.weights[window]
    pairs = zip(found.routes[window], weights, strict=True)
    return " ".join(
        f"{numbers[other]}:{opacity_of(weight, weights):.2g}"
        for other, weight in pairs
        if other in numbers
    )


def _words(found: RoutedWindows, window: int, language: str) -> str:
    shown = []
    for other, weight in zip(found.routes[window], found.weights[window], strict=True):
        row, column = found.place(other)
        place = f"{row},{column}" if found.boxes[other] else label("padding", language)
        shown.append(f"{place} ({weight:.0%})")
    return routed_words(found.place(window), shown, language)
