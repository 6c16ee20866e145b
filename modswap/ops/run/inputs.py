"""Describe the dummy inputs of a recipe, and make them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from modswap.core.asked.recipe import CallInput, Integers, TensorInput, Verify
from modswap.core.decided.verdict import CaseKey
from modswap.core.errors import InputError
from modswap.io.formats.exported.program import export_of
from modswap.ops.run.describe import one_line
from modswap.ops.run.leaves import map_leaves


@dataclass(frozen=True, slots=True)
class DummyCall:
    """A call of the model, as descriptions from which live inputs are made.

    Args:
        args: Positional inputs; a `TensorInput` stands for a tensor.
        kwargs: Keyword inputs, described in the same way.
    """

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

    @property
    def asks_for_half(self) -> bool:
        """Return whether any of its tensors is of half precision."""
        return any(tensor.dtype in {"float16", "bfloat16"} for tensor in self.tensors)

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
            return _reshaped(tensor, (*tensor.shape[:2], *size)) if _is_map(tensor) else tensor

        return self.with_tensors(change)

    def with_tensors(self, change: Callable[[TensorInput], Any]) -> "DummyCall":
        """Return the same call with another description, or a live value, for every tensor."""

        def changed(leaf: Any) -> Any:
            leaf = _described(leaf)
            return change(leaf) if isinstance(leaf, TensorInput) else leaf

        def walked(value: Any) -> Any:
            return map_leaves(changed, value, _is_description)

        args = tuple(map(walked, self.args))
        return DummyCall(args, {name: walked(value) for name, value in self.kwargs.items()})

    def live(
        self, seed: int, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return live inputs; the same seed draws the same values on every device.

        Args:
            seed: For random values.
            dtype: Replaces float32; None keeps it.
            device: Where the tensors are put; None for torch's default device.
        """
        generator = torch.Generator().manual_seed(seed)
        args = tuple(make(value, generator, dtype, device) for value in self.args)
        kwargs = {n: make(value, generator, dtype, device) for n, value in self.kwargs.items()}
        return args, kwargs


@dataclass(frozen=True, slots=True)
class Case:
    """A pass over the model: its call, mode and precision.

    Args:
        call: The inputs.
        mode: `eval` or `train`.
        dtype: Floating dtype of weights and inputs; None for the model's own.
        autocast: Whether it runs under autocast to bfloat16.
        channels_last: Whether 4-D inputs are in channels_last memory format.
    """

    call: DummyCall
    mode: str = "eval"
    dtype: str | None = None
    autocast: bool = False
    channels_last: bool = False

    @property
    def key(self) -> CaseKey:
        """Return the names of the pass in a report."""
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


def cases_of(calls: Sequence[DummyCall], verify: Verify) -> tuple[Case, ...]:
    """Return every pass that a recipe asks for; those of its `inputs` come first.

    Args:
        calls: The dummy calls, as given.
        verify: Modes, dtypes and further sizes.
    """
    resized = tuple(call.resized(size) for size in verify.sizes for call in calls)
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

    Args:
        value: A `TensorInput`, a mapping with a `shape`, a container, or anything else, such as a
            tensor that an archive brings along.
        generator: Source of random values; None for torch's own.
        dtype: Replaces float32 in descriptions and live tensors; None keeps it.
        device: Where the tensors are put; None for torch's default device.
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
    try:
        return _filled(wanted, generator, dtype)
    except (RuntimeError, MemoryError) as error:
        what = f"the input {_text(wanted)} cannot be made: {one_line(error, 120)}"
        raise InputError(what, fix="give a smaller one") from error


def _filled(
    wanted: TensorInput, generator: torch.Generator | None, dtype: torch.dtype | None
) -> torch.Tensor:
    kind: torch.dtype = getattr(torch, wanted.dtype)
    if kind is torch.float32 and dtype is not None:
        kind = dtype
    shape = wanted.shape
    match wanted.fill:
        case Integers(integers=(low, high)):
            return torch.randint(low, high, shape, generator=generator).to(kind)
        case "zeros":
            return torch.zeros(shape, dtype=kind)
        case "ones":
            return torch.ones(shape, dtype=kind)
    if kind.is_floating_point:
        return torch.randn(shape, generator=generator).to(kind)
    # a normal value means little to an index: 0 is one that every embedding has
    return torch.zeros(shape, dtype=kind)


def _is_description(value: Any) -> bool:
    return isinstance(value, Mapping) and "shape" in value


def _described(value: Any) -> Any:
    """Return the description of a tensor, live or a mapping; any other value as it is."""
    if isinstance(value, torch.Tensor):
        return _like(value)
    return TensorInput.model_validate(dict(value)) if _is_description(value) else value


def _is_map(tensor: TensorInput) -> bool:
    return len(tensor.shape) == 4


def _reshaped(tensor: TensorInput, shape: tuple[int, ...]) -> TensorInput:
    return tensor.model_copy(update={"shape": shape})


def _like(tensor: torch.Tensor) -> TensorInput:
    """Return the description of an input of a live tensor's shape and dtype."""
    dtype: Any = str(tensor.dtype).removeprefix("torch.")
    return TensorInput.model_construct(shape=tuple(tensor.shape), dtype=dtype, fill="normal")


def _text(value: Any) -> str:
    value = _described(value)
    if isinstance(value, TensorInput):
        dtype = "" if value.dtype == "float32" else f" {value.dtype}"
        return f"({', '.join(map(str, value.shape))}){dtype}"
    return repr(value)


def example_calls(model: nn.Module) -> tuple[DummyCall, ...]:
    """Return the call that a model's archive brings along; none for other models."""
    how = export_of(model)
    return (DummyCall(how.args, how.kwargs),) if how and (how.args or how.kwargs) else ()
