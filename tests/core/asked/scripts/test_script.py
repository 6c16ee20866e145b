"""Modules of scripts, whose names are defined when they are asked for."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modswap.core.asked.import_name import import_object
from modswap.core.asked.package_search import class_in_package
from modswap.core.asked.scripts.script import Script, ScriptModule, load_script, script_of
from modswap.core.errors import RecipeError

TEXT = """
from __future__ import annotations
import sys
from pathlib import Path
sys.path.append("lib")
from helper_of_it import WIDTH

model = Net()
Path("ran.txt").write_text("ran")


class Net:
    width = WIDTH


def later():
    return Late()


class Late(Net):
    pass


class Plain:
    pass


class Wrong:
    return 1


for made in ():
    pass


class Broken:
    raise ValueError("no")
"""


@pytest.fixture(autouse=True)
def _known_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    before, path = dict(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/helper_of_it.py").write_text("WIDTH = 8\n")
    yield
    for name in sys.modules.keys() - before.keys():
        del sys.modules[name]
    sys.path[:] = path


@pytest.mark.parametrize("reference", ["trains.py:Net", "trains:Net"])
def test_script_is_not_run_by_a_reference_to_a_class(reference: str, tmp_path: Path) -> None:
    (tmp_path / "trains.py").write_text(TEXT)

    found = import_object(reference, folder=".", where="--model")

    assert isinstance(found, type)
    assert vars(found)["width"] == 8
    assert found.__module__ == "trains"
    assert not (tmp_path / "ran.txt").exists()


def test_further_names_are_defined_in_the_same_module(tmp_path: Path) -> None:
    (tmp_path / "trains.py").write_text(TEXT)
    net = import_object("trains.py:Net", folder=".", where="--model")

    later = import_object("trains:later", folder=".", where="--alias")

    assert callable(later)
    assert issubclass(type(later()), net)  # type: ignore[arg-type] # a class of the script
    module = sys.modules["trains"]
    assert isinstance(module, ScriptModule)
    assert issubclass(module.Plain, object)
    assert not hasattr(module, "Broken")
    assert isinstance(module.model, net)  # type: ignore[arg-type] # a class of the script
    assert {"Net", "Late", "Broken"} <= set(dir(module))


def test_script_that_is_loaded_again_makes_another_module(tmp_path: Path) -> None:
    (tmp_path / "trains.py").write_text(TEXT)
    net = import_object("trains.py:Net", folder=".", where="--model")
    (tmp_path / "trains.py").write_text(TEXT.replace("width = WIDTH", "width = 3"))

    assert import_object("trains:Net", folder=".", where="--model") is net
    load_script(script_of(tmp_path / "trains.py", ("Net",)))
    changed = import_object("trains:Net", folder=".", where="--model")

    assert changed.width == 3  # type: ignore[attr-defined] # a class of the script


def test_file_that_names_what_a_script_makes_has_it_not_made(tmp_path: Path) -> None:
    (tmp_path / "trains.py").write_text(TEXT)

    assert class_in_package("trains.model", folder=".", where="net.pt") is None
    found = class_in_package("trains.Net", folder=".", where="net.pt")

    assert found is not None
    assert found.__name__ == "Net"
    assert "model" not in vars(sys.modules["trains"])


def test_script_in_a_package_has_its_relative_imports(tmp_path: Path) -> None:
    (tmp_path / "tools_of_it").mkdir()
    (tmp_path / "tools_of_it/wide.py").write_text("WIDTH = 4\n")
    text = "from .wide import WIDTH\nclass Net:\n    width = WIDTH\nprint(1 / 0)\n"
    (tmp_path / "tools_of_it/train.py").write_text(text)

    net = import_object("tools_of_it.train:Net", folder=".", where="--model")

    assert net.width == 4  # type: ignore[attr-defined] # a class of the script
    assert net.__module__ == "tools_of_it.train"


def test_module_that_only_defines_is_imported_whole(tmp_path: Path) -> None:
    (tmp_path / "plain_nets.py").write_text("ALL = []\nclass Net:\n    ALL.append(1)\n")

    net = import_object("plain_nets.py:Net", folder=".", where="--model")

    assert import_object("plain_nets.py:Net", folder=".", where="--model") is net
    assert not isinstance(sys.modules["plain_nets"], ScriptModule)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Nett", "trains.py has no 'Nett'; did you mean 'Net'?"),
        ("Broken", "trains.py: the definitions that Broken needs raised ValueError: no"),
        ("Wrong", "trains.py cannot be read: SyntaxError: 'return' outside function"),
        (
            "made",
            "made is made by line 32, which does the script's work; move made into a module",
        ),
    ],
)
def test_name_that_a_script_has_not_is_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "trains.py").write_text(TEXT)

    with pytest.raises(RecipeError) as refused:
        import_object(f"trains.py:{name}", folder=".", where="--model")

    assert message in str(refused.value)


def test_module_known_before_comes_back_where_a_script_raises(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text(TEXT)
    before = sys.modules["json"]

    with pytest.raises(RecipeError):
        load_script(Script(str(tmp_path / "json.py"), ("Broken",), "json"))

    assert sys.modules["json"] is before
    assert script_of(tmp_path / "json.py", ()).module.startswith("modswap_file_")
