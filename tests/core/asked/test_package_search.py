"""Which classes of a package a file can name; tests/io/formats/torch/test_stand_ins tries files."""

import importlib
import sys
import types
from pathlib import Path

import pytest

from modswap.core.asked.package_search import class_in_package, is_class
from modswap.core.errors import MissingModuleError, RecipeError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `found_<n>` whose modules leave a file when they are imported."""
    folder = tmp_path / f"found_{tmp_path.name[-3:].strip('_').replace('-', '_')}"
    (folder / "inner").mkdir(parents=True)
    (folder / "deep").mkdir()
    (folder / "inner" / "deep").mkdir()
    ran = "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n"
    (folder / "__init__.py").write_text("")
    (folder / "inner" / "__init__.py").write_text(ran + "from .nets import *\n")
    (folder / "inner" / "nets.py").write_text(ran + "class Net:\n    class Part: ...\n")
    (folder / "inner" / "script.py").write_text(ran)
    (folder / "deep" / "bare.py").write_text("class Bare: ...\n")
    (folder / "inner" / "broken.py").write_text("class Broken: ...\nraise ValueError('no')\n")
    (folder / "inner" / "no_python.py").write_text("class Net:\n")
    (folder / "inner" / "_ext.so").write_bytes(b"Thing")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def find(name: str) -> type | None:
    return class_in_package(name, folder=".", where="net.pt")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("inner.nets.Net", "Net"),
        ("inner.nets.Net.Part", "Net.Part"),
        ("inner.Net", "Net"),
        ("deep.bare.Bare", "Bare"),  # a folder without __init__.py on the way
    ],
)
def test_class_of_a_module_is_found(name: str, found: str, package: Path) -> None:
    cls = find(f"{package.name}.{name}")

    assert cls is not None
    assert cls.__qualname__ == found
    assert find(f"{package.name}.{name}") is cls


@pytest.mark.parametrize(
    "name",
    [
        "inner.script.Net",
        "inner.script.pathlib",
        "inner.deep.nosuch.Net",
        "inner.script.touch",
        "inner.nets.Nothing",
        "inner.nets.Net.Nothing",
        "inner.nets.Net.Part.__class__",
        "inner.nets.pathlib.Path",
        "inner.__init__.Net",
        "inner._ext.Thing",
        "inner.nosuch.Net",
        "inner",
        "inner.nets",
    ],
)
def test_name_of_anything_else_is_passed_over(name: str, package: Path) -> None:
    assert find(f"{package.name}.{name}") is None
    assert not (package / "inner" / "script.ran").exists()


def test_class_below_folders_without_code_is_found(package: Path) -> None:
    inside = package / "plain" / "deeper"
    inside.mkdir(parents=True)
    (inside / "nets.py").write_text("class Net: ...\n")

    cls = find(f"{package.name}.plain.deeper.nets.Net")

    assert cls is not None
    assert cls.__qualname__ == "Net"
    assert find(f"{package.name}.plain.nosuch.nets.Net") is None


def test_module_that_lacks_the_name_is_not_imported(package: Path) -> None:
    assert find(f"{package.name}.inner.nets.Other") is None
    assert not [*package.rglob("*.ran")]


@pytest.mark.parametrize("name", ["Path", "loads", "Inner", "Nested"])
def test_module_that_has_the_name_from_elsewhere_or_inside_is_not_imported(
    name: str, package: Path
) -> None:
    (package / "work.py").write_text(
        "from json import *\nfrom pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n"
        "def main():\n    class Inner: ...\n\nclass Outer:\n    class Nested: ...\n"
    )

    assert find(f"{package.name}.work.{name}") is None
    assert not [*package.rglob("*.ran")]


@pytest.mark.parametrize("line", ["from .inner.nets import Net", "from {0}.inner import *"])
def test_class_that_another_module_of_the_package_defines_is_found(
    line: str, package: Path
) -> None:
    text = f"try:\n    {line.format(package.name)}\nexcept ImportError:\n    Net = None\n"
    (package / "again.py").write_text(text)

    assert find(f"{package.name}.again.Net") is not None


def test_class_that_an_assignment_makes_is_found(package: Path) -> None:
    text = "from enum import Enum\n\nColor = Enum('Color', 'red', module=__name__)\n"
    (package / "assigned.py").write_text(text)

    found = find(f"{package.name}.assigned.Color")

    assert found is not None
    assert found.__name__ == "Color"


def test_package_alone_is_no_class(package: Path) -> None:
    assert find(package.name) is None


def test_missing_package_and_a_module_that_raises_are_errors(package: Path) -> None:
    with pytest.raises(MissingModuleError, match="no module named 'nosuch_package'"):
        find("nosuch_package.nets.Net")
    with pytest.raises(RecipeError, match="raised ValueError: no"):
        find(f"{package.name}.inner.broken.Broken")
    with pytest.raises(RecipeError, match="raised IndentationError"):
        find(f"{package.name}.inner.no_python.Net")


def test_module_under_a_foreign_name_is_passed_over(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(f"{package.name}.inner.nets.Net")
    alias, made = f"{package.name}.inner.alias", f"{package.name}.inner.made"
    monkeypatch.setitem(sys.modules, alias, sys.modules[f"{package.name}.inner.nets"])
    monkeypatch.setitem(sys.modules, made, types.ModuleType(made))
    sys.modules[made].Net = type("Net", (), {"__module__": made})  # type: ignore[attr-defined] # as a module would

    assert find(f"{alias}.Net") is None
    assert find(f"{made}.Net") is not None


def test_compiled_module_is_passed_over() -> None:
    compiled = importlib.import_module("safetensors._safetensors_rust")
    names = [name for name, value in vars(compiled).items() if is_class(value)]

    assert names
    assert [find(f"{compiled.__name__}.{name}") for name in names] == [None] * len(names)


def test_class_is_known_without_asking_the_value() -> None:
    class Liar:
        __class__ = type  # type: ignore[assignment] # says that it is a class

    assert is_class(Liar)
    assert not is_class(Liar())
