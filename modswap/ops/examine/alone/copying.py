"""Ways in which trainers copy and move a module, each tried after a training pass."""

import copy
import pickle
import re
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorDeviceMismatchError

from modswap.core.decided.dependence import CLEAR_RATIO
from modswap.live_values import changed_tensors
from modswap.nn.fake_tensors import fake_mode, made_fake
from modswap.ops.examine.alone.attributes import (
    Attribute,
    closed_over,
    first_refused,
    plain_tensors,
    unregistered,
)
from modswap.ops.examine.alone.inputs import CallInputs
from modswap.ops.examine.alone.movement import relative_change
from modswap.ops.examine.alone.pair import outputs_of
from modswap.ops.run.describe import one_line
from modswap.ops.run.random_weights import placeholders

IN_A_LOCAL_NAME = "keep it in a local name, or `detach` it"
A_METHOD = "put a method, or a function that a file defines, in its place"
LEFT_OUT = "make it in `forward`, or leave it out of `__getstate__`"
A_BUFFER = "make it a buffer or a parameter: `register_buffer`, `nn.Parameter`, `nn.ModuleList`"
ON_ITS_DEVICE = "make tensors in `forward` with `device=x.device` and `dtype=x.dtype`"
# on the CPU; torch has no class for it
_NO_KERNEL = re.compile(r"not implemented for|unsupported dtype|not supported", re.IGNORECASE)


class CopyFault(NamedTuple):
    """The fault of a way of copying a module."""

    attribute: str  # dotted, from the module; empty where it is not known
    what: str
    fix: str


class Trained(NamedTuple):
    """A module after a training pass, with what it was made of."""

    original: nn.Module  # the module in the model, of which it is a copy
    module: nn.Module
    inputs: CallInputs
    fresh: nn.Module | None  # a copy from before the pass; None where none could be made
    has_values: bool  # whether its tensors have values, and not only shapes


def deepcopy(trained: Trained) -> CopyFault | None:
    """Copy a module as an average of weights does; the copy must share nothing with it."""
    module, original = trained.module, trained.original
    shared = closed_over(original)
    if shared is not None:
        what = "it is a function that holds the module: a deep copy computes with these weights"
        return CopyFault(shared.name, what, A_METHOD)
    try:
        twin = copy.deepcopy(module)
    except Exception as error:  # noqa: BLE001 - a module's own code may raise anything
        return _refused("copy.deepcopy", error, first_refused(module, _deep_copied(module)))
    if copy.deepcopy(original, placeholders(original)) is original or twin is module:
        return CopyFault(
            "", "`copy.deepcopy` gives no copy, but the module itself", "give it no `__deepcopy__`"
        )
    return None


def _deep_copied(module: nn.Module) -> Callable[[Any], object]:
    """Return the copy of a value, for which the layers of the module count as copied."""
    layers = {id(layer): layer for layer in module.modules()}
    return lambda value: copy.deepcopy(value, dict(layers))


def _refused(way: str, error: Exception, found: Attribute | None) -> CopyFault:
    name, fix = ("", LEFT_OUT) if found is None else (found.name, _cure(found.value))
    return CopyFault(name, f"after a training pass `{way}` raises {one_line(error, 120)}", fix)


