"""Imports of code that a user names."""

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from modswap.core.asked.import_name import (
    MAX_CHARACTERS,
    FactoryCall,
    factory_call,
    import_object,
    split_arguments,
    split_reference,
)
from modswap.core.errors import RecipeError, UsageError


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
    with pytest.raises(RecipeError, match="paths are relative to the recipe, on the command line"):
        import_object("net.py:x", folder=str(tmp_path / "none"), where="x")


def test_reference_is_split_at_its_last_colon() -> None:
    assert split_reference("a.b:c.d", "x") == ("a.b", "c.d")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torchvision.models:resnet18", FactoryCall("torchvision.models:resnet18")),
        ("a:b()", FactoryCall("a:b")),
        ("a:b.c( 1 )", FactoryCall("a:b.c", (1,))),
        (
            "timm:create_model(model_name='resnet18', num_classes=10)",
            FactoryCall("timm:create_model", (), {"model_name": "resnet18", "num_classes": 10}),
        ),
        (
            "a:b('x', -2.5, [1, (2,)], {'k:(': ')'}, on=True, no=None)",
            FactoryCall("a:b", ("x", -2.5, [1, (2,)], {"k:(": ")"}), {"on": True, "no": None}),
        ),
        ("d(1)/f.py:b(x=1)", FactoryCall("d(1)/f.py:b", (), {"x": 1})),
        ("C:\\nets\\f.py:b(x='a:b(c)')", FactoryCall("C:\\nets\\f.py:b", (), {"x": "a:b(c)"})),
        ("a:b(\n  x=1,\n)", FactoryCall("a:b", (), {"x": 1})),
    ],
)
def test_factory_has_literal_arguments(text: str, expected: FactoryCall) -> None:
    assert factory_call(text, "--model", UsageError) == expected


@pytest.mark.parametrize(
    "argument",
    [
        "os.getcwd()", "__import__('os')", "resnet18", "1 + 1", "f'{x}'", "...", "b'1'", "1j",
        "lambda: 1", "{1, 2}", "[i for i in ()]", "(y := 1)", "not True", "-'a'", "1 if 1 else 2",
        "{**{}}", "{[1]: 2}", "[" * 9 + "]" * 9, "x.y", "x[0]", "'%s' % 1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("how", ["{}", "x={}", "x=[{}]"])
def test_argument_that_would_be_evaluated_is_refused(how: str, argument: str) -> None:
    with pytest.raises(UsageError) as caught:
        factory_call(f"a:b({how.format(argument)})", "--model", UsageError)

    assert caught.value.where == "--model"
    assert "is no literal" in caught.value.what
    assert "write numbers, texts in quotes" in caught.value.fix


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:b(*[1])", r"`\*\[1\]` is no literal"),
        ("a:b(**{})", r"`\*\*` is no literal"),
        ("a:b(x=1, x=2)", "is given twice"),
        ("a:b(x=1", "lacks the closing bracket"),
        ("a:b(x=1)(y=2)", "cannot be read as Python"),
        ("a:b(1) or f(2)", "cannot be read as Python"),
        ("a:b(x: 1)", "cannot be read as Python"),
        ("a:b(" + "[" * 300 + "]" * 300 + ")", "cannot be read as Python"),
        ("a:b(" + "-" * 3000 + "1)", "literal|cannot be read"),
        ("a:b('" + "x" * MAX_CHARACTERS + "')", "characters, over"),
        ("ab(1)", "does not say where to find it"),
        (":b(1)", "does not say where to find it"),
        ("ab", "does not say where to find it"),
    ],
)
def test_factory_that_is_no_call_is_refused_in_a_line(text: str, message: str) -> None:
    with pytest.raises((UsageError, RecipeError), match=message) as caught:
        factory_call(text, "--model", UsageError)

    assert caught.value.code == 2
    assert "\n" not in str(caught.value)
    assert len(caught.value.what) < 200


def test_arguments_are_split_off_and_come_back() -> None:
    assert split_arguments("nets.py:build(width=2)") == ("nets.py:build", "(width=2)")
    assert split_arguments("nets.py:build") == ("nets.py:build", "")


@pytest.mark.parametrize(
    ("package", "more"),
    [("package_of_a_file", ""), ("package_of_a_script", "for _ in range(2):\n    print(Net)\n")],
)
def test_file_of_a_package_is_named_as_its_module(package: str, more: str, tmp_path: Path) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "parts.py").write_text("WIDTH = 3\n")
    text = f"from .parts import WIDTH\n\n\nclass Net:\n    width = WIDTH\n\n\n{more}"
    (tmp_path / package / "relative.py").write_text(text)

    with pytest.raises(RecipeError) as raised:
        import_object(f"{package}/relative.py:Net", folder=str(tmp_path), where="--model")

    assert raised.value.fix == f"name it as a module of its package: {package}.relative:Net"
    found: Any = import_object(f"{package}.relative:Net", folder=str(tmp_path), where="--model")
    assert found.width == 3


def test_file_beside_the_recipe_has_no_package_to_name(tmp_path: Path) -> None:
    (tmp_path / "lone_relative.py").write_text("from .parts import WIDTH\n")

    with pytest.raises(RecipeError, match="relative import") as raised:
        import_object("lone_relative.py:Net", folder=str(tmp_path), where="--model")

    assert raised.value.fix == "import it in a Python session to see why"
