"""Training scripts that are named in a command: their classes are used, their work is not done."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import modswap
from modswap.cli.app import run

SCRIPT = """
from pathlib import Path

import torch
from torch import nn


class OwnAttention(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x):
        return x * self.mix(x).sigmoid()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.attention = OwnAttention()

    def forward(self, x):
        return self.attention(self.stem(x))


def score(model):
    return 1.0


net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(2):
    optimizer.zero_grad()
    net(torch.randn(2, 3, 8, 8)).mean().backward()
    optimizer.step()
torch.save(net.state_dict(), "net.pt")
Path("ran.txt").write_text("trained")
"""
ONE = ("--match", "attention", "--with", "SEBlock", "--set", "reduction=2", "--input", "1,3,8,8")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    Path("trains_it.py").write_text(SCRIPT)
    exec(SCRIPT, {"__name__": "trains_it"})
    Path("ran.txt").unlink()
    yield
    for name in sys.modules.keys() - before:
        if "trains_it" in name or name.startswith("modswap_file_"):
            del sys.modules[name]


def whole_model() -> None:
    """Save a whole model as the script does where it is run itself: its classes are `__main__`."""
    main = sys.modules["__main__"]
    held = vars(main).copy()
    try:
        exec(SCRIPT, vars(main))
        torch.save(vars(main)["net"], "whole.pt")
    finally:
        vars(main).clear()
        vars(main).update(held)
    Path("ran.txt").unlink()


@pytest.mark.one_in(2)
@pytest.mark.parametrize("factory", ["trains_it.py:Net", "trains_it:Net"])
def test_factory_in_a_script_builds_without_training(factory: str) -> None:
    before = Path("net.pt").read_bytes()

    assert run(["check", "net.pt", "--model", factory, *ONE, "-q"]) == 0
    assert run(["replace", "net.pt", "--model", factory, *ONE, "-o", "out.pt", "-q"]) == 0
    assert run(["tree", "out.pt", "--model", factory]) == 0

    assert not Path("ran.txt").exists()
    assert Path("net.pt").read_bytes() == before


def test_alias_and_own_module_of_a_script_do_not_train() -> None:
    whole_model()
    names = [f"{one}=trains_it.{one}" for one in ("Net", "OwnAttention")]
    aliases = [part for name in names for part in ("--alias", f"__main__.{name}")]
    own = ("--match", "attention", "--with", "trains_it.py:OwnAttention", "--input", "1,3,8,8")

    assert run(["tree", "whole.pt", *aliases]) == 0
    assert run(["replace", "whole.pt", *aliases, *own, "-o", "out.pt", "-q"]) == 0

    assert not Path("ran.txt").exists()
    pairs = [(f"__main__.{one}", f"trains_it.{one}") for one in ("Net", "OwnAttention")]
    model = modswap.load("out.pt", alias=pairs, allow=["trains_it.OwnAttention"])
    assert type(model).__module__ == "trains_it"
    assert not Path("ran.txt").exists()
