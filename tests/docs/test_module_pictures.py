"""The drawings of the modules: one for each row of the catalogue, as the script draws it."""

import xml.etree.ElementTree as ET

import pytest

from modswap.nn import CATALOGUE
from tests.docs.module_pictures import DRAWN, PAGE, files, read, svg


def test_every_module_of_the_catalogue_is_drawn() -> None:
    own = [name for name in CATALOGUE if CATALOGUE[name].module.__module__.startswith("modswap.")]

    assert sorted(DRAWN) == sorted(own)


def test_page_and_pictures_are_those_of_the_script() -> None:
    for file, text in files():
        assert file.read_text(encoding="utf-8") == text, "`make docs` writes it anew"
    assert PAGE.read_text(encoding="utf-8").count("![") == len(DRAWN)


@pytest.mark.parametrize("name", DRAWN)
def test_drawing_leads_from_the_input_to_the_output(name: str) -> None:
    drawing = read(DRAWN[name])

    heads, tails = ({pair[side] for pair in drawing.joined} for side in (0, 1))
    assert tails - heads == {"y"}
    assert "x" in heads - tails
    for left, right in drawing.joined:
        assert drawing.steps[left].column < drawing.steps[right].column
    places = [(step.row, step.column) for step in drawing.steps.values()]
    assert len(set(places)) == len(places)


def test_names_are_escaped() -> None:
    picture = svg("A", "x > <b>: a & b > y")

    assert "&lt;b&gt;" in picture
    assert ET.fromstring(picture).tag.endswith("svg")
