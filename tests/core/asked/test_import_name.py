"""Imports of code that a user names."""

import pickle
import sys
from pathlib import Path

import pytest

from modswap.core.asked.import_name import import_object, split_reference
from modswap.core.errors import RecipeError


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)


def test_file_beside_the_recipe_is_imported_once(tmp_path: Path) -> None:
    write(tmp_path, "nets_once.py", "runs = []\nruns.append(1)\nclass Net:\n    pass\n")

    net = import_object("nets_once.py:Net", folder=str(tmp_path), where="swap.yaml:3")
    again = import_object("nets_once.py:Net", folder=str(tmp_path), where="swap.yaml:3")

    assert net is again
    assert isinstance(net, type)
    assert type(pickle.loads(pickle.dumps(net()))) is net


def test_files_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, "same_name.py", f"which = '{name}'\n")

    found = [
        import_object("same_name.py:which", folder=str(tmp_path / name), where="x")
        for name in ("a", "b")
    ]

    assert found == ["a", "b"]


def test_module_beside_the_recipe_is_found_and_the_path_left_alone(tmp_path: Path) -> None:
    write(tmp_path, "beside_me.py", "def build():\n    return 3\n")
    before = list(sys.path)

    build = import_object("beside_me:build", folder=str(tmp_path), where="x")

    assert callable(build)
    assert sys.path == before


def test_misspelt_name_comes_with_a_question_and_no_setting_for_check_fix(tmp_path: Path) -> None:
    write(tmp_path, "misspelt.py", "class Net:\n    pass\n")

    with pytest.raises(RecipeError) as error:
        import_object("misspelt.py:Nat", folder=str(tmp_path), where="x")

    assert error.value.fix == "did you mean 'Net'?"
    assert error.value.settings == ()


def test_dotted_name_reaches_nested_classes() -> None:
    found = import_object("collections:OrderedDict.fromkeys", folder=".", where="x")

    assert callable(found)


@pytest.mark.parametrize(
    ("reference", "what", "fix"),
    [
        ("nets", "'nets' does not say where to find it", "package.module:name"),
        (":x", "':x' does not say where to find it", "file.py:name"),
        ("net.py:Net", "no file", "did you mean 'nets.py'?"),
        ("nets.py:Nat", "nets.py has no 'Nat'", "did you mean 'Net'?"),
        ("nosuchpackage.deep:x", "no module named 'nosuchpackage'", "install it"),
        ("broken.py:x", "importing 'broken.py' raised ZeroDivisionError", "Python session"),
        ("broken:x", "division by zero at broken.py:2", "Python session"),
        ("wrong.py:x", "raised SyntaxError", "Python session"),
        ("needs.py:x", "raised ModuleNotFoundError: No module named 'nosuchpackage'", "session"),
        ("needs:x", "importing 'needs' raised ModuleNotFoundError", "session"),
        ("collections:Counted", "collections has no 'Counted'", "did you mean 'Counter'?"),
    ],
)
def test_what_cannot_be_imported_is_reported(
    reference: str, what: str, fix: str, tmp_path: Path
) -> None:
    write(tmp_path, "nets.py", "class Net:\n    pass\n")
    write(tmp_path, "broken.py", "x = 1\ny = x / 0\n")
    write(tmp_path, "wrong.py", "def (:\n")
    write(tmp_path, "needs.py", "import nosuchpackage\n")

    with pytest.raises(RecipeError) as raised:
        import_object(reference, folder=str(tmp_path), where="swap.yaml:3:5")

    assert raised.value.where == "swap.yaml:3:5"
    assert what in raised.value.what
    assert fix in raised.value.fix
    sys.modules.pop("broken", None)
    sys.modules.pop("needs", None)


def test_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="paths are relative to the recipe"):
        import_object("net.py:x", folder=str(tmp_path / "none"), where="x")


def test_reference_is_split_at_its_last_colon() -> None:
    assert split_reference("a.b:c.d", "x") == ("a.b", "c.d")
