"""The page `docs/modules.md` and its pictures, drawn from a line of text for each module.

`make docs` writes them. A line has chains of steps (`x > a > b`) with `;` between them; a step may
say more behind a colon where it is named first. Steps of one name are one step: a second one of the
kind is called `a#2`.
"""

import html
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PAGE, PICTURES = DOCS / "modules.md", DOCS / "pictures" / "modules"
DRAWN = {
    "BiLevelRoutingAttention": "x > Linear: queries, keys, values > windows: n_win x n_win of them"
    " > means: of queries and keys > routing: the topk best windows"
    " > attention: to pixels of these windows > + > Linear#2 > y; windows > attention;"
    " Linear > depthwise convolution: of the values > +",
    "ACmix": "x > 1x1 convolutions: queries, keys, values > attention: to 7x7 pixels around"
    " > × rate1 > + > y; 1x1 convolutions > fc: 9 maps for each channel > shifts: and their sum"
    " > × rate2 > +; positions: learned > attention",
    "SelfAttention": "x > tokens > attention: of all tokens to all > + > LayerNorm > y; tokens > +",
    "MultiHeadSelfAttention": "x > Linear: queries, keys, values"
    " > attention: of all tokens to all > Linear#2 > y",
    "WindowAttention": "x > windows: shifted, if asked > Linear: queries, keys, values"
    " > attention: within each window > Linear#2 > map: joined, shifted back > y;"
    " bias: of relative positions > attention",
    "SEBlock": "x > means: of each channel > Linear: to fewer > ReLU > Linear#2: back"
    " > sigmoid > × > y; x > ×",
    "ECA": "x > means: of each channel > 1-D convolution: over near channels > sigmoid > × > y;"
    " x > ×",
    "CBAM": "x > means, maxima: of each channel > MLP: of both, added > sigmoid > ×"
    " > means, maxima#2: of each pixel > 7x7 convolution: batch norm > sigmoid#2 > ×#2 > y;"
    " x > ×; × > ×#2",
    "CoordinateAttention": "x > row means > 1x1 convolution: shared, batch norm"
    " > for rows: 1x1, sigmoid > × > y; x > column means > 1x1 convolution"
    " > for columns: 1x1, sigmoid > ×; x > ×",
    "SCSE": "x > means: of each channel > MLP: 1x1 convolutions > sigmoid > × > + > y;"
    " x > 1x1 convolution: to one channel > sigmoid#2 > ×#2 > +; x > ×; x > ×#2",
    "ConvGate": "x > convolution: 3x3 > batch norm > ReLU > y",
}
CHARACTER, HEIGHT, GAP, LINE, MARGIN = 6.6, 40, 30, 58, 16
STYLE = (
    "text{font:12px system-ui,sans-serif;text-anchor:middle;fill:#1b2a2f}.small{font-size:10.5px;"
    "fill:#4a5c62}rect{fill:#e3f2f1;stroke:#00796b}.end{fill:#fff;stroke:#78909c}"
    "path{fill:none;stroke:#546e7a;stroke-width:1.4}"
)
HEAD = """\
# The modules, drawn

How each module of the [catalogue](catalogue.md) computes its output, from left to right. Options
and shapes are in the catalogue; `modswap explain NAME` prints every line of a forward with its
numbers ([explain.md](explain.md)). Written by `make docs`.
"""


@dataclass
class Step:
    """A box of a drawing, in a column and a row."""

    title: str
    detail: str
    row: int
    column: int = 0

    @property
    def width(self) -> float:
        """Return the width of the box."""
        return max(28.0, CHARACTER * max(len(self.title), 0.9 * len(self.detail)) + 16)


@dataclass
class Drawing:
    """Steps by name, and which of them are joined."""

    steps: dict[str, Step] = field(default_factory=dict)
    joined: list[tuple[str, str]] = field(default_factory=list)


def read(line: str) -> Drawing:
    """Return the drawing that a line describes."""
    drawing = Drawing()
    row = 0
    for chain in line.split(";"):
        names = [_step(drawing, text.strip(), row) for text in chain.split(" > ")]
        drawing.joined += pairwise(names)
        row = 1 + max(step.row for step in drawing.steps.values())
    for _ in drawing.steps:  # as many passes as the longest chain may need
        for left, right in drawing.joined:
            first, then = drawing.steps[left], drawing.steps[right]
            then.column = max(then.column, first.column + 1)
    for left, right in drawing.joined:  # a step without inputs is next to the one that takes it
        if left != "x" and left not in {to for _, to in drawing.joined}:
            drawing.steps[left].column = drawing.steps[right].column - 1
    return drawing


def _step(drawing: Drawing, text: str, row: int) -> str:
    name, _, detail = text.partition(": ")
    drawing.steps.setdefault(name, Step(name.partition("#")[0], detail, row))
    return name


