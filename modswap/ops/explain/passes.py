"""Run a module for its explanation: plainly, recorded, and timed; every run is the same."""

import inspect
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from types import CodeType
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from modswap.live_values import live_tensors, plain_parts
from modswap.nn.attention_backend import plain_attention
from modswap.ops.explain.operators import Operators
from modswap.ops.explain.recorder import LineRecorder, Scene, at_once
from modswap.ops.run.devices import devices_of, synchronize
from modswap.ops.run.isolation import one_thread, untouched
from modswap.ops.run.without_compiler import without_compiler
from modswap.seeds import seeded

TIMED_PASSES = 15
TIMEOUT_SECONDS = 1.5  # after which no further pass is timed
MIN_TIMED_PASSES = 3

# a statement: the functions from the root to it, and its number in the last of them
Place = tuple[tuple[CodeType, ...], int]


@dataclass(frozen=True, slots=True)
class Forward:
    """A call of a module that can be repeated.

    Args:
        module: The module.
        args: Its positional inputs.
        kwargs: Its named inputs.
        form: A function of the module and the inputs that runs in place of its forward.
    """

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    form: Callable[..., Any] | None = None

    @property
    def code(self) -> CodeType:
        """Return the code of the function that is explained."""
        function = inspect.unwrap(self.form or self.module.forward)
        code: CodeType = function.__code__
        return code

    def ready(self) -> Callable[[], Any]:
        """Return the call, with copies of the inputs; the same tensor stays the same."""
        args, kwargs = copied(self.args, dict(self.kwargs))
        call = self.module if self.form is None else partial(self.form, self.module)
        return partial(call, *args, **kwargs)

    def run(self) -> Any:
        """Return the output."""
        return self.ready()()

    def recorded(self, recorder: LineRecorder, operators: Operators | None = None) -> Any:
        """Return the output of a run that a recorder follows, and the mode that counts for it."""
        run = self.ready()
        with operators or nullcontext(), recorder:
            return run()


def copied(*values: Any) -> Any:
    """Return containers with copies of their tensors; the same tensor stays the same."""
    twins: dict[int, torch.Tensor] = {}

    def copy(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return twins.setdefault(id(leaf), leaf.detach().clone())

    return tree_map(copy, values)


Fresh = Callable[[], AbstractContextManager[None]]


@contextmanager
def repeatable(module: nn.Module, seed: int) -> Iterator[Fresh]:
    """Give a block in which a run is the same as those before it; at the end all is restored.

    The runs take one thread, no gradients, and attention's steps in place of its fused kernel.
    """
    moving = any(one.training for one in module.modules())
    with (
        without_compiler(),
        untouched(module, training=None),
        torch.no_grad(),
        plain_attention(),
        one_thread(),
    ):
        buffers = [(one, one.clone()) for one in module.buffers()] if moving else []

        @contextmanager
        def fresh() -> Iterator[None]:
            for buffer, value in buffers:
                buffer.copy_(value)
            with seeded(seed):
                yield

        yield fresh


def same_bits(one: Any, other: Any) -> bool:
    """Return whether the tensors of two outputs are equal bit for bit, NaN included."""
    pair = live_tensors(one), live_tensors(other)
    if len(pair[0]) != len(pair[1]):
        return False
    return all(_equal(a, b) for a, b in zip(*pair, strict=True))


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    kinds = [
        (t.layout, t.dtype, t.is_quantized, None if t.is_nested else t.shape) for t in (one, other)
    ]
    parts = [plain_parts(t.detach()) for t in (one, other)]
    if kinds[0] != kinds[1] or len(parts[0]) != len(parts[1]):
        return False
    return all(_equal_parts(a, b) for a, b in zip(*parts, strict=True))


def _equal_parts(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.is_meta or other.is_meta:
        return one.shape == other.shape and one.is_meta is other.is_meta
    flat = (t.contiguous().reshape(-1).view(torch.uint8) for t in (one, other))
    return torch.equal(*flat)


def counted(run: Callable[[], Any]) -> int:
    """Return the FLOPs of a run as torch's own counter has them."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


@dataclass(frozen=True, slots=True)
class Times:
    """The seconds of a plain pass and of each statement, medians of several passes."""

    plain: float
    lines: float  # of the root's statements together
    places: Mapping[Place, float]


def timed(forward: Forward, fresh: Fresh) -> Times:
    """Return the times of a forward: plain passes, and passes with line events, in turn."""
    walls: list[float] = []
    sums: list[float] = []
    found: defaultdict[Place, list[float]] = defaultdict(list)
    devices = devices_of(forward.module)
    busy = [device for device in devices if device.type != "cpu"]
    wait = partial(synchronize, busy) if busy else at_once
    end = time.perf_counter() + TIMEOUT_SECONDS
    while len(walls) < TIMED_PASSES:
        with fresh():
            walls.append(_wall(forward.ready(), devices))
        recorder = LineRecorder(forward.code, values=False, wait=wait)
        with fresh():
            forward.recorded(recorder)
        if recorder.top is not None:
            for place, seconds in _seconds(recorder.top, ()):
                found[place].append(seconds)
            sums.append(sum(spot.seconds for spot in recorder.top.spots.values()))
        if len(walls) >= MIN_TIMED_PASSES and time.perf_counter() > end:
            break
    medians = {place: statistics.median(some) for place, some in found.items()}
    return Times(statistics.median(walls), statistics.median(sums or [0.0]), medians)


def _wall(run: Callable[[], Any], devices: Sequence[torch.device]) -> float:
    """Return the seconds of a plain run, its devices' work included."""
    synchronize(devices)
    began = time.perf_counter()
    run()
    synchronize(devices)
    return time.perf_counter() - began


def _seconds(scene: Scene, outer: tuple[CodeType, ...]) -> Iterator[tuple[Place, float]]:
    path = (*outer, scene.code)
    for number, spot in scene.spots.items():
        yield (path, number), spot.seconds
        for inner in spot.scenes.values():
            yield from _seconds(inner, path)
