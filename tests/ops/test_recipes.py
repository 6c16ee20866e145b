"""Recipes of the user, whose `verify.skip` names examinations."""

from pathlib import Path

import pytest

from modswap.core.errors import RecipeError
from modswap.ops.recipes import read_recipe

TEXT = "version: 1\nverify: {skip: [%s]}\nreplace: [{match: a, with: ECA}]\n"


def test_names_of_examinations_are_read(tmp_path: Path) -> None:
    file = tmp_path / "swap.yaml"
    file.write_text(TEXT % "sizes, untouched")

    assert read_recipe(file).verify.skip == ("sizes", "untouched")


def test_another_name_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    file = tmp_path / "swap.yaml"
    file.write_text(TEXT % "sizes, untuched")

    with pytest.raises(RecipeError, match=r"swap\.yaml:2:24: item 2 of 'skip' is 'untuched'") as at:
        read_recipe(file)

    assert (at.value.code, at.value.fix) == (2, "did you mean 'untouched'?")
