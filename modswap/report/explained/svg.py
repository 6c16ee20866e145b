"""The drawing of a routing as SVG, over a picture or over nothing."""

from base64 import b64encode
from collections.abc import Iterator
from html import escape

from modswap.core.explained.drawing import LETTER, Drawing, Label, Mark, Rectangle, Stroke
from modswap.core.version import __version__

_FONT = "system-ui, sans-serif"


def routing_svg(drawing: Drawing, picture: bytes | None) -> str:
    """Return the drawing; `picture` is the picture as PNG."""
    return "\n".join(_elements(drawing, picture)) + "\n"


def _elements(drawing: Drawing, picture: bytes | None) -> Iterator[str]:
    size = f"{drawing.width} {drawing.height}"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" '
        f'width="{drawing.width}" height="{drawing.height}" font-family="{_FONT}" '
        f'font-size="{LETTER}">'
    )
    yield f"<metadata>modswap explain {__version__}</metadata>"
    yield '<rect width="100%" height="100%" fill="#ffffff"/>'
    if picture is not None:
        data = b64encode(picture).decode("ascii")
        yield (
            '<defs><image id="picture" width="1" height="1" preserveAspectRatio="none" '
            f'href="data:image/png;base64,{data}"/></defs>'
        )
    for left, top, right, bottom in drawing.pictures:
        width, height = right - left, bottom - top
        if picture is not None:
            move = f"translate({left:.2f} {top:.2f}) scale({width:.2f} {height:.2f})"
            yield f'<use href="#picture" transform="{move}"/>'
        else:
            yield _rectangle(left, top, width, height, 'fill="#f6f8fa"')
    yield from map(_mark, drawing.marks)
    yield "</svg>"


def _rectangle(left: float, top: float, width: float, height: float, how: str) -> str:
    return f'<rect x="{left:.2f}" y="{top:.2f}" width="{width:.2f}" height="{height:.2f}" {how}/>'


def _mark(mark: Mark) -> str:
    if isinstance(mark, Rectangle):
        left, top, right, bottom = mark.box
        how = f'fill="{mark.color}" fill-opacity="{mark.opacity:.2f}"'
        if mark.line:
            how += f' stroke="{mark.color}" stroke-width="{mark.line}"'
        return _rectangle(left, top, right - left, bottom - top, how)
    if isinstance(mark, Stroke):
        (x1, y1), (x2, y2) = mark.start, mark.end
        ends = f'x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}"'
        return f'<line {ends} stroke="{mark.color}" stroke-width="{mark.width}"/>'
    return _label(mark)


def _label(mark: Label) -> str:
    x, y = mark.at
    how = f'x="{x:.2f}" y="{y:.2f}" fill="{mark.color}"'
    if mark.centred:
        how += ' text-anchor="middle" dominant-baseline="central"'
    return f"<text {how}>{escape(mark.text)}</text>"
