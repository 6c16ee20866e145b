"""Exported programs as modules, exported again; the sizes of their inputs in words."""

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.errors import ShapeError
from modswap.io.formats.exported.program import (
    UNCHECKED,
    export,
    export_of,
    size_in_words,
    unflattened,
)
from tests.models import ByValue, EvenBatch


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("s77", "[1, …]"),
        ("s7", "[2, 64]"),
        ("2*s77 + s7", "2*[1, …] + [2, 64]"),
        ("s770", "s770"),
    ],
)
def test_a_symbol_is_replaced_by_its_own_range(expression: str, words: str) -> None:
    ranges = {"s7": "VR[2, 64]", "s77": "VR[1, int_oo]"}
    size = SimpleNamespace(node=SimpleNamespace(expr=expression))

    assert size_in_words(size, ranges) == words


@pytest.fixture
def program() -> Any:
    """Return a program of any batch size, with the call signature of a module in it."""
    layers = OrderedDict(stem=nn.Conv2d(3, 3, 1), gate=nn.Conv2d(3, 3, 1), head=nn.ReLU())
    net = nn.Sequential(layers).eval()
    batch = torch.export.Dim("batch", min=2, max=64)
    return torch.export.export(
        net,
        (torch.ones(2, 3, 4, 4),),
        dynamic_shapes=({0: batch},),
        preserve_module_call_signature=("gate",),
    )


def signed(model: nn.Module) -> list[str]:
    how = export_of(model)
    return [] if how is None else [*how.signed]


def test_signatures_that_torch_cannot_use_are_passed_over(
    program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.export.unflatten

    def refuses_signatures(given: Any) -> nn.Module:
        if any(entry.fqn and entry.signature for entry in given.module_call_graph):
            raise RuntimeError("a node has no such value")
        return real(given)

    x = torch.ones(3, 3, 4, 4)
    before = unflattened(program, {})
    assert signed(before) == ["gate"]
    monkeypatch.setattr(torch.export, "unflatten", refuses_signatures)

    model = unflattened(program, {})

    assert signed(model) == []
    assert torch.equal(model(x), before(x))


def swapped(program: Any, gate: nn.Module) -> nn.Module:
    model = unflattened(program, {})
    model.gate = gate
    return model


def test_sizes_that_get_fewer_are_reported(program: Any) -> None:
    model = swapped(program, EvenBatch())
    how = export_of(model)
    assert how is not None

    written, notes = export(model, how)

    assert notes == (
        UNCHECKED,
        "the archive took inputs of ([2, 64], 3, 4, 4), the written one takes ([2, …], 3, 4, 4)",
    )
    assert written.module()(torch.ones(2, 3, 4, 4)).shape == (2, 3, 4, 4)
    with pytest.raises(AssertionError, match="Guard failed"):
        written.module()(torch.ones(3, 3, 4, 4))


def test_module_that_torch_cannot_trace_is_refused(program: Any) -> None:
    model = swapped(program, ByValue())
    how = export_of(model)
    assert how is not None

    with pytest.raises(ShapeError, match="refuses the swapped model: GuardOnDataDep") as caught:
        export(model, how)

    assert caught.value.fix.startswith("choose a module that runs at every size of the archive")