def svg(name: str, line: str) -> str:
    """Return the picture of a module."""
    drawing = read(line)
    steps = drawing.steps.values()
    columns = 1 + max(step.column for step in steps)
    widths = [max(s.width for s in steps if s.column == column) for column in range(columns)]
    lefts = [MARGIN + sum(widths[:column]) + GAP * column for column in range(columns)]
    centres = [left + width / 2 for left, width in zip(lefts, widths, strict=True)]
    arcs = [pair for pair in drawing.joined if _is_arc(drawing, pair)]
    top = MARGIN + 16 * len(arcs)
    below = 10 * any(_is_under(drawing, pair) for pair in drawing.joined)
    height = top + LINE * (1 + max(step.row for step in steps)) + below
    size = (lefts[-1] + widths[-1] + MARGIN, height)
    parts = [_box(step, centres[step.column], top) for step in steps]
    parts += [
        _under(drawing, pair, centres, size[1] - 10)
        if _is_under(drawing, pair)
        else _line(drawing, pair, centres, top)
        for pair in drawing.joined
        if pair not in arcs
    ]
    parts += [
        _arc(drawing, pair, centres, (top, top - 12 - 14 * number))
        for number, pair in enumerate(arcs)
    ]
    said = html.escape(" then ".join(step.title for step in steps if step.row == 0))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]:.0f} {size[1]:.0f}" '
        f'width="{size[0]:.0f}" height="{size[1]:.0f}" role="img">\n<title>{name}: {said}</title>\n'
        f"<style>{STYLE}</style>\n"
        '<marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><polygon points="0,0 8,4 0,8" fill="#546e7a"/></marker>\n'
        f'<rect width="100%" height="100%" style="fill:#fff;stroke:none"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _is_arc(drawing: Drawing, pair: tuple[str, str]) -> bool:
    """Return whether a line passes over other steps of its row."""
    left, right = (drawing.steps[name] for name in pair)
    return left.row == right.row and right.column - left.column > 1


def _is_under(drawing: Drawing, pair: tuple[str, str]) -> bool:
    """Return whether a line to a lower row passes below other steps."""
    left, right = (drawing.steps[name] for name in pair)
    return right.row > left.row and right.column - left.column > 1


def _box(step: Step, centre: float, top: float) -> str:
    y = top + LINE * step.row
    kind = ' class="end"' if step.title in {"x", "y", "+", "×"} else ""
    small = 6 if step.title in {"+", "×"} else 0
    radius = HEIGHT / 2 - small if small else 6
    title, detail = html.escape(step.title), html.escape(step.detail)
    lines = f'<text x="{centre:.1f}" y="{y + (18 if detail else 24):.1f}">{title}</text>'
    if detail:
        lines += f'<text class="small" x="{centre:.1f}" y="{y + 32:.1f}">{detail}</text>'
    return (
        f'<rect{kind} x="{centre - step.width / 2:.1f}" y="{y + small:.1f}" '
        f'width="{step.width:.1f}" height="{HEIGHT - 2 * small}" rx="{radius:.0f}"/>{lines}'
    )


def _line(drawing: Drawing, pair: tuple[str, str], centres: list[float], top: float) -> str:
    left, right = (drawing.steps[name] for name in pair)
    x = centres[left.column] + left.width / 2
    end = centres[right.column] - right.width / 2
    y, to = (top + LINE * step.row + HEIGHT / 2 for step in (left, right))
    bend = GAP if y != to else 0
    start = f"M{x:.1f},{y:.1f}"
    if to > y:  # down at once, then straight
        curve = f"C{x + bend:.1f},{y:.1f} {x:.1f},{to:.1f} {x + bend:.1f},{to:.1f} H{end:.1f}"
    else:  # straight, then up
        near = end - bend
        curve = f"H{near:.1f} C{end:.1f},{y:.1f} {near:.1f},{to:.1f} {end:.1f},{to:.1f}"
    return f'<path d="{start} {curve}" marker-end="url(#tip)"/>'


def _arc(
    drawing: Drawing, pair: tuple[str, str], centres: list[float], heights: tuple[float, float]
) -> str:
    left, right = (drawing.steps[name] for name in pair)
    x, end = centres[left.column], centres[right.column]
    y = heights[0] + LINE * left.row
    high = y - heights[0] + heights[1]
    start = y + 6 * (left.title in {"+", "×"})
    stop = y + 6 * (right.title in {"+", "×"})
    way = f"M{x:.1f},{start:.1f} V{high:.1f} H{end:.1f} V{stop:.1f}"
    return f'<path d="{way}" marker-end="url(#tip)"/>'


def _under(drawing: Drawing, pair: tuple[str, str], centres: list[float], low: float) -> str:
    left, right = (drawing.steps[name] for name in pair)
    x, end = centres[left.column], centres[right.column]
    y, to = (low - 18 - LINE * (right.row - step.row) for step in (left, right))
    way = f"M{x:.1f},{y:.1f} V{low:.1f} H{end:.1f} V{to - 6 * (right.title in {'+', '×'}):.1f}"
    return f'<path d="{way}" marker-end="url(#tip)"/>'


def page() -> str:
    """Return the page."""
    return HEAD + "".join(
        f"\n## {name}\n\n![How {name} computes its output](pictures/modules/{name}.svg)\n\n"
        f"[Options of {name}](catalogue.md#{name.lower()})\n"
        for name in DRAWN
    )


def files() -> Iterator[tuple[Path, str]]:
    """Yield the page and each picture, with the text to write."""
    yield PAGE, page()
    for name, line in DRAWN.items():
        yield PICTURES / f"{name}.svg", svg(name, line)


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for file, text in files():
        file.write_text(text, encoding="utf-8")
