"""Sites that are given several tensors: the rule picks one, or the old module ignores the others.

Covers: build.unused_inputs.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.core.errors import ShapeError
from modswap.core.kept.outcome import Outcome
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.api import replace
from modswap.ops.examine.table import EXAMINATIONS
from tests.recipes import UNEXAMINED

DEPENDENCE = [row.name for row in EXAMINATIONS if row.name != "dependence"]
EXAMINED = f"verify: {{skip: [{', '.join(DEPENDENCE)}]}}\n"


class Ignores(nn.Module):
    """A convolution of its first input; the second is for other modules of the library."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, hidden: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.mix(hidden)
        return out


class Uses(Ignores):
    """A convolution that adds its second input to each channel."""

    def forward(self, hidden: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden, temb) + temb[:, :, None, None]


class Gate(Ignores):
    """A gate of its second input by its first."""

    def forward(self, hidden: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
        return super().forward(temb, hidden) * hidden.mean()


class IgnoresFirst(Ignores):
    """A convolution of its second input."""

    def forward(self, hidden: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
        return super().forward(temb, hidden)


class Alone(nn.Module):
    """A class that takes one map: (N, dim, H, W) -> the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(dim, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.mix(x)
        return out


class Net(nn.Module):
    """A map and the embedding of a time through one module."""

    def __init__(self, site: type[nn.Module], way: str = "") -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.time = nn.Linear(4, 8)
        self.site = site()
        self.way = way

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> Any:
        x, t = self.stem(x), self.time(t)
        if self.way == "keyword":
            return self.site(x, temb=t) + t.mean()
        if self.way == "other order":
            return self.site(t, x) + t.mean()
        return self.site(x, t) + t.mean()


def swap(model: nn.Module, rule: str, verify: str = UNEXAMINED) -> Outcome:
    inputs = "{args: [{shape: [2, 3, 8, 8]}, {shape: [2, 4]}]}"
    text = f"version: 1\ninputs: [{inputs}]\nreplace: [{{match: site, {rule}}}]\n{verify}"
    return replace(model.eval(), parse_recipe(text, "swap.yaml", "."))


OWN = f"with: '{__name__}:Alone'"
NOTE = "not passed on: the old module's output does not depend on it"


@pytest.mark.parametrize("rule", ["with: SEBlock", OWN])
@pytest.mark.parametrize(
    ("site", "way", "note"),
    [
        (Ignores, "", f"input 1 ('temb') is {NOTE}"),
        (Ignores, "keyword", f"'temb' is {NOTE}"),
        (IgnoresFirst, "other order", f"input 0 ('hidden') is {NOTE}"),
    ],
)
def test_input_that_the_old_module_ignores_is_dropped(
    site: type[nn.Module], way: str, note: str, rule: str
) -> None:
    model = Net(site, way)

    outcome = swap(model, rule)

    assert note in outcome.sites[0].notes
    assert model(torch.randn(2, 3, 8, 8), torch.randn(2, 4)).shape == (2, 8, 8, 8)


@pytest.mark.parametrize("rule", ["with: SEBlock", OWN])
@pytest.mark.parametrize("way", ["", "keyword"])
def test_input_that_the_old_module_uses_is_refused_and_the_cures_are_named(
    way: str, rule: str
) -> None:
    with pytest.raises(ShapeError, match="`input: 0` in the rule uses that one alone"):
        swap(Net(Uses, way), rule)


@pytest.mark.parametrize("rule", ["with: SEBlock", OWN])
@pytest.mark.parametrize(
    ("site", "way", "picked", "note"),
    [
        (Uses, "", "0", "input 1 ('temb') is not passed on: the rule says `input: 0`"),
        (Uses, "keyword", "0", "'temb' is not passed on: the rule says `input: 0`"),
        (Uses, "keyword", "hidden", "'temb' is not passed on: the rule says `input: hidden`"),
        (Gate, "other order", "1", "input 0 ('hidden') is not passed on: the rule says `input: 1`"),
        (Gate, "other order", "temb", "input 0 ('hidden') is not passed on: the rule says `inp"),
    ],
)
def test_rule_picks_the_input(
    site: type[nn.Module], way: str, picked: str, note: str, rule: str
) -> None:
    outcome = swap(Net(site, way), f"{rule}, input: {picked}", EXAMINED)

    assert any(one.startswith(note) for one in outcome.sites[0].notes)
    assert outcome.verdict is not None
    assert [found.status for found in outcome.verdict.findings] == ["passed", "passed"]


@pytest.mark.parametrize(
    ("picked", "what"),
    [
        ("5", r"says `input: 5`, which is no tensor of its call: .*; set `input` to one of 0, 1"),
        ("zzz", "says `input: zzz`, which is no tensor of its call"),
        ("1", r"it is given \(2, 8\), expected a map"),
    ],
)
def test_input_that_is_no_map_of_the_call_is_refused(picked: str, what: str) -> None:
    with pytest.raises(ShapeError, match=what):
        swap(Net(Uses), f"with: SEBlock, input: {picked}")


class Raises(Ignores):
    """A module that does not run alone."""

    def forward(self, hidden: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
        if hidden.device.type == "cpu" and getattr(self, "calls", 1) > 1:
            raise RuntimeError("not again")
        self.calls = 2
        return super().forward(hidden, temb)


class Flags(Ignores):
    """A module whose inputs are counts, flags, lists and tensors."""

    def forward(self, hidden: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
        out: torch.Tensor = self.mix(hidden)
        return out


class Calls(Net):
    """Calls its site with more than tensors."""

    def __init__(self, more: Any) -> None:
        super().__init__(Flags)
        self.more = more

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> Any:
        x, t = self.stem(x), self.time(t)
        return self.site(x, t, self.more, ids=t.long()) + t.mean()


def test_other_inputs_that_are_used_or_unknown_are_refused_as_before() -> None:
    for more in ((1, 2.5), [True], "text", {"a": 1}, object()):
        with pytest.raises(ShapeError, match="it is also given"):
            swap(Calls(more), "with: SEBlock")
    outcome = swap(Calls(None), "with: SEBlock")
    assert f"input 1, 'ids' are {NOTE.replace('it', 'them')}" in str(outcome.sites[0].notes)


def test_module_that_does_not_run_alone_ignores_nothing() -> None:
    with pytest.raises(ShapeError, match="it is also given input 1"):
        swap(Net(Raises), "with: SEBlock")


@pytest.mark.parametrize("name", ["MAX_WEIGHTS", "MAX_ELEMENTS"])
def test_large_module_is_not_run_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"modswap.ops.build.unused_inputs.{name}", 10)

    with pytest.raises(ShapeError, match="it is also given input 1"):
        swap(Net(Ignores), "with: SEBlock")


def test_dropped_inputs_are_dropped_in_the_file_as_well(tmp_path: Path) -> None:
    model = Net(Uses).eval()
    outcome = swap(model, "with: SEBlock, input: 0")
    torch.save(model, tmp_path / "net.pt")
    x, t = torch.randn(2, 3, 8, 8), torch.randn(2, 4)

    loaded = modswap.load(tmp_path / "net.pt", allow=["tests.*"])

    assert outcome.ok
    assert torch.equal(loaded(x, t), model(x, t))
    assert "drops=('1',)" in repr(loaded.get_submodule("site"))
