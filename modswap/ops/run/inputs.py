"""Describe the dummy inputs of a recipe, and make them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from modswap.core.asked.recipe import CallInput, Integers, TensorInput, Verify
from modswap.core.decided.verdict import CaseKey
from modswap.core.errors import InputError
from modswap.io.formats.exported.program import export_of
from modswap.live_values import dtype_name, map_leaves
from modswap.ops.run.describe import one_line


@dataclass(frozen=True, slots=True)
class DummyCall:
    """A described call of the model, with a `TensorInput` in the place of a tensor."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def __str__(self) -> str:
        given = [_text(value) for value in self.args]
        given += [f"{name}={_text(value)}" for name, value in self.kwargs.items()]
        return ", ".join(given)

    @property
    def tensors(self) -> tuple[TensorInput, ...]:
        """Return every tensor that it describes."""
        found: list[TensorInput] = []
        self.with_tensors(found.append)
        return tuple(found)

    def described(self) -> "DummyCall":
        """Return the same call with a description in the place of every live tensor."""
        return self.with_tensors(lambda tensor: tensor)

    def with_batch(self, size: int) -> "DummyCall | None":
        """Return the same call at another batch size; None if its tensors have no common one."""
        found = self.tensors
        if len({tensor.shape[:1] for tensor in found}) != 1 or not found[0].shape:
            return None
        return self.with_tensors(lambda tensor: _reshaped(tensor, (size, *tensor.shape[1:])))

    def resized(self, size: tuple[int, int]) -> "DummyCall":
        """Return the same call with every 4-D tensor at another (H, W)."""

        def change(tensor: TensorInput) -> TensorInput:
            is_map = len(tensor.shape) == 4
            return _reshaped(tensor, (*tensor.shape[:2], *size)) if is_map else tensor

        return self.with_tensors(change)

    def with_tensors(self, change: Callable[[TensorInput], Any]) -> "DummyCall":
        """Return the same call with another description, or a live value, for every tensor."""

        def changed(leaf: Any) -> Any:
            leaf = _described(leaf)
            return change(leaf) if isinstance(leaf, TensorInput) else leaf

        walked = partial(map_leaves, changed, is_leaf=_is_description)
        args = tuple(map(walked, self.args))
        return DummyCall(args, {name: walked(value) for name, value in self.kwargs.items()})

    def live(
        self, seed: int, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return live inputs, as `make` does; a seed draws the same values on every device."""
        how = torch.Generator().manual_seed(seed), dtype, device
        args = tuple(make(value, *how) for value in self.args)
        return args, {name: make(value, *how) for name, value in self.kwargs.items()}


@dataclass(frozen=True, slots=True)
class Case:
    """A pass over the model in a mode, `eval` or `train`.

    `dtype` is the floating dtype of weights and inputs, None for the model's own; `autocast` is to
    bfloat16, and `channels_last` the memory format of 4-D inputs.
    """

    call: DummyCall
    mode: str = "eval"
    dtype: str | None = None
    autocast: bool = False
    channels_last: bool = False

    @property
    def key(self) -> CaseKey:
        """Return the identity of the pass in a report."""
        dtype = "autocast" if self.autocast else self.dtype or "float32"
        last = ", channels_last" if self.channels_last else ""
        return CaseKey(f"{self.call}{last}", self.mode, dtype)

    def in_mode(self, mode: str) -> "Case":
        """Return the same case in another mode."""
        return replace(self, mode=mode)


def calls_of(inputs: Sequence[TensorInput | CallInput]) -> tuple[DummyCall, ...]:
    """Return the calls of a recipe's `inputs`."""
    return tuple(
        DummyCall((entry,), {})
        if isinstance(entry, TensorInput)
        else DummyCall(entry.args, entry.kwargs)
        for entry in inputs
    )


def entries_of(calls: Sequence[DummyCall]) -> tuple[TensorInput | CallInput, ...]:
    """Return calls as a recipe's `inputs`; none if one has a value that no recipe can hold."""
    try:
        return tuple(map(_entry, calls))
    except ValueError:
        return ()


def _entry(call: DummyCall) -> TensorInput | CallInput:
    described = call.described()
    if len(call.args) == 1 and not call.kwargs and isinstance(described.args[0], TensorInput):
        return described.args[0]
    args = tuple(_plain(value) for value in described.args)
    return CallInput(args=args, kwargs={name: _plain(v) for name, v in described.kwargs.items()})


def _plain(value: Any) -> Any:
    """Return a described value as YAML can hold it, or raise a `ValueError`."""
    if isinstance(value, TensorInput):
        return value.model_dump(exclude_defaults=True)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _plain(item) for name, item in value.items()}
    raise ValueError(f"no plain value: {type(value).__name__}")


