"""The routing on a page of an explained module."""

from dataclasses import replace

from modswap.report.explained import routed
from modswap.report.explained.html import explained_html
from modswap.report.explained.routed import drawn_routing
from modswap.report.page import Page
from tests.core.explained.test_routing import PADDED, square
from tests.report.explained.records import explained
from tests.report.web.pages import parsed_page


def test_windows_without_padding_are_drawn_over_the_picture() -> None:
    found = drawn_routing(PADDED, b"jpeg", "en")

    assert (found.width, found.height, found.picture) == (
        640,
        640,
        "data:image/jpeg;base64,anBlZw==",
    )
    assert [one.place for one in found.windows] == [(0, 0), (1, 0)]
    assert [one.box for one in found.windows] == [(0, 0, 320, 320), (0, 320, 320, 320)]
    assert [one.uses for one in found.windows] == [1, 1]
    # windows 1 and 3 of the routing are padding; 2 is the second that is drawn
    assert [one.routes for one in found.windows] == ["0:0.62", "1:0.62"]
    assert found.windows[0].words == "Window 0,0 (row, column) attends to 0,0 (75%), padding (25%)"
    assert [found.rank(number) for number in (0, 1)] == [(1, "0.62"), (0, "0")]
    assert found.windows[0].numbered
    assert "补边 (25%)" in drawn_routing(PADDED, b"", "zh").windows[0].words


def test_window_in_the_middle_is_chosen_first() -> None:
    boxes = tuple((10.0 * at, 0.0, 10.0 * at + 10, 4.0) for at in range(5))
    row = replace(
        PADDED, width=50, height=4, rows=1, columns=5, boxes=boxes,
        routes=((4, 0),) * 5, weights=((0.6, 0.4),) * 5,
    )  # fmt: skip

    found = drawn_routing(row, b"", "en")

    assert (found.start, found.height, found.picture) == (2, 51, "")
    assert [found.rank(number) for number in (4, 0)] == [(1, "0.62"), (2, "0.47")]


def test_page_has_the_slider_a_table_and_the_command() -> None:
    args = ("explain", "net.pt:1", "--image", "a b.png", "--routing", "o.svg", "--format=html")

    text = explained_html(explained(), "en", Page(args=args), b"jpeg")

    page = parsed_page(text)
    assert [attributes["max"] for tag, attributes in page.tags if tag == "input"] == ["1"]
    assert page.count("image") == 1
    assert "attends to 0,0 (75%), padding (25%)" in page.text
    assert "modswap explain net.pt:1 --image 'a b.png' --format json" in page.text
    without = explained_html(explained(), "en", Page())
    assert "The input is a dummy one" in without
    assert "Print the numbers again" not in without
    assert 'type="range"' not in explained_html(explained(lesson=False), "en", Page())


def test_too_many_windows_are_said() -> None:
    count = routed.MAX_WINDOWS + 1
    box = square([(0,), (0,), (0,), (0,)]).boxes[0]
    many = replace(
        PADDED, rows=1, columns=count, boxes=(box,) * count, routes=((0,),) * count,
        weights=((1.0,),) * count,
    )  # fmt: skip

    assert drawn_routing(many, b"", "en").windows == ()
    text = explained_html(replace(explained(), routing=many), "en", Page())
    assert "too many windows for a page" in text
