"""Pages read by an HTML parser, for the tests of pages."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "input", "br", "link", "img", "hr"}
SVG = {"rect", "line", "path", "text", "circle", "polyline", "g", "title", "marker", "defs"}


@dataclass
class ParsedPage(HTMLParser):
    """A page: its tags with attributes, the text without style and script, and what is unclosed."""

    text: str = ""
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]

    @property
    def links(self) -> list[str]:
        return [attributes["href"] for tag, attributes in self.tags if tag == "a"]

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def parsed_page(text: str) -> ParsedPage:
    """Return a page as it is read by a parser, which has to find it sound."""
    page = ParsedPage()
    page.feed(text)
    page.close()
    assert page.wrong == []
    assert page.open == []
    return page
