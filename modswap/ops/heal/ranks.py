"""The processes of a healing that `torchrun` started, and all that goes between them.

Every process runs the same stages, and passes over its share of the samples; what they find is
summed. In a single process each function gives back what it is given.
"""

import pickle
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice, zip_longest
from typing import Any, TypeVar, cast

import torch
from torch import distributed, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from modswap.core.errors import LostRankError, UsageError
from modswap.core.launch import launch

_T = TypeVar("_T")
_WAIT = timedelta(days=1)  # for a process that measures alone; torchrun ends all if one ends
_SIGNAL_SECONDS = 0.3  # in which a signal of torchrun's arrives, after another process has ended
_NOTHING = object()
# of DistributedDataParallel: a new name of an argument, and how it copies gradients
_IDLE_WARNINGS = ("`broadcast_buffers` is deprecated", "Grad strides do not match")


@dataclass
class Traffic:
    """Calls and bytes that one process gave to each kind of collective operation.

    The kinds are `sum`, `gradient` and `broadcast`, of tensors, and `objects`: a few numbers of
    each batch, decisions and notes. Bytes are those of the values before a library divides and
    repeats them: a ring sends each about twice to sum it. What a model in parts exchanges is not
    counted.
    """

    calls: dict[str, int] = field(default_factory=dict)
    nbytes: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, nbytes: int) -> None:
        """Note a call."""
        self.calls[kind] = self.calls.get(kind, 0) + 1
        self.nbytes[kind] = self.nbytes.get(kind, 0) + nbytes


# whether the group is one that a healing made: another program's processes share no work here
_joined: ContextVar[bool] = ContextVar("joined", default=False)
_traffic: ContextVar[Traffic | None] = ContextVar("traffic", default=None)


@contextmanager
def counted() -> Iterator[Traffic]:
    """Yield the traffic of a block."""
    traffic = Traffic()
    token = _traffic.set(traffic)
    try:
        yield traffic
    finally:
        _traffic.reset(token)


def _note(kind: str, nbytes: int) -> None:
    traffic = _traffic.get()
    if traffic is not None:
        traffic.add(kind, nbytes)


def _note_object(value: Any) -> None:
    if _traffic.get() is not None:  # else nobody counts, and a dump is a copy
        _note("objects", len(pickle.dumps(value)))


def _together() -> bool:
    return _joined.get() and distributed.is_initialized()


def world() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if _together() else 1


def rank() -> int:
    """Return the number of this one."""
    return distributed.get_rank() if _together() else 0


def first() -> bool:
    """Return whether this is the one that solves, decides and writes for all."""
    return rank() == 0


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that `torchrun` started for a block; yield the device of this one.

    Raises:
        UsageError: If all are to use one GPU.
        LostRankError: If another one ends.
    """
    place = launch()
    if place.world == 1 or distributed.is_initialized():
        yield device
        return
    own = own_device(device, place.local)
    with heard():
        backend = "cpu:gloo,cuda:nccl" if own != device else "gloo"
        distributed.init_process_group(backend, timeout=_WAIT)
    token = _joined.set(True)
    with warnings.catch_warnings():
        for text in _IDLE_WARNINGS:
            warnings.filterwarnings("ignore", text)
        try:
            yield own
        finally:
            leave()
            _joined.reset(token)


def own_device(device: str, number: int) -> str:
    """Return the device of a process by its number on its machine.

    Raises:
        UsageError: If all are to use one GPU, or there are fewer GPUs than processes.
    """
    if device == "cuda":
        if number >= torch.cuda.device_count():
            what = f"this machine has {torch.cuda.device_count()} GPUs, and more processes"
            raise UsageError(what, "torchrun", "start one process for each GPU")
        torch.cuda.set_device(number)
        return f"cuda:{number}"
    if device != "cpu":
        what = f"device {device!r:.40} cannot be that of all processes of torchrun"
        raise UsageError(what, "--device", "name cpu, or cuda for a GPU each")
    return device


def leave() -> None:
    """Go on alone; the others get an error when they next wait for this process."""
    if _together():
        distributed.destroy_process_group()


@contextmanager
def heard() -> Iterator[None]:
    """Run a block that waits for other processes.

    Raises:
        LostRankError: If one of them has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        time.sleep(_SIGNAL_SECONDS)
        who = f"rank {launch().rank} of {launch().world}"
        what = "another process ended, or cannot be reached"
        fix = "look above for what ended it, and go on with --resume"
        raise LostRankError(what, who, fix) from error


def dealt(parts: Iterable[_T]) -> Iterator[_T]:
    """Yield the parts of this process: one of as many as there are processes."""
    own, every = rank(), world()
    return (part for number, part in enumerate(parts) if number % every == own)


def is_short(parts: int) -> bool:
    """Return whether so many parts leave this process one fewer than others have."""
    return 0 < parts % world() <= rank()


def numbered(own: Iterable[_T]) -> Iterator[tuple[int, _T]]:
    """Yield what was dealt to this process with its number among all."""
    return ((rank() + place * world(), part) for place, part in enumerate(own))


