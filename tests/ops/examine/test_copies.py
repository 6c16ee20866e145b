"""New modules that cannot be copied, saved, cast or moved after a training pass."""

import copy
import threading
from functools import partial
from io import BytesIO, TextIOWrapper
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from modswap.core.finding import Finding
from modswap.ops.examine.alone import bounds
from tests.ops.examine.swapped_blocks import DIM, Wrap, examine, here, recipe
from tests.ops.examine.test_finite import RaisesOnValues

if TYPE_CHECKING:
    from collections.abc import Callable


class Block(nn.Module):
    """A layer; subclasses keep something beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.proj(x)
        return out


class KeepsTensor(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gates: torch.Tensor = self.proj(x)
        self.gates = gates
        return x * gates.sigmoid()


class KeepsTensorInTraining(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.proj(x)
        if self.training:
            self.seen = {"last": [y]}
        return y


class KeepsDetached(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.proj(x)
        self.seen = y.detach()
        return y


class LossOnLayer(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.proj(x)
        self.proj.aux = y.square().mean()
        return y


class Lambda(Block):
    def __init__(self) -> None:
        super().__init__()
        self.act: Callable[[torch.Tensor], torch.Tensor] = lambda x: x.relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.act(self.proj(x))
        return out


class LambdaInDict(Block):
    def __init__(self) -> None:
        super().__init__()
        self.acts = {"relu": [lambda x: x.relu()]}


class Closure(Block):
    def __init__(self) -> None:
        super().__init__()
        self.run: Callable[[torch.Tensor], Any] = lambda x: self.proj(x * 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.run(x)
        return out


class HookClosure(Block):
    def __init__(self) -> None:
        super().__init__()
        self.proj.register_forward_hook(lambda *_: setattr(self, "called", True))


class BoundHook(Block):
    """A bound method is copied with its module."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.proj.register_forward_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.calls += 1


class Lock(Block):
    def __init__(self) -> None:
        super().__init__()
        self.guard = threading.Lock()


class Stream(Block):
    def __init__(self) -> None:
        super().__init__()
        self.noise = (float(i) for i in range(3))


class OpenFile(Block):
    def __init__(self) -> None:
        super().__init__()
        self.log = TextIOWrapper(BytesIO())