def _cure(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return IN_A_LOCAL_NAME
    return A_METHOD if isinstance(value, types.FunctionType) else LEFT_OUT


class _Pickler(pickle.Pickler):
    """Writes a module without its tensors, and without the values that count as known."""

    def __init__(self, file: BytesIO, known: Mapping[int, Any]) -> None:
        super().__init__(file, protocol=2)
        self.known = known
        self.kept: list[Any] = []

    def persistent_id(self, value: Any) -> int | None:
        if type(value) in {torch.Tensor, nn.Parameter} or id(value) in self.known:
            self.kept.append(value)
            return len(self.kept) - 1
        return None


class _Unpickler(pickle.Unpickler):
    """Reads a module that was just written."""

    def __init__(self, file: BytesIO, kept: Sequence[Any]) -> None:
        super().__init__(file)
        self.kept = kept

    def persistent_load(self, pid: int) -> Any:
        return self.kept[pid]


def _pickled(value: Any, known: Mapping[int, Any]) -> Any:
    """Return the copy of a value through a pickle, its tensors shared."""
    file = BytesIO()
    pickler = _Pickler(file, known)
    pickler.dump(value)
    file.seek(0)
    return _Unpickler(file, pickler.kept).load()


def pickled(trained: Trained) -> CopyFault | None:
    """Pickle a module as `torch.save` and worker processes do, and run what is read back."""
    module = trained.module
    try:
        twin = _pickled(module, {})
    except Exception as error:  # noqa: BLE001 - a module's own code may raise anything
        layers = {id(layer): layer for layer in module.modules()}
        return _refused("pickle", error, first_refused(module, lambda one: _pickled(one, layers)))
    return _changed(
        trained, twin, "what is read back from a pickle", "return all of it in `__getstate__`"
    )


def _changed(trained: Trained, twin: nn.Module, how: str, fix: str) -> CopyFault | None:
    """Return the fault of a copy that does not return what the module does."""
    if not trained.has_values:
        return None
    expected = outputs_of(trained.module, trained.inputs, trained.inputs.leaves)
    try:
        got = outputs_of(twin, trained.inputs, trained.inputs.leaves)
    except Exception as error:  # noqa: BLE001 - a module's own code may raise anything
        return CopyFault("", f"{how} raises {one_line(error, 120)}", fix)
    apart = relative_change(expected, got)
    if apart <= CLEAR_RATIO:
        return None
    what = f"{how} returns something else, {apart:.2g} of the outputs apart"
    return CopyFault(_differing(trained.module, twin), what, fix)


def _differing(module: nn.Module, twin: nn.Module) -> str:
    """Return the first plain tensor whose values the copy does not have; empty for none."""
    there = plain_tensors(twin)
    for name, tensor in plain_tensors(module).items():
        other = there.get(name)
        if other is None or other.shape != tensor.shape or not torch.equal(other, tensor):
            return name
    return ""


def state_dict(trained: Trained) -> CopyFault | None:
    """Load the state dict of a trained module into a fresh one, which must become the same."""
    hidden = unregistered(trained.original)
    if hidden is not None:
        what = "its weights are not the module's: not trained, not saved, not moved with it"
        return CopyFault(hidden.name, what, A_BUFFER)
    state = trained.module.state_dict()
    changed = _changed_keys(trained.original.state_dict(), state)
    if changed:
        what = "a pass adds, drops or reshapes it: no fresh module loads its state dict"
        return CopyFault(changed[0], what, "give it its shape in `__init__`")
    if trained.fresh is None:
        return None
    try:
        trained.fresh.load_state_dict(state)
    except Exception as error:  # noqa: BLE001 - a module's own code may raise anything
        what = f"a fresh module refuses its state dict: {one_line(error, 160)}"
        return CopyFault("", what, "look at what it does in `load_state_dict`")
    return _changed(trained, trained.fresh, "a fresh module with its state dict", A_BUFFER)


def _changed_keys(fresh: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    shapes = [{n: getattr(t, "shape", None) for n, t in each.items()} for each in (fresh, state)]
    return [n for n in {**shapes[1], **shapes[0]} if shapes[0].get(n) != shapes[1].get(n)]


def half(trained: Trained) -> CopyFault | None:
    """Cast a module to float16, and run it on real values.

    Passes without data do not compare the precisions of all operands, as a real one does.
    """
    twin = copied_or_none(trained.module) if trained.has_values else None
    if twin is None:
        return None
    try:
        twin.half()
        leaves = trained.inputs.leaves
        outputs_of(twin, trained.inputs, [x.half() if x.is_floating_point() else x for x in leaves])
    except Exception as error:  # noqa: BLE001 - a module's own code may raise anything
        if _NO_KERNEL.search(str(error)):
            return None
        return _left(
            twin, "half()", error, lambda tensor: tensor.dtype not in {torch.float32, torch.float64}
        )
    return None


def to_device(trained: Trained) -> CopyFault | None:
    """Move a module to another device, and run it there on tensors without data."""
    twin = copied_or_none(trained.module) if trained.has_values else None
    if twin is None or not _runs(twin, trained.inputs):
        return None
    try:
        twin.to("meta")
        _run(twin, trained.inputs, "meta")
    except FakeTensorDeviceMismatchError as error:
        return _left(twin, "to(device)", error, lambda tensor: tensor.is_meta)
    except Exception:  # noqa: BLE001 - it may need to know the kind of its device
        return None
    return None


def _left(
    twin: nn.Module, how: str, error: Exception, moved: Callable[[torch.Tensor], bool]
) -> CopyFault:
    """Return the fault of a move, with the first plain tensor that stayed as it was."""
    name = next((name for name, tensor in plain_tensors(twin).items() if not moved(tensor)), "")
    what = f"after `.{how}` it raises {one_line(error, 160)}{'' if name else _line_of(error)}"
    return CopyFault(name, what, A_BUFFER if name else ON_ITS_DEVICE)


def copied_or_none(module: nn.Module) -> nn.Module | None:
    """Return a deep copy of a module; None where it cannot be copied, which `deepcopy` reports."""
    try:
        return copy.deepcopy(module)
    except Exception:  # noqa: BLE001 - a module's own code may raise anything
        return None


def _runs(module: nn.Module, inputs: CallInputs) -> bool:
    try:
        _run(module, inputs, "cpu")
    except Exception:  # noqa: BLE001 - it may need values, or refuse tensors without data
        return False
    return True


def _run(module: nn.Module, inputs: CallInputs, device: str) -> None:
    """Run a module on fake tensors of a device."""
    with fake_mode() as mode, torch.no_grad():
        named = changed_tensors(module, lambda tensor: made_fake(mode, tensor))
        leaves = [torch.empty_like(made_fake(mode, x), device=device) for x in inputs.leaves]
        args, kwargs = inputs.live(leaves)
        torch.func.functional_call(module, named, tuple(args), kwargs)


def _line_of(error: Exception) -> str:
    """Return the place of the innermost `forward` that an exception went through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.name == "forward"]
    return f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""


WAYS: Mapping[str, Callable[[Trained], CopyFault | None]] = {
    "deepcopy": deepcopy,
    "pickle": pickled,
    "state_dict": state_dict,
    "half": half,
    "to": to_device,
}
