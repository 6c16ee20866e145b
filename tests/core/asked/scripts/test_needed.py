"""Modules of scripts, of which only the statements run that a class needs."""

import ast
import sys
from pathlib import Path

import pytest

from modswap.core.asked.scripts.needed import (
    WorkError,
    is_script,
    literals_of,
    needed,
    without_words,
)
from modswap.core.asked.scripts.script import Script, load_script, script_of
from modswap.core.errors import RecipeError

TEXT = '''"""Train."""
from __future__ import annotations
import os, json as j
try:
    import fast
except ImportError:
    fast = None
if os.name == "nt":
    SEP = 1
else:
    SEP = 2
CONFIG = {"width": 8}
CONFIG["depth"] = 2
CONFIG.update(heads=4)
OTHER = {}
OTHER["x"] = 1 / 0
model = 1 / 0
for data in range(1 / 0):
    pass


def width(model):
    data = model
    return CONFIG["width"] + data


class Base:
    pass


class Net(Base):
    size = width(0)
    sep = SEP

    def run(self) -> missing:
        return fast, [data for data in ()]


print(1 / 0)
if __name__ == "__main__":
    print(Net())
    lone = 3
'''


def lines(*names: str, text: str = TEXT) -> list[str]:
    return [ast.unparse(node).splitlines()[0] for node in needed(ast.parse(text), names)]


def test_only_what_a_class_needs_is_taken() -> None:
    assert lines("Net") == [
        "from __future__ import annotations",
        "import os, json as j",
        "try:",
        "if os.name == 'nt':",
        "CONFIG = {'width': 8}",
        "CONFIG['depth'] = 2",
        "CONFIG.update(heads=4)",
        "def width(model):",
        "class Base:",
        "class Net(Base):",
    ]


@pytest.mark.parametrize(("name", "line"), [("data", 18), ("lone", 40)])
def test_what_the_scripts_work_makes_is_refused(name: str, line: int) -> None:
    with pytest.raises(ValueError, match=rf"{name} is made by line {line}, which does"):
        needed(ast.parse(TEXT), [name])


def test_star_import_is_taken_for_names_that_nothing_else_binds() -> None:
    text = "from a import *\nx = 1\ny = x\nz = q\nw = len\n"

    assert lines("y", text=text) == ["x = 1", "y = x"]
    assert lines("z", text=text) == ["from a import *", "z = q"]
    assert lines("w", text=text) == ["w = len"]


@pytest.mark.parametrize(
    ("text", "script"),
    [("import os\nx = 1\nclass A: pass\n", False), ('"""Text."""\n', False), ("x(", False),
     ("print(1)\n", True), ("log = getLogger()\n", False),
     ("def a(): pass\nx = a()\n", True), ("if x:\n    a()\n", True),
     ("try:\n    import a\nexcept E:\n    warn()\n", True), ("for x in ():\n    pass\n", True)],
)  # fmt: skip
def test_script_is_known_from_a_module(text: str, script: bool, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(text)

    assert is_script(tmp_path / "a.py") is script
    assert not is_script(tmp_path / "b.py")


def test_module_has_the_files_name_and_is_known(tmp_path: Path) -> None:
    (tmp_path / "part_of_it.py").write_text(TEXT)

    module = load_script(script_of(tmp_path / "part_of_it.py", ["Net"]))

    try:
        assert module.Net.size == 8
        assert module.CONFIG["heads"] == 4
        assert not hasattr(module, "model")
        assert module.Net.__module__ == "part_of_it"
        assert sys.modules["part_of_it"] is module
        assert script_of(tmp_path / "part_of_it.py", []).module == "part_of_it"
    finally:
        del sys.modules["part_of_it"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "--model: no file"),
        ("class Net(", "--model: net.py cannot be read: SyntaxError"),
        ("for Net in (): pass", "Net is made by line 1, which does the script's work"),
        ("import sys\nx = sys.exit(3)\nclass Net:\n    y = x\n",
         "net.py: the definitions that Net needs raised SystemExit: 3; move Net into a module"),
    ],
)  # fmt: skip
def test_script_that_cannot_be_used_is_refused(
    text: str | None, message: str, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "net.py").write_text(text)

    with pytest.raises(RecipeError) as refused:
        load_script(Script(str(tmp_path / "net.py"), ("Net",), "modswap_no_such"))

    assert message in str(refused.value)
    assert "modswap_no_such" not in sys.modules


