"""Changing one value in a recipe's text."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from modswap.core.asked.source import Place
from modswap.core.decided.remedies import Edit
from modswap.core.errors import CheckpointError, RecipeError
from modswap.io.recipe.edit import edited, rewrite

BLOCK = """\
# mine
version: 1
replace:
  - match: stem   # the stem
    exclude:
      - a
      - b  # and b

    # before with
    with: ECA
    args: {k_size: 3}  # odd
  - match: head
    with: X

# the end
"""


def edit(place: Place, value: Any) -> Edit:
    return Edit(place, json.dumps(value))


@pytest.mark.parametrize(
    ("place", "value", "old", "new"),
    [
        (("version",), 2, "version: 1", "version: 2"),
        (("replace", 0, "match"), "a.b", "match: stem   #", "match: a.b   #"),
        (("replace", 0, "match", 0), "**.x", "match: stem   #", 'match: "**.x"   #'),
        (("replace", 0, "exclude"), ["c", "1"], "\n      - a\n      - b", '\n      [c, "1"]'),
        (("replace", 0, "exclude", 1), "c", "- b  #", "- c  #"),
        (("replace", 0, "args", "k_size"), "auto", "{k_size: 3}", "{k_size: auto}"),
        (("replace", 0, "args", "g"), True, "{k_size: 3}", "{k_size: 3, g: true}"),
        (("replace", 0, "adapt"), True, "# odd\n", "# odd\n    adapt: true\n"),
        (("replace", 1, "args", "n"), 3, "with: X\n", "with: X\n    args: {n: 3}\n"),
    ],
)
def test_one_value_changes_and_nothing_else(place: Place, value: Any, old: str, new: str) -> None:
    after = edited(BLOCK, edit(place, value))

    assert after == BLOCK.replace(old, new)
    data = yaml.safe_load(after)
    for part in place[:-1] if place[-1] == 0 else place:
        data = data[part]
    assert data == value


@pytest.mark.parametrize(
    ("text", "place", "after"),
    [
        ("replace: [{match: a}]", ("replace", 0, "adapt"), "replace: [{match: a, adapt: true}]"),
        ("replace: [{args: {}}]", ("replace", 0, "args", "x"), "replace: [{args: {x: true}}]"),
        ("replace:\r\n- a: 1\r\n", ("replace", 0, "b"), "replace:\r\n- a: 1\r\n  b: true\r\n"),
        ("replace:\n- a: 1", ("replace", 0, "b"), "replace:\n- a: 1\n  b: true"),
        ("a:\nb: 1\n", ("a",), "a: true\nb: 1\n"),
        ("a: |\n  x\n  y\n\n", ("b",), "a: |\n  x\n  y\nb: true\n\n"),
        ("a: 'it''s'  # x\n", ("a",), "a: true  # x\n"),
        ("ä: {b: 'ü'}\n", ("ä", "b"), "ä: {b: true}\n"),
    ],
)
def test_every_way_to_write_a_mapping_is_kept(text: str, place: Place, after: str) -> None:
    assert edited(text, edit(place, True)) == after


def test_text_in_which_a_place_means_several_is_not_changed() -> None:
    with pytest.raises(RecipeError, match="it has aliases"):
        edited("a: &x {b: 1}\nc: *x\n", edit(("c", "b"), 2))


def test_recipe_is_written_with_its_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "swap.yaml"
    file.write_bytes(b"\xef\xbb\xbfversion: 1\r\n")
    file.chmod(0o640)

    rewrite(file, "version: 1\r\n", "version: 2\r\n")

    assert file.read_bytes() == b"\xef\xbb\xbfversion: 2\r\n"
    assert file.stat().st_mode & 0o777 == 0o640


def test_recipe_that_changed_meanwhile_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "swap.yaml"
    file.write_text("version: 3\n")

    with pytest.raises(CheckpointError, match="it was changed meanwhile"):
        rewrite(file, "version: 1\n", "version: 2\n")

    assert file.read_text() == "version: 3\n"


def test_recipe_that_is_gone_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="it cannot be read: No such file"):
        rewrite(tmp_path / "none.yaml", "", "")
