"""Drawings of pages as numbers and texts: the flow around a site, the stages of a healing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modswap.core.decided.flow import Flow, Neighbour
from modswap.core.healed.agreement import Agreement
from modswap.core.healed.healing import Healing, StageResult
from modswap.core.kept.outcome import SiteOutcome
from modswap.report.page import bare
from modswap.report.web.frame import short

BOX_WIDTH, BOX_HEIGHT, ROW = 232, 54, 68
ARROW_WIDTH = 176  # room for a shape
LETTERS = 28  # that fit into a box
SHAPE_LETTERS = 24  # that fit over an arrow
CHART_WIDTH, CHART_HEIGHT, MARGIN = 640, 220, 34


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """A box with two lines of text; `kind` is `other`, `around` or `site`."""

    x: int
    y: int
    first: str
    second: str
    kind: str


@dataclass(frozen=True, slots=True)
class DrawnArrow:
    """An arrow with a text over it."""

    x1: int
    y1: int
    x2: int
    y2: int


@dataclass(frozen=True, slots=True)
class DrawnFlow:
    """The flow around a site: boxes, arrows, the shapes of input and output, all in words."""

    width: int
    height: int
    boxes: tuple[DrawnBox, ...]
    arrows: tuple[DrawnArrow, ...]
    shapes: tuple[tuple[int, int, str], ...]
    words: str


def drawn_flow(flow: Flow, site: SiteOutcome, classes: Mapping[str, str]) -> DrawnFlow:
    """Return the drawing of the tensors that enter and leave a site.

    `classes` are the bare class names of modules by their paths.
    """
    rows = max(len(flow.sources), len(flow.targets))
    height = rows * ROW
    middle = height // 2
    left, right = BOX_WIDTH + ARROW_WIDTH, 2 * (BOX_WIDTH + ARROW_WIDTH)
    name = bare(site.new_class) or "taken out"
    old = f"{bare(site.old_class)} → {name}" if not site.place else f"{name}, new"
    centre = DrawnBox(left, middle - BOX_HEIGHT // 2, _end(flow.path), _cut(old), "site")
    sources = _column([_texts(one, classes, "after") for one in flow.sources], 0, height)
    targets = _column([_texts(one, classes, "before") for one in flow.targets], right, height)
    arrows = [DrawnArrow(BOX_WIDTH, _mid(box), left - 8, middle) for box in sources]
    arrows += [DrawnArrow(left + BOX_WIDTH, middle, right - 8, _mid(box)) for box in targets]
    over = middle - 8 if rows == 1 else middle - BOX_HEIGHT // 2 - 6
    shapes = (
        (BOX_WIDTH + ARROW_WIDTH // 2, over, _cut(flow.inputs, SHAPE_LETTERS)),
        (left + BOX_WIDTH + ARROW_WIDTH // 2, over, _cut(flow.output, SHAPE_LETTERS)),
    )
    said = f"{_said(flow.sources)} → {flow.inputs} → {flow.path} ({old}) → {flow.output} → "
    words = short(said + _said(flow.targets), 500)
    boxes = (*sources, centre, *targets)
    return DrawnFlow(right + BOX_WIDTH, height, boxes, tuple(arrows), shapes, words)


def _column(texts: Sequence[tuple[str, str, str]], x: int, height: int) -> list[DrawnBox]:
    top = (height - len(texts) * ROW) // 2 + (ROW - BOX_HEIGHT) // 2
    return [
        DrawnBox(x, top + number * ROW, first, second, kind)
        for number, (first, second, kind) in enumerate(texts)
    ]


def _texts(one: Neighbour, classes: Mapping[str, str], side: str) -> tuple[str, str, str]:
    """Return the two lines of a neighbour's box, and its kind."""
    name = classes.get(one.path) or "module"
    if not one.inside:
        return _end(one.path or "the model"), _cut(name), "other"
    beside = f"{side} {one.beside}" if one.beside else f"in {one.path or 'the model'}"
    return _cut(f"operations of {name}"), _end(beside), "around"


def _mid(box: DrawnBox) -> int:
    return box.y + BOX_HEIGHT // 2


def _said(neighbours: Sequence[Neighbour]) -> str:
    return ", ".join(
        f"operations of {one.path or 'the model'}" if one.inside else one.path or "the model"
        for one in neighbours
    )


def _end(path: str) -> str:
    """Return the end of a path that fits into a box."""
    return path if len(path) <= LETTERS else f"…{path[1 - LETTERS :]}"


def _cut(text: str, most: int = LETTERS) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


@dataclass(frozen=True, slots=True)
class DrawnPoint:
    """A point of a curve with its name below and its value above."""

    x: float
    y: float
    name: str
    value: str
    kept: bool


@dataclass(frozen=True, slots=True)
class DrawnCurve:
    """The agreement of a healing by stages."""

    points: tuple[DrawnPoint, ...]
    line: str  # of the points that were kept, as SVG writes them
    goal: float  # height of the goal
    words: str
    width: int = CHART_WIDTH
    height: int = CHART_HEIGHT


def drawn_curve(healing: Healing) -> DrawnCurve:
    """Return the drawing of a healing; agreements below 0 are drawn at 0."""
    return drawn_stages(healing.before, healing.stages, healing.after, healing.goal)


def drawn_stages(
    before: Agreement, stages: Sequence[StageResult], after: Agreement, goal: float
) -> DrawnCurve:
    """Return the drawing of the agreements by stages; those below 0 are drawn at 0."""
    steps = [("swapped", before.value, True)]
    steps += [(one.stage, one.agreement.value, one.kept) for one in stages]
    steps.append(("healed", after.value, True))
    wide = (CHART_WIDTH - 2 * MARGIN) / (len(steps) - 1)
    points = tuple(
        DrawnPoint(round(MARGIN + number * wide, 1), _height(value), name, f"{value:.3f}", kept)
        for number, (name, value, kept) in enumerate(steps)
    )
    line = " ".join(f"{point.x},{point.y}" for point in points if point.kept)
    words = ", ".join(f"{name} {value:.3f}" for name, value, _ in steps)
    return DrawnCurve(points, line, _height(goal), f"{after.metric}: {words}")


def _height(value: float) -> float:
    share = min(max(value, 0.0), 1.0)
    return round(CHART_HEIGHT - MARGIN - share * (CHART_HEIGHT - 2 * MARGIN), 1)
