"""Lines that put a new module in the place of another, for names of every kind."""

from collections import OrderedDict

import pytest
from torch import nn

from modswap.core.decided.blueprint import Blueprint
from modswap.ops.code.building.wanted import NewModule
from modswap.ops.code.editing.lines import AddedLine, reading, statement

NAMES = ["gate", "0", "lambda", "a-b", "line\nbreak", '"] + x["', "\u202e"]


def line(path: str) -> AddedLine:
    new = NewModule((path,), Blueprint("torch.nn:ReLU", {}), nn.ReLU, frozenset(), frozenset())
    return AddedLine(None, "", new, path, "")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cls", [nn.Module, nn.Sequential, nn.ModuleDict])
def test_line_reaches_a_module_of_any_name(name: str, cls: type[nn.Module]) -> None:
    model, holder = nn.Module(), cls()
    holder.add_module(name, nn.Sequential(OrderedDict({name: nn.Tanh()})))
    model.add_module(name, holder)
    inside, place = line(f"{name}.{name}.{name}"), line(f"{name}.{name}")
    names = {"nn": nn, "model": model}

    exec(statement(inside, model, "model", "nn.ReLU()", "put_in"), names)
    found = eval(reading(inside, model, "model"), names)
    exec(statement(place, model, "model", "nn.ReLU()", "put_in"), names)

    assert isinstance(found, nn.ReLU)
    assert isinstance(holder.get_submodule(name), nn.ReLU)
    assert list(dict(holder.named_children())) == [name]
