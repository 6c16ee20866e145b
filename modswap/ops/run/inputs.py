"""Making the dummy inputs that a recipe describes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from modswap.core.asked.recipe import CallInput, Integers, TensorInput, Verify
from modswap.core.decided.verdict import CaseKey
from modswap.core.errors import InputError
from modswap.io.formats.exported.program import export_of
from modswap.ops.run.describe import one_line


@dataclass(frozen=True, slots=True)
class DummyCall:
    """One call of the model: described, not yet made.

    Args:
        args: Positional inputs; a `TensorInput` stands for a tensor.
        kwargs: Keyword inputs, likewise.
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
        return tuple(_declared((*self.args, *self.kwargs.values())))

    @property
    def asks_for_half(self) -> bool:
        """Return whether any of its tensors is of half precision."""
        return any(tensor.dtype in {"float16", "bfloat16"} for tensor in self.tensors)

    def described(self) -> "DummyCall":
        """Return the same call with a description in the place of every live tensor."""

        def words(value: Any) -> Any:
            return _like(value) if isinstance(value, torch.Tensor) else value

        kwargs = {name: words(value) for name, value in self.kwargs.items()}
        return DummyCall(tuple(map(words, self.args)), kwargs)

    def with_batch(self, size: int) -> "DummyCall | None":
        """Return the same call at another batch size; None if its tensors have no common one."""
        found = self.tensors
        if len({tensor.shape[:1] for tensor in found}) != 1 or not found[0].shape:
            return None
        return DummyCall(
            tuple(_batched(value, size) for value in self.args),
            {name: _batched(value, size) for name, value in self.kwargs.items()},
        )

    def resized(self, size: tuple[int, int]) -> "DummyCall":
        """Return the same call with every 4-D tensor at another (H, W)."""
        return DummyCall(
            tuple(_resized(value, size) for value in self.args),
            {name: _resized(value, size) for name, value in self.kwargs.items()},
        )


@dataclass(frozen=True, slots=True)
class Case:
    """One pass to be run.

    Args:
        call: What the model is given.
        mode: `eval` or `train`.
        dtype: Floating dtype of weights and inputs; None for the model's own.
        autocast: Whether it runs under autocast to bfloat16.
        channels_last: Whether 4-D inputs lie in channels_last memory format.
    """

    call: DummyCall
    mode: str = "eval"
    dtype: str | None = None
    autocast: bool = False
    channels_last: bool = False

    @property
    def key(self) -> CaseKey:
        """Return its name in a report."""
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


def make(value: Any, generator: torch.Generator | None, dtype: torch.dtype | None = None) -> Any:
    """Return a live value: tensors made, containers walked, the rest as it is.

    Args:
        value: A `TensorInput`, a mapping with a `shape`, a container, or anything else, such as a
            tensor that an archive brings along.
        generator: Where random values come from; None for torch's own, wherever it is.
        dtype: Replaces float32 where that was asked for; None keeps it.
    """
    if isinstance(value, Mapping) and "shape" in value:
        return make(TensorInput.model_validate(dict(value)), generator, dtype)
    if isinstance(value, TensorInput):
        return _tensor(value, generator, dtype)
    if isinstance(value, torch.Tensor):
        cast = dtype if value.dtype is torch.float32 else None
        return value.detach().to(cast, copy=True)  # the model may write into it
    if isinstance(value, Mapping):
        return {name: make(item, generator, dtype) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [make(item, generator, dtype) for item in value]
    return value


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


def _declared(values: Iterable[Any]) -> Iterator[TensorInput]:
    """Yield every tensor that a call describes."""
    for value in values:
        if isinstance(value, TensorInput):
            yield value
        elif isinstance(value, torch.Tensor):
            yield _like(value)
        elif isinstance(value, Mapping) and "shape" in value:
            yield TensorInput.model_validate(dict(value))
        elif isinstance(value, Mapping):
            yield from _declared(value.values())
        elif isinstance(value, (list, tuple)):
            yield from _declared(value)


def _batched(value: Any, size: int) -> Any:
    if isinstance(value, torch.Tensor):
        value = _like(value)
    if isinstance(value, Mapping) and "shape" in value:
        value = TensorInput.model_validate(dict(value))
    if isinstance(value, TensorInput):
        return value.model_copy(update={"shape": (size, *value.shape[1:])})
    if isinstance(value, Mapping):
        return {name: _batched(item, size) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_batched(item, size) for item in value]
    return value


def _resized(value: Any, size: tuple[int, int]) -> Any:
    if isinstance(value, torch.Tensor) and value.ndim == 4:
        value = _like(value)
    if isinstance(value, Mapping) and "shape" in value:
        value = TensorInput.model_validate(dict(value))
    if isinstance(value, TensorInput) and len(value.shape) == 4:
        return value.model_copy(update={"shape": (*value.shape[:2], *size)})
    return value


def _like(tensor: torch.Tensor) -> TensorInput:
    """Return the description of an input of a live tensor's shape and dtype."""
    dtype: Any = str(tensor.dtype).removeprefix("torch.")
    return TensorInput.model_construct(shape=tuple(tensor.shape), dtype=dtype, fill="normal")


def _text(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        value = _like(value)
    if isinstance(value, Mapping) and "shape" in value:
        value = TensorInput.model_validate(dict(value))
    if isinstance(value, TensorInput):
        dtype = "" if value.dtype == "float32" else f" {value.dtype}"
        return f"({', '.join(map(str, value.shape))}){dtype}"
    return repr(value)


def example_calls(model: nn.Module) -> tuple[DummyCall, ...]:
    """Return the call that a model's archive brings along; none for other models."""
    how = export_of(model)
    return (DummyCall(how.args, how.kwargs),) if how and (how.args or how.kwargs) else ()
