"""Passes that compile nothing, and torch's compiler, which takes seconds to import."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from modswap.ops.run import without_compiler as module
from modswap.ops.run.without_compiler import without_compiler

COMPILER = "compiler_of_a_test"
IMPORTS = """
import sys
from importlib import import_module
from pkgutil import iter_modules
import modswap.nn
import modswap.ops.jobs as jobs
for one in iter_modules(jobs.__path__, "modswap.ops.jobs."):
    import_module(one.name)
parts = {f"torch.distributed.{one}" for one in ("tensor", "checkpoint", "fsdp")}
takes_seconds = {"torch._dynamo", "sympy", *parts}
assert not takes_seconds & set(sys.modules), takes_seconds & set(sys.modules)
"""
REAL = """
import torch
from torch import nn
from modswap.ops.run.without_compiler import without_compiler

def steps():
    # written in Python by torch, which turns its compiler off for them
    x = torch.empty(2, 4, 6, 6, device="meta")
    return x.clamp(0, 1).shape

import sys
with without_compiler():
    assert steps() == (2, 4, 6, 6)
    assert type(sys.modules["torch._dynamo"]).__name__ == "_Absent"
assert "torch._dynamo" not in sys.modules
compiled = torch.compile(nn.Linear(2, 2), backend="eager")
assert compiled(torch.ones(1, 2)).shape == (1, 2)
assert steps() == (2, 4, 6, 6)
print(sys.modules["torch._dynamo"].__file__)
"""


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a module that is not imported yet, in place of torch's compiler."""
    (tmp_path / f"{COMPILER}.py").write_text("def disable(fn): return None\nVALUE = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "_COMPILER", COMPILER)
    monkeypatch.setattr(module, "_settings", lambda: ModuleType("config"))
    monkeypatch.delitem(sys.modules, COMPILER, raising=False)
    return COMPILER


def imported(name: str) -> Any:
    return importlib.import_module(name)


def test_functions_are_marked_as_they_are_and_lose_the_mark(compiler: str) -> None:
    def layer() -> None:
        """Stand for a function that the compiler has to leave alone."""

    with without_compiler():
        layer.__dict__["__dynamo_disable"] = imported(compiler).disable(layer, True, wrapping=False)
        assert vars(layer)["__dynamo_disable"] is layer

    assert "__dynamo_disable" not in vars(layer)
    assert compiler not in sys.modules
    assert imported(compiler).VALUE == 7


def test_block_that_uses_the_compiler_gets_it(compiler: str) -> None:
    with without_compiler():
        absent = imported(compiler)
        assert not hasattr(absent, "__wrapped__")
        assert absent.VALUE == 7
        assert imported(compiler) is not absent
        assert imported(compiler).disable(print) is None

    assert imported(compiler).VALUE == 7


def test_compiler_that_was_imported_before_stays(compiler: str) -> None:
    before = imported(compiler)

    with without_compiler():
        assert imported(compiler) is before

    assert imported(compiler) is before


def test_torch_with_its_settings_elsewhere_runs_as_it_is(
    compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> ModuleType:
        raise FileNotFoundError("config.py")

    monkeypatch.setattr(module, "_settings", missing)

    with without_compiler():
        assert compiler not in sys.modules


@pytest.mark.slow
@pytest.mark.ci
def test_jobs_import_nothing_that_takes_seconds_and_few_need() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
def test_torch_runs_without_its_compiler_and_compiles_afterwards() -> None:
    ran = subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    assert "_dynamo" in ran.stdout
