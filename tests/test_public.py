"""The package as a whole: its public names and tables, and the program.

Covers: __init__, __main__.
"""

import signal
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

import modswap
from modswap import nn
from modswap.__main__ import main
from modswap.cli.supervisor import SWITCH
from modswap.io import formats
from modswap.io.formats.format import Format, Lazy
from modswap.nn import CATALOGUE
from modswap.report import REPORTS

PACKAGE = Path(modswap.__file__).parent


def test_public_names_are_those_promised() -> None:
    assert sorted(modswap.__all__) == dir(modswap)
    assert {"load", "read_recipe", "replace", "apply_recipe", "save"} <= set(modswap.__all__)
    for name in modswap.__all__:
        assert getattr(modswap, name) is not None


def test_name_that_is_not_public_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'modswap' has no attribute 'laod'"):
        _ = modswap.laod


def test_program_ends_with_the_exit_code_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gc.disable", lambda: None)
    monkeypatch.setattr("gc.set_threshold", lambda *counts: None)
    ignored: list[object] = []
    monkeypatch.setattr("signal.signal", lambda *given: ignored.append(given))
    monkeypatch.setattr("sys.argv", ["modswap", "no-such-command"])
    monkeypatch.setenv(SWITCH, "1")  # a child would go on with the tests beside this process

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert ignored == [(signal.SIGINT, signal.SIG_IGN)]  # Python's own end is not interrupted


def test_modules_of_the_catalogue_are_public() -> None:
    assert nn.BiLevelRoutingAttention is CATALOGUE["BiLevelRoutingAttention"].module


def test_every_report_of_the_folder_is_in_the_table() -> None:
    shared = {
        *("__init__", "page", "tree", "catalogue", "checks", "tamed", "verify", "json_shapes"),
        *("folded_names", "tree_rows", "healing"),
    }
    files = {file.stem.removesuffix("_report") for file in (PACKAGE / "report").glob("*.py")}

    folders = {"html", "model-explorer"}
    assert files - shared == set(REPORTS) - folders


def test_every_format_of_the_folder_is_in_the_table() -> None:
    folder = PACKAGE / "io" / "formats"
    folders = {file.parent.name for file in folder.glob("*/__init__.py")}
    rows = {
        name: value
        for name in folders
        for value in vars(import_module(f"modswap.io.formats.{name}")).values()
        if isinstance(value, Format)
    }

    assert rows.keys() == folders
    assert set(rows.values()) <= set(formats.FORMATS)


@pytest.mark.parametrize("row", formats.FORMATS, ids=lambda row: row.name)
def test_every_function_of_a_format_is_there(row: Format) -> None:
    members = (getattr(row, field.name) for field in fields(row))

    assert all(callable(member.function) for member in members if isinstance(member, Lazy))