WORK = "print(1 / 0)\n"


@pytest.mark.parametrize(
    "text",
    [
        "class Net: x = 1\ndef two(): pass\nNet.forward = two\n",
        "class C: pass\nC = C()\nC.width = 8\nclass Net: x = C\n",
        "D = dict(width=4)\nD['width'] = 8\nclass Net: x = D\n",
        "D: dict = {}\nD['width'] = 8\nclass Net: x = D\n",
        "N = 1\nN += 1\nclass Net: x = N\n",
        "R = {}\ndef add(c):\n    R[1] = c\n@add\nclass A: pass\ndef Net(): return R[1]\n",
        "class A: pass\ndef Net(): return globals()['A']\n",
        "import os\nos.environ['A'] = 'x'\nclass Net: pass\n",
        (
            "import sys\nfrom pathlib import Path\nFILE = Path(__file__).resolve()\n"
            "ROOT = FILE.parent\nif str(ROOT) not in sys.path:\n    sys.path.append(str(ROOT))\n"
            "class Net: pass\n"
        ),
        "L = []\nclass A: pass\nL.append(A)\nclass Net: x = L\n",
    ],
)
def test_all_that_changes_or_registers_is_taken(text: str) -> None:
    whole = ast.parse(text)

    assert [*map(ast.dump, needed(ast.parse(text + WORK), ["Net"]))] == [*map(ast.dump, whole.body)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("W = 4\nfor _ in ():\n    W *= 2\nclass Net: x = W\n", 2),
        ("W = {}\nfor _ in ():\n    W[1] = 2\nclass Net: x = W\n", 2),
        ("W = 4\nif W:\n    train()\n    W = 5\nclass Net: x = W\n", 2),
    ],
)
def test_value_that_a_loop_changes_is_refused(text: str, line: int) -> None:
    with pytest.raises(WorkError, match=f"W is made by line {line}, which does the script's work"):
        needed(ast.parse(text), ["Net"])


@pytest.mark.parametrize(
    "text",
    [
        (
            "import argparse, os\np = argparse.ArgumentParser()\na = p.parse_args()\n"
            "os.environ['GPU'] = a.gpu\nclass Net: pass\n"
        ),
        "import sys\nsys.path.append(sys.argv[1])\nclass Net: pass\n",
        "log = object()\nlog.info(1 / 0)\nimport a\na.b = 1 / a.c\nclass Net: pass\n",
        "import q\nq.seed(1 / 0)\nclass Net: x = q\n",
        "import sys\ndef f(): 1 / 0\nsys.path.append(f())\nclass Net: pass\n",
    ],
)
def test_work_that_a_class_does_not_need_is_left_out(text: str) -> None:
    taken = {type(node) for node in needed(ast.parse(text), ["Net"])}

    assert taken <= {ast.ClassDef, ast.Import}


def test_words_behind_a_condition_do_not_make_it_work() -> None:
    text = "try:\n    import fast\nexcept ImportError:\n    warn('slow')\n    fast = None\n"
    tree = without_words(ast.parse(f"{text}class Net:\n    x = fast\n"))

    assert "warn" not in "".join(map(ast.unparse, needed(tree, ["Net"])))
    assert len(needed(tree, ["Net"])) == 2


def test_name_that_only_the_started_script_binds_again_stays() -> None:
    text = "W = 4\nclass Net: x = W\nif __name__ == '__main__':\n    W = 5\n"

    assert len(needed(ast.parse(text), ["Net"])) == 2


def test_names_that_begin_as_literals_are_known() -> None:
    tree = ast.parse("a = b = {}\nc = [1]\nd = make()\ne: int = 3\n(f, g) = 1, 2\n")

    assert literals_of(tree) == {"a", "b", "c"}
