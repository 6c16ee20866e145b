"""The examples in the docstrings of the public names run and print what they show."""

import doctest
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

import modswap
from modswap import nn
from modswap.nn import CATALOGUE

FUNCTIONS = [name for name in modswap.__all__ if inspect.isfunction(getattr(modswap, name))]
NAMES: dict[str, Any] = {name: getattr(nn, name) for name in nn.__all__}
LAYERS = [row.module.__name__ for row in CATALOGUE.values()]


@pytest.mark.parametrize("name", [*FUNCTIONS, *LAYERS])
def test_examples_of_the_docstring_hold(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = getattr(modswap if name in FUNCTIONS else nn, name)
    monkeypatch.chdir(tmp_path)
    finder = doctest.DocTestFinder(recurse=False)
    (found,) = finder.find(public, name, globs={"modswap": modswap, "torch": torch, **NAMES})
    lines: list[str] = []

    result = doctest.DocTestRunner().run(found, out=lines.append)

    assert result.attempted > 0, f"{name} has no example"
    assert result.failed == 0, "".join(lines)


def test_every_function_and_every_layer_is_looked_at() -> None:
    names = ["apply_recipe", "diff", "explain", "heal", "insert", "load"]
    names += ["read_recipe", "replace", "save", "sweep"]
    assert sorted(FUNCTIONS) == names
    assert set(LAYERS) <= set(nn.__all__)