def rounds(parts: Iterable[_T]) -> Iterator[_T | None]:
    """Yield the part of this process in each round; None where a round has none left for it."""
    whole = iter(parts)
    while some := list(islice(whole, world())):
        yield some[rank()] if rank() < len(some) else None


def interleaved(lists: Iterable[Sequence[_T]]) -> list[_T]:
    """Return what was dealt, in its order."""
    rounds = zip_longest(*lists, fillvalue=_NOTHING)
    return [cast("_T", one) for some in rounds for one in some if one is not _NOTHING]


def gathered(value: _T) -> list[_T]:
    """Return the values of all processes, plain data or tensors on the CPU, in their order."""
    if world() == 1:
        return [value]
    found: list[Any] = [None] * world()
    _note_object(value)
    with heard():
        distributed.all_gather_object(found, value)
    return found


def from_first(value: _T) -> _T:
    """Return the value that the first process has."""
    if world() == 1:
        return value
    held: list[Any] = [value if first() else None]
    if first():
        _note_object(value)
    with heard():
        distributed.broadcast_object_list(held, 0)
    return cast("_T", held[0])


def computed_once(compute: Callable[[], _T]) -> _T:
    """Return what a function returns in the first process, the only one that calls it."""
    return from_first(compute() if first() else cast("_T", None))


def any_of(*flags: bool) -> tuple[bool, ...]:
    """Return for each flag whether it is set in any process."""
    return tuple(total > 0 for total in totals([float(flag) for flag in flags]))


def totals(numbers: Sequence[float]) -> list[float]:
    """Return the sums of numbers over the processes."""
    if world() == 1:
        return list(numbers)
    return list(_reduced(torch.tensor(numbers, dtype=torch.float64)).tolist())


def weights(counts: Sequence[int]) -> list[float]:
    """Return what the means over so many values weigh in the sum over the processes.

    The mean of all processes then is that over all values. In one process they weigh 1.

    Raises:
        UsageError: If other processes have another number of means.
    """
    if world() == 1:
        return [1.0] * len(counts)
    # first a sum of one size in all, since a sum of different sizes gives wrong numbers, or hangs
    lengths, squares = totals([float(len(counts)), float(len(counts) ** 2)])
    if lengths**2 != squares * world():
        what = "the loss has another number of terms in some processes"
        fix = "give a --batch that the number of processes divides, or heal in one process"
        raise UsageError(what, "torchrun", fix)
    whole = totals([float(count) for count in counts])
    return [world() * count / max(total, 1.0) for count, total in zip(counts, whole, strict=True)]


def averaged(module: nn.Module) -> nn.Module:
    """Return a module in which every gradient becomes the mean over all processes."""
    if world() == 1:
        return module
    made = DistributedDataParallel(
        module, broadcast_buffers=False, init_sync=False, find_unused_parameters=True
    )
    made.register_comm_hook(_traffic.get() or Traffic(), _mean)
    return made


def _mean(
    traffic: Traffic,
    bucket: distributed.GradBucket,  # type: ignore[name-defined] # torch's stubs lack it
) -> torch.futures.Future[torch.Tensor]:
    traffic.add("gradient", bucket.buffer().nbytes)
    return allreduce_hook(None, bucket)  # type: ignore[arg-type] # None is the group of all


def summed(values: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
    """Return the sums of tensors over the processes, of which some may have none.

    A tensor has one shape and dtype in all of them.

    Raises:
        UsageError: If it has not.
    """
    if world() == 1:
        return list(values)
    known = gathered([None if one is None else (one.shape, one.dtype) for one in values])
    device = next((one.device for one in values if one is not None), _device())
    found: list[torch.Tensor | None] = []
    for number, value in enumerate(values):
        shapes = [one for ranked in known if (one := ranked[number]) is not None]
        if not shapes:
            found.append(None)
            continue
        if len(set(shapes)) > 1:
            what = f"a tensor has different sizes in the processes: {shapes}"
            raise UsageError(what, "torchrun", "heal in one process")
        shape, dtype = shapes[0]
        own = torch.zeros(shape, dtype=dtype, device=device) if value is None else value.clone()
        found.append(_reduced(own))
    return found


def _device() -> torch.device:
    """Return the device of this process."""
    cuda = "nccl" in distributed.get_backend_config()
    return torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")


def _reduced(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.contiguous()
    _note("sum", tensor.nbytes)
    with heard():
        distributed.all_reduce(tensor)
    return tensor


@torch.no_grad()
def same(tensors: Iterable[torch.Tensor]) -> None:
    """Put the values that the first process has into the tensors of all."""
    if world() == 1:
        return
    for tensor in tensors:
        whole = tensor.detach().contiguous()
        _note("broadcast", whole.nbytes if first() else 0)
        with heard():
            distributed.broadcast(whole, 0)
        if whole.data_ptr() != tensor.data_ptr():
            tensor.copy_(whole)
