"""Changed files in which more changed than the new modules."""

import pytest

from modswap.core.errors import UsageError
from modswap.ops.code.building.source import SourceFile
from modswap.ops.code.editing.intended import refuse_unintended

OLD = """import a


class N:
    def __init__(self, x=1):
        self.g = f(x)
        self.h = f(2)
"""
NEW = OLD.replace("f(x)", "G(x)").replace("import a", "import a\nimport b") + "        self.k = 3\n"
CALL = {(6, 6, 17, 21): "G(x)"}


def refuse(text: str) -> None:
    source = SourceFile("net.py", OLD.encode())
    refuse_unintended(source, text, CALL, {"N": ["self.k = 3"]}, ["import b"])


def test_intended_change_passes() -> None:
    refuse(NEW)


@pytest.mark.parametrize(
    ("was", "now", "line"),
    [
        ("f(2)", "f(3)", 7),
        ("x=1", "x=2", 5),
        ("class N", "class M", 4),
        ("G(x)", "G(y)", 6),
        ("import b", "import c", 1),
        ("self.k = 3", "self.k = 3; self.j = 4", 5),
        ("self.h = f(2)", "pass", 7),
        ("import b", "", 1),
        ("self.h = f(2)", "", 5),
    ],
)
def test_another_change_is_refused(was: str, now: str, line: int) -> None:
    with pytest.raises(UsageError, match=f"beyond the new modules, at line {line}"):
        refuse(NEW.replace(was, now))


def test_what_is_no_python_is_refused() -> None:
    with pytest.raises(UsageError, match="the change would break its syntax at line 8"):
        refuse(NEW.replace("f(2)", "f(2"))
