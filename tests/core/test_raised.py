"""Whose code raised an exception, and what the command says of it."""

from pathlib import Path

import pluggy
import pytest
import torch
from torch import nn

from modswap.cli.app import run
from modswap.core.raised import error_of_model
from modswap.core.words.nearest import nearest
from modswap.ops.jobs.check import Request, check_one
from modswap.ops.load.lazy_layers import give_sizes
from tests.recipes import UNEXAMINED

MODEL = """\
import torch
from torch import nn

class Net(nn.Sequential):
{body}

def build():
    return Net(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
"""
RECIPE = f"""\
version: 1
checkpoint: net.pt
model: {{factory: "net.py:build"}}
inputs: [{{shape: [1, 3, 8, 8]}}]
{UNEXAMINED}\
replace: [{{match: "1", with: ECA}}]
"""
RAISING = {
    "state_dict": "    def state_dict(self, **kwargs):\n        raise KeyError('mine')",
    "named_parameters": "    def named_parameters(self, *a, **k):\n        raise KeyError('mine')",
    "named_modules": "    def named_modules(self, *a, **k):\n        raise KeyError('mine')",
    "extra state": "    def get_extra_state(self):\n        raise KeyError('mine')",
    "attribute": "    def __getattr__(self, name):\n        raise KeyError('mine')",
    "end of the program": "    def forward(self, x):\n        raise SystemExit('mine')",
    "broken pipe": "    def state_dict(self, **kwargs):\n        raise BrokenPipeError('mine')",
    "forward": "    def forward(self, x):\n        raise KeyError('mine')",
}


def in_folder(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    Path("net.py").write_text(MODEL.format(body=RAISING[name]))
    Path("swap.yaml").write_text(RECIPE)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    torch.save(model.state_dict(), "net.pt")


@pytest.mark.parametrize("name", RAISING)
def test_exception_of_a_models_own_code_is_no_bug(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_folder(name, tmp_path, monkeypatch)

    code = run(["replace", "net.pt", "-c", "swap.yaml", "-o", "out.pt"])

    said = capsys.readouterr()
    assert code in {1, 2, 3}
    assert "mine" in said.err + said.out
    assert "Traceback" not in said.err


def test_check_of_several_recipes_says_so_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_folder("state_dict", tmp_path, monkeypatch)

    outcome = check_one(Request("swap.yaml"), lambda _: None)

    assert outcome.exit_code == 3
    assert "the model's own code raised KeyError: 'mine'" in str(outcome.error)


def test_exception_of_a_torch_method_is_the_models() -> None:
    model = nn.Linear(1, 1)
    model._modules["x"] = 5  # type: ignore[assignment] # as a file may hold it

    with pytest.raises(AttributeError) as raised:
        give_sizes(model, {}, None)  # type: ignore[arg-type] # it raises before

    found = error_of_model(raised.value, "net.pt")
    assert found is not None
    assert found.where == "net.pt"


def test_exception_of_another_package_is_the_models() -> None:
    register = pluggy.PluginManager("x").register

    with pytest.raises(ValueError, match="already registered") as raised:
        nearest("a", map(register, [RAISING, RAISING]))  # type: ignore[arg-type] # it raises before

    assert error_of_model(raised.value, "net.pt") is not None


def test_other_exceptions_stay_bugs() -> None:
    with pytest.raises(TypeError) as raised:
        nearest("a", 5)  # type: ignore[arg-type] # as a bug of ours would

    assert error_of_model(raised.value, "net.pt") is None
    assert error_of_model(ValueError("raised by nobody"), "net.pt") is None