def cases_of(calls: Sequence[DummyCall], verify: Verify) -> tuple[Case, ...]:
    """Return every pass that a recipe asks for; those of its `inputs` come first."""
    resized = tuple(call.resized(size) for size in verify.further_sizes for call in calls)
    return tuple(
        Case(call, mode, None if dtype == "float32" else dtype)
        for mode in verify.modes
        for dtype in verify.dtypes
        for call in (*calls, *resized)
    )


def make(
    value: Any,
    generator: torch.Generator | None,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Any:
    """Return a live value: descriptions become tensors, live tensors are copied.

    A description is a `TensorInput` or a mapping with a `shape`; an archive may bring live tensors
    along. Without a generator torch's own draws, without a device torch's default holds; a dtype
    replaces float32.
    """

    def made(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            cast = dtype if leaf.dtype is torch.float32 else None
            # a copy: the model may write into it
            return leaf.detach().to(device=device, dtype=cast, copy=True)
        leaf = _described(leaf)
        if isinstance(leaf, TensorInput):
            return _tensor(leaf, generator, dtype).to(device=device)
        return leaf

    return map_leaves(made, value, _is_description)


def _tensor(
    wanted: TensorInput, generator: torch.Generator | None, dtype: torch.dtype | None
) -> torch.Tensor:
    kind: torch.dtype = getattr(torch, wanted.dtype)
    if kind is torch.float32 and dtype is not None:
        kind = dtype
    shape = wanted.shape
    try:
        match wanted.fill:
            case Integers(integers=(low, high)):
                return torch.randint(low, high, shape, generator=generator).to(kind)
            case "normal" if kind.is_floating_point:
                if torch.get_default_device().type == "meta":  # torch draws nothing there, slowly
                    return torch.empty(shape, dtype=kind)
                return torch.randn(shape, generator=generator).to(kind)
            case "ones":
                return torch.ones(shape, dtype=kind)
        # an index needs no normal value: every embedding has 0
        return torch.zeros(shape, dtype=kind)
    except (RuntimeError, MemoryError) as error:
        what = f"the input {_text(wanted)} cannot be made: {one_line(error, 120)}"
        raise InputError(what, fix="give a smaller one") from error


def _is_description(value: Any) -> bool:
    return isinstance(value, Mapping) and "shape" in value


def _described(value: Any) -> Any:
    """Return the description of a tensor, live or a mapping; any other value as it is."""
    if isinstance(value, torch.Tensor):
        dtype: Any = dtype_name(value.dtype)
        return TensorInput.model_construct(shape=tuple(value.shape), dtype=dtype, fill="normal")
    return TensorInput.model_validate(dict(value)) if _is_description(value) else value


def _reshaped(tensor: TensorInput, shape: tuple[int, ...]) -> TensorInput:
    return tensor.model_copy(update={"shape": shape})


def _text(value: Any) -> str:
    value = _described(value)
    if isinstance(value, TensorInput):
        dtype = "" if value.dtype == "float32" else f" {value.dtype}"
        return f"({', '.join(map(str, value.shape))}){dtype}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    return repr(value)


def example_calls(model: nn.Module) -> tuple[DummyCall, ...]:
    """Return the call that a model's archive brings along; none for other models."""
    how = export_of(model)
    return (DummyCall(how.args, how.kwargs),) if how and (how.args or how.kwargs) else ()
