"""The model that samples are for, a call that it takes, and the arguments that data go into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modswap.core.asked.recipe import TensorInput
from modswap.core.errors import InputError, UsageError
from modswap.io.formats.container import Container
from modswap.ops.heal.samples import Batch
from modswap.ops.load.model import Loaded
from modswap.ops.run.inputs import Case, DummyCall, make
from modswap.ops.trace.passes import trace

Key = int | str  # of an argument: its position or its name
MIN_SAMPLES = 32


@dataclass(frozen=True, slots=True)
class DataRequest:
    """A user's wishes about the data.

    Args:
        most: Most samples to take.
        seed: Seed for the choice among more, and for drawn samples.
        size: Height and width of pictures; None for those that the file or the call says.
        mean: Mean of pixels in 0 to 1, one number or one for each channel, that is subtracted.
        std: Standard deviation by which they are divided then.
        optimise_steps: Steps by which drawn samples are fitted to the batch norms' statistics.
        optimise_seconds: Time after which that ends; None for no bound.
        said: Which of size, mean and std the user said.
    """

    most: int = 512
    seed: int = 0
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    optimise_steps: int = 0
    optimise_seconds: float | None = None
    said: tuple[str, ...] = ()

    def refuse_said(self, what: str) -> None:
        """Refuse what the user said of pictures, for samples that are none.

        Raises:
            UsageError: If anything was said; `what` is what the samples are.
        """
        if self.said:
            words = f"size, mean and deviation are those of pictures, and the data are {what}"
            raise UsageError(words, f"--{self.said[0]}", "leave it out")


@dataclass(frozen=True, slots=True)
class Argument:
    """A tensor among the arguments of a call."""

    key: Key
    tensor: TensorInput

    @property
    def is_float(self) -> bool:
        """Return whether it takes numbers with a fraction."""
        return "float" in self.tensor.dtype

    @property
    def is_picture(self) -> bool:
        """Return whether it takes (N, C, H, W)."""
        return self.is_float and len(self.tensor.shape) == 4

    @property
    def is_tokens(self) -> bool:
        """Return whether it takes numbers of tokens, (N, L)."""
        return self.tensor.dtype in {"int64", "int32"} and len(self.tensor.shape) == 2


@dataclass(frozen=True, slots=True)
class Taker:
    """A model, a call that it takes, its file or folder, and what the file holds beside it."""

    model: nn.Module
    call: DummyCall
    container: Container | None = None  # None for a model that came from no file
    masked: bool = True  # whether the swapped model takes a mask of attention

    @classmethod
    def of(cls, loaded: Loaded, call: DummyCall) -> "Taker":
        """Return the taker for a model that was loaded from a file."""
        return cls(loaded.model, call, loaded.container)

    @property
    def folder(self) -> Path | None:
        """Return the folder that the model came from, or the one of its file."""
        if self.container is None:
            return None
        file = self.container.file
        return file if file.is_dir() else file.parent

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """Return the tensors that are arguments of the call themselves, in their order."""
        described = self.call.described()
        given: tuple[tuple[Key, Any], ...]
        given = (*enumerate(described.args), *described.kwargs.items())
        return tuple(Argument(key, one) for key, one in given if isinstance(one, TensorInput))

    @property
    def picture(self) -> Argument | None:
        """Return the argument that pictures go into; None where there is none or several."""
        found = [one for one in self.arguments if one.is_picture]
        return found[0] if len(found) == 1 else None

    @property
    def tokens(self) -> Argument | None:
        """Return the argument that tokens go into: the first of its kind."""
        return next((one for one in self.arguments if one.is_tokens), None)

    def batch(self, given: Mapping[Key, torch.Tensor], labels: Any = None) -> Batch:
        """Return the call with tensors in the place of some arguments, as many samples in each.

        Arguments that the call lacks are added. Each other one has its dummy value, the same for
        all samples.
        """
        count = len(next(iter(given.values())))
        same = torch.Generator().manual_seed(0)
        described = self.call.described()
        shapes = {one.key: one.tensor.shape for one in self.arguments}
        along = next((shapes[key][:1] for key in given if key in shapes), ())

        def value(key: Key, own: Any) -> Any:
            if key in given:
                return given[key]
            made = make(own, same)
            is_sample = key in shapes and shapes[key][:1] == along != ()
            return made[:1].expand(count, *made.shape[1:]) if is_sample else made

        args = tuple(value(key, one) for key, one in enumerate(described.args))
        named = {name: value(name, one) for name, one in described.kwargs.items()}
        more = {key: one for key, one in given.items() if isinstance(key, str)}
        return Batch(args, {**named, **more}, labels)

    def check(self, batch: Batch, where: str) -> None:
        """Run the model on a batch.

        Raises:
            InputError: If it refuses the batch, or gives a value that is not finite.
        """
        call = DummyCall(batch.args, batch.kwargs)
        traced = trace(self.model, Case(call))
        if traced.cause is not None:
            what = f"the model does not take {call}: {traced.seen.error}"
            raise InputError(what, where, f"give samples such as {self.call}")
        if not traced.seen.finite:
            what = "the model's output for the first samples holds NaN or infinity"
            raise InputError(what, where, "see that they are scaled as in its training")


def told_size(inputs: Sequence[TensorInput]) -> tuple[int, int] | None:
    """Return height and width of the picture among inputs that a user gave; None without one."""
    found = [one.shape[2:] for one in inputs if Argument(0, one).is_picture]
    return (found[0][0], found[0][1]) if found else None


def refuse_few(count: int, where: str, why: str = "") -> None:
    """Refuse fewer samples than a healing needs.

    Raises:
        InputError: If there are fewer; `why` is a reason to be named.
    """
    if count >= MIN_SAMPLES:
        return
    samples = "1 sample" if count == 1 else f"{count} samples"
    what = f"it gives {samples}, expected {MIN_SAMPLES} or more{f' ({why})' if why else ''}"
    raise InputError(what, where, "give more, or draw them: `none`")


def order_key(seed: int, name: str) -> bytes:
    """Return a key by which a seed chooses among names; it hangs on the name and nothing else."""
    return blake2b(f"{seed}/{name}".encode(errors="surrogateescape")).digest()
