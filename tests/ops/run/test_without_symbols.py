"""Torch's questions about sizes, answered without its symbolic shapes where there is no symbol."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import torch
from torch.fx.experimental import symbolic_shapes as real

from modswap.ops.run.without_symbols import without_symbols

SHAPES = "torch.fx.experimental.symbolic_shapes"
X = torch.empty(2, 3)
CALLS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    *((name, (answer,)) for name in ("expect_true", "guard_or_false") for answer in (True, False)),
    *((name, (True,)) for name in ("guard_or_true", "statically_known_true", "guard_bool")),
    ("guard_int", (7,)),
    ("is_nested_int", (7,)),
    ("has_guarding_hint", (7,)),
    *(("sym_eq", pair) for pair in (((1, 2), [1, 2]), ((1, 2), (1, 3)), ((1,), (1, 2)), (2, 2))),
    ("sym_eq", (torch.Size((1, 2)), (1, 2))),
    *((name, (True, False, True)) for name in ("sym_and", "sym_or")),
    *((name, (False, False)) for name in ("sym_and", "sym_or")),
    *((name, (X,)) for name in ("_iterate_exprs", "_iterate_nodes")),
    ("_iterate_exprs", ((X, None, 3, [1.5, "a", True]),)),
    ("has_free_unbacked_symbols", (X,)),
    ("free_unbacked_symbols", (X,)),
)
PROGRAM = """
import sys
import torch
from torch import nn
from modswap.ops.run.forward import run_model
from modswap.ops.run.stand_ins import fake_values, meta_values
from modswap.ops.run.without_compiler import without_compiler

net = nn.Sequential(
    nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Upsample(scale_factor=2.0, mode="bilinear"),
    nn.GELU(), nn.Flatten(2), nn.Linear(144, 4), nn.Softmax(-1), nn.Hardtanh(), nn.GLU(),
)

@torch.no_grad()
def everywhere():
    x = torch.ones(2, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = run_model(net, (x,), {}, dtype=None, stand_ins=fake_values)
    meta = run_model(net, (x,), {}, dtype=None, stand_ins=meta_values)
    return [autocast.shape, meta.shape]

loaded = lambda: {"sympy", "torch.fx.experimental.symbolic_shapes"} & set(sys.modules)
with without_compiler():
    assert everywhere() == [(2, 8, 2)] * 2
    assert type(sys.modules["sympy"]).__name__ == "_Unloaded"
assert not loaded(), loaded()
dynamic = {0: torch.export.Dim("n", min=2, max=9)}
with without_compiler():  # what has symbols gets them
    exported = torch.export.export(nn.Linear(2, 3), (torch.ones(4, 2),), dynamic_shapes=(dynamic,))
    assert everywhere() == [(2, 8, 2)] * 2
assert exported.module()(torch.ones(5, 2)).shape == (5, 3)
assert everywhere() == [(2, 8, 2)] * 2
import sympy
print(sympy.Symbol("x") + 1)
"""


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield the substitute of the module, as in a process that has not imported it."""
    monkeypatch.delitem(sys.modules, SHAPES)
    with without_symbols():
        yield sys.modules[SHAPES]


@pytest.mark.parametrize(("name", "args"), CALLS)
def test_answers_for_numbers_are_those_of_torch(
    unloaded: Any, name: str, args: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modswap.ops.run.without_symbols.import_module", {SHAPES: real}.__getitem__)
    expected = getattr(real, name)(*args)
    expected = tuple(expected) if name.startswith("_iterate") else expected

    assert getattr(unloaded, name)(*args) == expected


@pytest.mark.parametrize(
    ("name", "args"),
    [("expect_true", (1,)), ("sym_eq", (1, (1,))), ("guard_int", (1.5,)), ("sym_and", (1,))],
)
def test_other_values_are_asked_of_torch(
    unloaded: Any, name: str, args: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Asked:
        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            return lambda *_: "torch's"

    monkeypatch.setattr("modswap.ops.run.without_symbols.import_module", lambda _: Asked())

    assert getattr(unloaded, name)(*args) == "torch's"
    assert asked == [name]


def test_other_names_are_those_of_the_module(
    unloaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modswap.ops.run.without_symbols.import_module", {SHAPES: real}.__getitem__)
    assert not hasattr(unloaded, "__wrapped__")
    assert not hasattr(unloaded, "__path__")  # it is no package
    assert unloaded.GuardOnDataDependentSymNode is not real.GuardOnDataDependentSymNode

    assert unloaded.ShapeEnv is real.ShapeEnv
    assert SHAPES not in sys.modules
    assert unloaded.GuardOnDataDependentSymNode is real.GuardOnDataDependentSymNode


def test_modules_that_were_imported_before_stay() -> None:
    before = import_module(SHAPES)

    with without_symbols():
        assert import_module(SHAPES) is before

    assert import_module(SHAPES) is before


@pytest.mark.slow
def test_passes_import_no_sympy_and_symbols_work_within_and_afterwards() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "x + 1\n"


ERRORS = """
import importlib, inspect, sys
from modswap.ops.run.without_symbols import without_symbols

for _ in range(2):  # of several blocks one is enough
    with without_symbols():
        held = importlib.import_module("torch.distributed.tensor._decompositions")
before = held.GuardOnDataDependentSymNode
assert before.__module__ == "modswap.ops.run.without_symbols", before
ours = lambda: [one for one in sys.meta_path if type(one).__name__ == "_Mender"]
assert len(ours()) == 1
import torch.fx.experimental.symbolic_shapes as shapes
assert held.GuardOnDataDependentSymNode is shapes.GuardOnDataDependentSymNode
assert not ours()
assert inspect.getsource(shapes)
"""


def test_module_that_a_block_imported_catches_torchs_errors_afterwards() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", ERRORS], capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stderr