class PlainTable(Block):
    """Neither buffer nor parameter: it is not cast or moved."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.linspace(1, 2, DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.proj(x * self.scale)
        return out


class Indices(Block):
    """A plain table of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.order = torch.arange(DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.proj(x).gather(-1, self.order.expand(x.shape))
        return out


class MakesOnCpu(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.proj(x + torch.arange(DIM))
        return out


class MakesOnItsDevice(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.proj(x + torch.arange(DIM, device=x.device, dtype=x.dtype))
        return out


class LayersInList(Block):
    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(DIM, DIM)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers[0](self.proj(x))
        return out


class Leaf(Block):
    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.ones(DIM, requires_grad=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.proj(x) * self.gain
        return out


class GrowingBuffer(Block):
    memory: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("memory", torch.zeros(0, DIM))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.proj(x)
        if self.training:
            self.memory = torch.cat([self.memory, y.detach().flatten(0, 1)])
        return y


class LateBuffer(Block):
    mask: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if "mask" not in self._buffers:
            self.register_buffer("mask", torch.ones(x.shape[1], 1))
        out: torch.Tensor = self.proj(x * self.mask)
        return out


class PlainAverage(Block):
    """Statistics of training that no state dict holds."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.zeros(DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean = 0.5 * self.mean + 0.5 * x.detach().mean((0, 1))
        out: torch.Tensor = self.proj(x - self.mean.to(x))
        return out


class Forgets(Block):
    gain = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.gain = 2.0

    def __reduce_ex__(self, protocol: Any) -> Any:
        kept = {name: value for name, value in vars(self).items() if name != "gain"}
        return Forgets.__new__, (Forgets,), kept

    def __deepcopy__(self, memo: dict[int, Any]) -> "Forgets":
        twin = Forgets.__new__(Forgets)
        vars(twin).update(copy.deepcopy(vars(self), memo))
        return twin

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.gain * self.proj(x)
        return out


class SharedCopy(Block):
    def __deepcopy__(self, memo: dict[int, Any]) -> "SharedCopy":
        return self


def found(new: type[nn.Module], old: type[nn.Module] = Block) -> Finding:
    """Return the finding of the site."""
    (one,) = examine(Wrap(old()), recipe(here(new), shape="[2, 6, 16]"), "copies")
    return one


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("new", "attribute", "what", "fix"),
    [
        (KeepsTensor, "gates", "`copy.deepcopy` raises RuntimeError", "local name"),
        (KeepsTensorInTraining, "seen['last'][0]", "`copy.deepcopy` raises", "local name"),
        (LossOnLayer, "proj.aux", "`copy.deepcopy` raises", "local name"),
        (Lambda, "act", "`pickle` raises", "put a method"),
        (LambdaInDict, "acts['relu'][0]", "`pickle` raises", "put a method"),
        (Closure, "run", "a function that holds the module", "put a method"),
        (HookClosure, "proj._forward_hooks[", "a function that holds the module", "put a method"),
        (Lock, "guard", "`copy.deepcopy` raises TypeError", "__getstate__"),
        (Stream, "noise", "`copy.deepcopy` raises TypeError", "__getstate__"),
        (OpenFile, "log", "`copy.deepcopy` raises TypeError", "__getstate__"),
        (PlainTable, "scale", "after `.half()` it raises", "register_buffer"),
        (Indices, "order", "after `.to(device)` it raises", "register_buffer"),
        (MakesOnCpu, "", "at test_copies.py:", "device=x.device"),
        (LayersInList, "layers[0]", "not trained, not saved", "nn.ModuleList"),
        (Leaf, "gain", "not trained, not saved", "nn.Parameter"),
        (GrowingBuffer, "memory", "no fresh module loads", "`__init__`"),
        (LateBuffer, "mask", "no fresh module loads", "`__init__`"),
        (PlainAverage, "mean", "with its state dict returns something else", "register_buffer"),
        (Forgets, "", "read back from a pickle returns something else", "__getstate__"),
        (SharedCopy, "", "no copy, but the module itself", "__deepcopy__"),
    ],
)
def test_what_cannot_be_copied_is_named(
    new: type[nn.Module], attribute: str, what: str, fix: str
) -> None:
    one = found(new)

    assert (one.status, one.path) == ("failed", "block"), one
    assert one.data["attribute"].startswith(f"block.{attribute}" if attribute else "")
    assert what in one.what
    assert fix in one.fix


@pytest.mark.parametrize("new", [Block, KeepsDetached, BoundHook, MakesOnItsDevice])
def test_what_can_be_copied_passes(new: type[nn.Module]) -> None:
    assert (found(new).status, found(new).what) == ("passed", "")


class RefusesState(Block):
    def load_state_dict(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("it was made for another size")


class UnpickledRaises(Block):
    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({**state, "_modules": {}})

    def __deepcopy__(self, memo: dict[int, Any]) -> "UnpickledRaises":
        twin = UnpickledRaises.__new__(UnpickledRaises)
        vars(twin).update(copy.deepcopy(vars(self), memo))
        return twin


class HalfTable(Block):
    """Moves its table with the device, and keeps its precision."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.eye(DIM)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call] # of torch
        self.table = fn(self.table).float()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.proj(x @ self.table)
        return out


class Float32Inside(Block):
    """Runs under autocast, and not as a module in float16."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.proj(x.softmax(-1, dtype=torch.float32))
        return out


class NoHalfKernel(Block):
    """Torch has no kernel for it in float16 on the CPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.proj(torch.fft.fft(x).real.to(x.dtype))
        return out


class NeedsValues(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.proj(x[: int((x.sum() * 0).item()) + len(x)])
        return out


class AutocastOfItsDevice(Block):
    """Asks torch for its device, which is none that torch computes on here."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            out: torch.Tensor = self.proj(x)
        return out


class InList(Block):
    """A list of functions and partial ones, all of them of files."""

    def __init__(self) -> None:
        super().__init__()
        self.acts = [torch.relu, partial(torch.clamp, min=0.0), nn.functional.gelu]
        self.itself = self.forward
        self.unset = self._make()

    def _make(self) -> Any:
        def never() -> Any:
            return later

        if self.acts:
            return None
        later = 1
        return never


@pytest.mark.parametrize(
    ("new", "what"),
    [
        (RefusesState, "refuses its state dict: RuntimeError: it was made for another size"),
        (UnpickledRaises, "read back from a pickle raises AttributeError"),
        (Float32Inside, "after `.half()` it raises RuntimeError"),
        (HalfTable, "'block.table': after `.half()` it raises"),
    ],
)
def test_a_class_whose_own_code_fails_in_copies_is_found(new: type[nn.Module], what: str) -> None:
    one = found(new)

    assert (one.status, what in one.what) == ("failed", True), one


@pytest.mark.parametrize("new", [NeedsValues, AutocastOfItsDevice, InList, NoHalfKernel])
def test_what_a_copy_cannot_show_is_no_fault(new: type[nn.Module]) -> None:
    assert found(new).status == "passed"


@pytest.mark.parametrize("old", [Lambda, PlainTable, Lock])
def test_a_fault_of_the_original_is_not_the_swaps(old: type[nn.Module]) -> None:
    one = found(old, old)

    assert one.status == "passed"
    assert "neither it nor the original stands " in one.what


def test_a_site_that_is_not_run_is_copied_without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_SITE_BYTES", 0)

    assert found(KeepsTensor).data["attribute"] == "block.gates"
    assert found(Lambda).data["attribute"] == "block.act"
    assert found(Block).status == "passed"
    assert "not run" in examine(Wrap(Block()), recipe(here(Block)), "finite")[0].what


def test_a_module_that_raises_is_reported_by_another_examination() -> None:
    one = found(RaisesOnValues)

    assert (one.status, one.what) == ("skipped", "it does not run on real values")
