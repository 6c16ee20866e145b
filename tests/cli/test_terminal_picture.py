"""The README's picture of a terminal is that of the program."""

import html
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.terminal_picture import COMMAND, FILE, picture, recorded


def words(svg: str) -> list[str]:
    """Return the words of a picture, numbers masked: seconds and drift differ between runs."""
    texts = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    said = " ".join(html.unescape("".join(text.itertext())) for text in texts)
    said = said.replace("\N{NO-BREAK SPACE}", " ")
    return re.sub(r"sha256 \w+|\d[\d.]*(e-\d+)?", "#", said).split()


def test_picture_needs_no_network_and_holds_the_command_and_its_report() -> None:
    svg = FILE.read_text(encoding="utf-8")

    assert "@font-face" not in svg
    said = " ".join(words(svg))
    assert "modswap replace unetpp.pt --match" in said
    assert re.search(r"OK # sites swapped in unetpp.pt", said)
    assert "# checks hold" in said


def test_picture_shows_colours_and_escapes_what_it_shows() -> None:
    said = words(picture("\x1b[1;32mOK\x1b[0m  <b> & done\n"))

    assert said[-4:] == ["OK", "<b>", "&", "done"]
    assert COMMAND.split()[0] in said


@pytest.mark.slow
def test_picture_is_that_of_the_program(tmp_path: Path) -> None:
    assert words(picture(recorded(tmp_path))) == words(FILE.read_text(encoding="utf-8"))
