"""The statements of a function's source."""

from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from modswap.ops.explain.source import source_of

TEXT = '''\
@decorated
def example(x, y):
    """Return something."""
    a, (b, c[0]) = x, y  # a comment
    x.attr = [i for i in y]
    if (
        a and  # "half" a comment
        b
    ):
        x.add_(1)
    elif y:
        print(
            a, "# no comment"
        )
    for i in y:
        try:
            a += i
        except ValueError as error:
            raise KeyError from error
        finally:
            del a
    match x:
        case 1 if (z := 2):
            pass
    @decorated
    def inner():
        return 1
    while z:
        return inner
'''


def code_of(file: Path) -> CodeType:
    (code,) = (
        one
        for one in compile(file.read_text(), str(file), "exec").co_consts
        if isinstance(one, CodeType)
    )
    return code


def test_statements_have_rows_keys_and_the_names_that_they_set(tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    file.write_text(TEXT)

    found = source_of(code_of(file))

    assert found is not None
    assert [(one.key, one.sets, one.inner) for one in found.statements] == [
        ("a, b, c", ("a", "b", "c"), 0),
        ("x.attr", ("x.attr",), 0),
        ("if a and b", (), 0),
        ("x.add_", ("x",), 0),
        ("if y", (), 0),
        ("print", (), 0),
        ("i", ("i",), 5),
        ("try", (), 0),
        ("a", ("a",), 0),
        ("excepthandler", (), 0),
        ("raise", (), 0),
        ("delete", (), 0),
        ("match", (), 0),
        ("match_case", (), 0),
        ("pass", (), 0),
        ("functiondef", (), 0),
        ("while z", (), 1),
        ("return", (), 0),
    ]
    assert found.statements[2].rows == ("if (", "    a and", "    b", "):")
    assert found.statements[5].rows == ("    print(", '        a, "# no comment"', "    )")
    assert found.owners[found.statements[2].first + 2] == 2
    rows = [one.rows for one in found.statements]
    assert rows[9] == ("    except ValueError as error:",)
    assert rows[11] == ("    finally:", "        del a")
    assert rows[13] == ("    case 1 if (z := 2):",)
    assert rows[15] == ("def inner():",)
    assert ("if y", "elif y:") in [(one.key, one.rows[0]) for one in found.statements]


def test_lambda_and_code_without_a_file_have_no_source() -> None:
    made: dict[str, Any] = {}
    exec("def f():\n    return 1\n", made)

    assert source_of((lambda: 1).__code__) is None
    assert source_of(made["f"].__code__) is None


def test_source_of_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    file.write_text("def f():\n    return 1\n")
    first = source_of(code_of(file))
    file.write_text("def f():\n    value = 2\n    return value\n")

    second = source_of(code_of(file))

    assert first is not None
    assert second is not None
    assert [one.key for one in first.statements] == ["return"]
    assert [one.key for one in second.statements] == ["value", "return"]


@pytest.mark.parametrize("text", ["def f(:\n", "def f():\n    '''open\n"])
def test_file_that_is_no_python_has_no_source(tmp_path: Path, text: str) -> None:
    file = tmp_path / "example.py"
    file.write_text(TEXT)
    code = code_of(file)
    file.write_text(text)

    assert source_of(code) is None
