"""The drawing of a routing as SVG."""

from xml.etree import ElementTree

from modswap.core.explained.drawing import Drawing, Label, Rectangle, Stroke
from modswap.report.explained.svg import routing_svg

DRAWING = Drawing(
    100,
    60,
    ((10, 10, 50, 40),),
    (
        Rectangle((10, 10, 20, 20), "#0969da", opacity=0.5),
        Rectangle((10, 10, 20, 20), "#d1242f", line=3),
        Stroke((0, 0), (5, 5), "#0969da", 1.5),
        Label((15, 15), "1 < 2 & 3", "#1f2328"),
        Label((10, 50), "below", "#1f2328", centred=False),
    ),
)
SPACE = "{http://www.w3.org/2000/svg}"


def test_marks_are_elements_over_the_picture() -> None:
    root = ElementTree.fromstring(routing_svg(DRAWING, b"png"))

    names = [element.tag.removeprefix(SPACE) for element in root]
    assert names == ["metadata", "rect", "defs", "use", "rect", "rect", "line", "text", "text"]
    image = root.find(f"{SPACE}defs/{SPACE}image")
    assert image is not None
    assert image.get("href") == "data:image/png;base64,cG5n"
    texts = root.findall(f"{SPACE}text")
    assert [text.text for text in texts] == ["1 < 2 & 3", "below"]
    assert [text.get("text-anchor") for text in texts] == ["middle", None]
    assert root.get("viewBox") == "0 0 100 60"


def test_drawing_without_a_picture_has_an_empty_ground() -> None:
    text = routing_svg(DRAWING, None)

    assert "<image" not in text
    assert 'fill="#f6f8fa"' in text
