"""Build a large model without memory for the weights that its file will put in their place."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from modswap.core.errors import ModswapError
from modswap.live_values import live_tensors, nbytes_of
from modswap.ops.run.describe import one_line

T = TypeVar("T")

MIN_WEIGHTS_BYTES = 256 << 20  # smaller models are built as their factories say
_LARGE_BYTES = 1 << 20  # of a tensor that gets no memory
_TRUNCATED = "_no_grad_trunc_normal_"  # of torch.nn.init
_CPU = torch.device("cpu")
_MAKERS = frozenset(
    (
        *("empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided"),
        *("zeros", "zeros_like", "new_zeros", "ones", "ones_like", "new_ones"),
        *("full", "full_like", "new_full", "rand", "rand_like", "randn", "randn_like"),
        *("randint", "randint_like"),
    )
)
_FILLS: Mapping[str, float] = {"zeros": 0, "new_zeros": 0, "zeros_like": 0, "zero_": 0,
                               "ones": 1, "new_ones": 1, "ones_like": 1}  # fmt: skip
_VALUE_AT: Mapping[str, int] = {"full": 1, "full_like": 1, "new_full": 2, "fill_": 1}
# calls that read a tensor's memory and are no operation of torch
_READERS = frozenset(
    (torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.tolist, torch.Tensor.__dlpack__)
)


class ValuesNeededError(Exception):
    """A factory needs the values of a large tensor; the text is the reason, for a note."""


@dataclass(slots=True)
class _Blank:
    """A storage whose values were not computed; its pages are never touched, so cost no memory."""

    storage: torch.UntypedStorage  # held, so that no other storage takes its address
    dtype: torch.dtype
    fill: Any = None  # the number that all elements have; None if their values are unknown
    # whether it has values, drawn from a generator that is not where it would be in a full build
    drawn: bool = False


class Sparing(TorchDispatchMode):
    """A mode in which large tensors are made, and their initial values are not computed.

    Small tensors are as ever. An operation that reads a large tensor gives a tensor of the right
    shape whose values are unknown as well. Where values of such a tensor are needed, a
    `ValuesNeededError` ends the block, even if the factory catches it.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch gives it no types
        self._blanks: dict[int, _Blank] = {}
        self._skipped_random = False
        self._drawing = False
        self.reason = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation of torch, or skip it where it would compute values of large tensors."""
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]  # noqa: SLF001 - torch names it so
        held = [blank for t in live_tensors([args, kwargs]) if (blank := self._of(t)) is not None]
        returned = func._schema.returns  # noqa: SLF001 - torch names it so
        if returned and all(part.alias_info and not part.alias_info.is_write for part in returned):
            return func(*args, **kwargs)  # a view
        if all(blank.drawn for blank in held):
            return self._made(func, name, args, kwargs, drawn=bool(held))
        if func._schema.is_mutable:  # noqa: SLF001 - torch names it so
            return self._written(func, name, args, kwargs)
        if self._materialised(held):
            return func(*args, **kwargs)
        return self._unknown(func, args, kwargs)

    def _of(self, tensor: torch.Tensor) -> _Blank | None:
        if tensor.device != _CPU or tensor.layout != torch.strided:
            return None
        return self._blanks.get(tensor.untyped_storage()._cdata)  # noqa: SLF001 - its address

    def _mark(self, tensor: torch.Tensor, fill: Any = None, *, drawn: bool = False) -> None:
        if tensor.device == _CPU and tensor.layout == torch.strided:
            storage = tensor.untyped_storage()
            blank = _Blank(storage, tensor.dtype, fill, drawn)
            self._blanks[storage._cdata] = blank  # noqa: SLF001 - its address

    def _made(self, func: Any, name: str, args: Any, kwargs: Any, *, drawn: bool) -> Any:
        """Run an operation that reads no unknown value; a large new tensor is left empty."""
        random = torch.Tag.nondeterministic_seeded in func.tags
        if name in _MAKERS and kwargs.get("device", _CPU) in (_CPU, None):
            shape = func(*args, **{**kwargs, "device": torch.device("meta")})
            if nbytes_of(shape) >= _LARGE_BYTES and shape.layout == torch.strided:
                self._skipped_random |= random
                made = torch.empty_strided(shape.shape, shape.stride(), dtype=shape.dtype)
                self._mark(made, _fill_of(name, args))
                return made
        made = func(*args, **kwargs)
        if drawn or (random and self._skipped_random):
            found = live_tensors(made)
            if len(found) == 0 and not self._drawing:
                self._give_up(f"{name} reads a random value")
            for tensor in found:
                self._mark(tensor, drawn=True)
        return made

    def _written(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Skip an operation that writes into a large tensor, or writes unknown values."""
        target = self._target(func, name, args, kwargs)
        random = torch.Tag.nondeterministic_seeded in func.tags
        held = self._of(target)
        others = [t for t in live_tensors([args, kwargs]) if t is not target]
        read = [blank for t in others if (blank := self._of(t)) is not None]
        whole = held is not None and _covers(target, held.storage.nbytes())
        fill = _fill_of(name, args) if whole and not others else None
        if fill is None and not random and _known(held) and self._materialised(read):
            self._materialised([held] if held is not None else [])
            if any(blank.drawn for blank in read):
                self._mark(target, drawn=True)
            return func(*args, **kwargs)
        self._skipped_random |= random
        self._mark(target, fill)
        return target

    def _target(self, func: Any, name: str, args: Any, kwargs: Any) -> torch.Tensor:
        """Return the tensor that an operation writes into."""
        declared = func._schema.arguments  # noqa: SLF001 - torch names it so
        named = dict(zip((part.name for part in declared), args, strict=False)) | kwargs
        written = [
            named[part.name]
            for part in declared
            if part.alias_info and part.alias_info.is_write and part.name in named
        ]
        if len(written) != 1 or not isinstance(written[0], torch.Tensor):
            self._give_up(f"{name} writes several large tensors")
        return written[0]

    def _materialised(self, held: Sequence[_Blank]) -> bool:
        """Write the values of storages that are known by one number; return whether all are."""
        if not all(map(_known, held)):
            return False
        for blank in held:
            if not blank.drawn:
                self._write(blank)
        return True

    def _write(self, blank: _Blank) -> None:
        self._blanks.pop(blank.storage._cdata, None)  # noqa: SLF001 - its address
        torch.empty(0, dtype=blank.dtype).set_(blank.storage).fill_(blank.fill)

    def _unknown(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Return tensors of the shapes that an operation would return, with unknown values."""
        device = kwargs.get("device") or _CPU
        if device.type == "meta":
            return func(*args, **kwargs)
        if device != _CPU:
            self._give_up("it moves a large tensor to another device")
        try:
            shapes = func(*tree_map(_on_meta, args), **tree_map(_on_meta, dict(kwargs)))
        except Exception as error:  # noqa: BLE001 - an operation may need values in any way
            self._give_up(f"{func} needs the values of a large tensor", error)
        if not all(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(shapes)):
            self._give_up(f"{func} needs the values of a large tensor")
        return tree_map(self._empty_as, shapes)

    def _empty_as(self, shape: torch.Tensor) -> torch.Tensor:
        made = torch.empty_strided(shape.shape, shape.stride(), dtype=shape.dtype)
        self._mark(made)
        return made

    def refuse_reading(self, tensor: Any) -> None:
        """Give up where a tensor's memory is read and its values are unknown."""
        blank = self._of(tensor) if isinstance(tensor, torch.Tensor) else None
        if blank is not None and (blank.drawn or not self._materialised([blank])):
            self._give_up("it reads the memory of a large or random tensor")

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Let the block decide by random values, as drawing again does."""
        before, self._drawing = self._drawing, True
        try:
            yield
        finally:
            self._drawing = before

    def draw(self, original: Any, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Draw a truncated normal distribution, which looks at the values that it draws."""
        blank = self._of(tensor)
        if blank is not None and not blank.drawn:
            with torch.no_grad():
                return tensor.normal_()
        with self.drawing():
            return original(tensor, *args, **kwargs)

    def _give_up(self, reason: str, error: Exception | None = None) -> NoReturn:
        self.reason = self.reason or reason
        raise ValuesNeededError(reason) from error

    def settle(self) -> None:
        """Write the known values of the tensors that are still in use.

        Call it when the file's weights are in their places.

        Raises:
            ValuesNeededError: If a tensor with unknown values is still in use.
        """
        if self.reason:
            raise ValuesNeededError(self.reason)
        if any(map(_in_use, self._blanks.values())):
            gc.collect()  # of rings that nobody can reach
        left = [blank for blank in self._blanks.values() if _in_use(blank)]
        lost = [blank for blank in left if blank.fill is None]
        # drawn ones are lost as well: the generator stood elsewhere
        if lost:
            nbytes = sum(blank.storage.nbytes() for blank in lost)
            what = "a tensor" if len(lost) == 1 else f"{len(lost)} tensors"
            self._give_up(f"{what} of {nbytes:,} bytes with initial values is not in the file")
        for blank in left:
            self._write(blank)


class _MemoryReads(TorchFunctionMode):
    """Watch for calls that read memory without an operation of torch."""

    def __init__(self, sparing: Sparing) -> None:
        super().__init__()
        self.sparing = sparing

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _READERS:
            self.sparing.refuse_reading(args[0])
        return func(*args, **(kwargs or {}))


@contextmanager
def sparing() -> Iterator[Sparing]:
    """Make large tensors without their values in a block; call `settle` after it."""
    mode = Sparing()
    original = getattr(nn.init, _TRUNCATED, None)
    try:
        setattr(nn.init, _TRUNCATED, partial(mode.draw, original))
        with _MemoryReads(mode), mode:
            yield mode
    finally:
        setattr(nn.init, _TRUNCATED, original)


@dataclass(slots=True)
class Building:
    """The block in which an attempt calls the factory; large tensors in it take no memory."""

    mode: Sparing | None = None
    reason: str = ""  # the reason for which the model has to be built in full

    @contextmanager
    def block(self) -> Iterator[None]:
        """Make large tensors without their values, and note the error of the block."""
        try:
            with sparing() as self.mode:
                yield
        except Exception as error:
            self.reason = _reason(self.mode, error)
            raise

    def settle(self) -> None:
        """Write what the file does not hold; see `Sparing.settle`."""
        try:
            if self.mode is not None:
                self.mode.settle()
        except ValuesNeededError as error:
            self.reason = str(error)
            raise


def built(
    weights: Mapping[str, Any], attempt: Callable[[AbstractContextManager[None]], T]
) -> tuple[T, tuple[str, ...]]:
    """Return what an attempt returns that builds a model and puts the file's weights into it.

    The attempt calls the factory within the context that it is given. For large weights, the
    factory's own tensors take no memory there. Where that does not work, a second attempt builds
    the model in full, and a note says why, and what that took.
    """
    nbytes = sum(nbytes_of(value) for value in weights.values() if torch.is_tensor(value))
    if nbytes < MIN_WEIGHTS_BYTES:
        return attempt(nullcontext()), ()
    building = Building()
    try:
        made = attempt(building.block())
        building.settle()
    except Exception:
        if not building.reason:
            raise
    else:
        return made, ()
    took = f"building the model took memory for all its weights, {nbytes / 2**30:.1f} GiB"
    return attempt(nullcontext()), (f"{took}: {building.reason}",)


def _reason(mode: Sparing | None, error: Exception) -> str:
    """Return why a model has to be built in full; nothing where that would raise as well."""
    if mode is not None and mode.reason:
        return mode.reason
    if isinstance(error, ModswapError):  # of the factory's own code, or of its bounds
        return one_line(error.__cause__) if error.__cause__ is not None else ""
    return one_line(error)


def _known(blank: _Blank | None) -> bool:
    """Return whether a storage has values, or is known by one number."""
    return blank is None or blank.drawn or blank.fill is not None


def _in_use(blank: _Blank) -> bool:
    """Return whether another object than `blank` holds its storage."""
    return bool(torch._C._storage_Use_Count(blank.storage._cdata) > 1)  # noqa: SLF001 - torch's own


def _fill_of(name: str, args: Any) -> Any:
    """Return the number that an operation writes into each element, or None."""
    if name in _FILLS:
        return _FILLS[name]
    place = _VALUE_AT.get(name, len(args))
    value = args[place] if place < len(args) else None
    return value if isinstance(value, (bool, int, float)) else None


def _covers(tensor: torch.Tensor, nbytes: int) -> bool:
    """Return whether a tensor has each byte of its storage once, in any order of its axes."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return nbytes_of(tensor) == nbytes


def _on_meta(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    if value.numel() and value.layout == torch.strided:
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    return value.to("meta")
