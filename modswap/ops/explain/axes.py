"""Name the axes of tensors: those that follow an axis of the input, and sizes of the module."""

import re
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import gcd, prod
from types import CodeType, MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._pytree import tree_map

from modswap.core.explained.record import Followed, Shape
from modswap.live_values import live_tensors
from modswap.ops.explain.passes import Forward, Fresh
from modswap.ops.explain.recorder import LineRecord, LineRecorder, Scene
from modswap.ops.explain.values import TensorWords

TIMEOUT_SECONDS = 5.0  # after which no further size is tried
MIN_NAMED_SIZE = 4  # of a module's own numbers; a smaller one may be anything
LETTERS = {1: "L", 2: "NC", 3: "NLC", 4: "NCHW", 5: "NCTHW"}  # by the number of axes
LAST = {4: "NHWC", 5: "NTHWC"}  # where the last axis is the one whose size the module fixes

# names of counts, which may equal a number of channels by chance alone
_COUNT = re.compile(r"head|group|win|topk|kernel|²|^S$|^M$|^kc$")

# a value: the functions from the root, the statement, its name, and which of its values
Key = tuple[tuple[CodeType, ...], int, str, int]


class _Moved(NamedTuple):
    """A pass with another size of an axis of the input."""

    axis: int
    before: int
    after: int
    shapes: Mapping[Key, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Axes:
    """The names of axes in a forward pass.

    Args:
        letters: A letter for each axis of the input.
        sizes: The sizes of that input.
        moved: Passes at other sizes.
        words: Names of sizes that the module fixes.
        dtype: The dtype of the pass, which shapes leave out.
        named: Whether a lesson gave the words, so that factors have names too.
        shared: The names of sizes that no single one of them can mean.
    """

    letters: str
    sizes: tuple[int, ...]
    moved: tuple[_Moved, ...]
    words: Mapping[int, str]
    dtype: str
    named: bool = False
    shared: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))

    def shape(self, key: Key, tensor: TensorWords) -> Shape:
        """Return the shape of a value with the names of its axes."""
        sizes, dtype = tensor
        names = self.names(key, sizes)
        return Shape(sizes, names, "" if dtype == self.dtype else dtype)

    def names(self, key: Key, sizes: tuple[int, ...]) -> tuple[str, ...]:
        """Return a name for each axis; its size where it has none."""
        others = [(one, one.shapes.get(key, ())) for one in self.moved]
        same_rank = all(len(other) == len(sizes) for _, other in others)
        return tuple(
            self._name(size, [(one, other[at]) for one, other in others])
            if same_rank
            else str(size)
            for at, size in enumerate(sizes)
        )

    def _name(self, size: int, others: Sequence[tuple[_Moved, int]]) -> str:
        """Return the name of an axis from its size in this pass and in each other one."""
        followed = [(one, other) for one, other in others if other != size]
        if any(other * one.before != size * one.after for one, other in followed):
            return str(size)  # as a rounded size, or one padded to whole windows
        letters = [self.letters[one.axis] for one, _ in followed]
        if not letters:
            return self.words.get(size, str(size))
        whole = prod(one.before for one, _ in followed)
        common = gcd(size, whole)
        factor, part = size // common, whole // common
        if factor > 1 and part > 1 and not (factor in self.words and part in self.words):
            return str(size)
        batch = letters[: letters[0] == "N"]
        times = [self._number(factor)] if factor > 1 else []
        below = f"/{self._number(part) if self.named else part}" if part > 1 else ""
        return "·".join([*batch, *times, *letters[len(batch) :]]) + below

    def _number(self, number: int) -> str:
        """Return a factor, by its name if it has one; a small one only in lessons."""
        known = self.named or number >= MIN_NAMED_SIZE
        return self.words.get(number, str(number)) if known else str(number)

    def legend(self, line: LineRecord, key: tuple[tuple[CodeType, ...], int]) -> str:
        """Return the meaning of each letter of a line's einsum; empty where it has none."""
        if line.einsum is None:
            return ""
        equation, shapes = line.einsum
        given, _, result = equation.replace(" ", "").partition("->")
        found: dict[str, str] = {}
        for number, (term, shape) in enumerate(zip(given.split(","), shapes, strict=False)):
            if len(term) != len(shape):  # it has an ellipsis
                return ""
            names = self.names((*key, _EINSUM, number), tuple(shape))
            for letter, name in zip(term, names, strict=True):
                found[letter] = name if found.get(letter, "1").isdecimal() else found[letter]
        summed = ", ".join(letter for letter in found if letter not in result)
        named = ", ".join(f"{letter} = {name}" for letter, name in found.items())
        return f"{named}; Σ {summed}" if summed else named

    def shown(self, used: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield the input's axes, and the names of sizes that are used, with their sizes."""
        for letter, size in zip(self.letters, self.sizes, strict=False):
            yield letter, str(size)
        for size, word in self.words.items():
            if word in used and word not in self.letters and "·" not in word:
                yield self.shared.get(size, word), str(size)


def names_in(function: Followed) -> set[str]:
    """Return the names of axes that the lines of a function show, and the parts of products."""
    shapes = {
        name
        for line in function.walk()
        for value in line.values
        for what in value.what
        for name in re.split(r"[(), ]+", str(what))
    }
    legends = {word for line in function.walk() for word in re.split(r"[,; ]+", line.legend)}
    whole = shapes | legends
    return whole | {part for name in whole for part in re.split("[·/]", name)}


MAX_WITHIN = 24  # functions within one another that are shown, as of one that calls itself
_EINSUM = "einsum"


def axes_of(forward: Forward, fresh: Fresh, sizes: Mapping[str, int] | None, dtype: str) -> Axes:
    """Return the names of axes, by passes at other sizes of the first input.

    `sizes` are names of sizes that the module fixes; None: its own whole numbers.
    """
    tensors = live_tensors((forward.args, dict(forward.kwargs)))
    if not tensors or tensors[0].ndim not in LETTERS:
        return Axes("", (), (), _words(sizes or {}), dtype, shared=_shared(sizes or {}))
    first = tensors[0]
    moved = tuple(_all_moved(forward, fresh, first))
    letters = _letters(forward.module, first, {one.axis for one in moved})
    named = sizes is not None
    if sizes is None:
        sizes = _fixed(letters, first.shape, moved) | _numbers(forward.module)
    words, shared = _words(sizes), _shared(sizes)
    return Axes(letters, tuple(first.shape), moved, words, dtype, named, shared)


def _all_moved(forward: Forward, fresh: Fresh, first: torch.Tensor) -> Iterator[_Moved]:
    """Yield a pass with another size of each axis that has one, as long as there is time."""
    end = time.perf_counter() + TIMEOUT_SECONDS
    for axis in range(first.ndim):
        found = _moved(forward, fresh, first, axis) if time.perf_counter() < end else None
        if found is not None:
            yield found


def _fixed(letters: str, sizes: Sequence[int], moved: Sequence[_Moved]) -> dict[str, int]:
    """Return the sizes of the input that cannot change, and that none of its other axes has."""
    free = {one.axis for one in moved}
    named = enumerate(zip(letters, sizes, strict=True))
    return {
        letter: size
        for at, (letter, size) in named
        if at not in free and list(sizes).count(size) == 1
        if size >= MIN_NAMED_SIZE or letter == "C"
    }


def _letters(module: nn.Module, first: torch.Tensor, free: set[int]) -> str:
    last = first.ndim - 1
    if first.ndim == 3 and getattr(module, "batch_first", True) is False:
        return "LNC"
    if first.ndim == 2 and 1 in free and not first.is_floating_point():
        return "NL"
    if last not in free and 1 in free and first.ndim in LAST:
        return LAST[first.ndim]
    return LETTERS[first.ndim]


def _numbers(module: nn.Module) -> dict[str, int]:
    """Return the whole numbers that a module holds by name, those that no two names share."""
    held = {
        name: value
        for name, value in vars(module).items()
        if type(value) is int and value >= MIN_NAMED_SIZE and not name.startswith("_")
    }
    counts = Counter(held.values())
    return {name: value for name, value in held.items() if counts[value] == 1}


def _words(sizes: Mapping[str, int]) -> dict[int, str]:
    """Return a name for each size; earlier names win, and names win over their multiples."""
    words: dict[int, str] = {size: str(size) for size in _shared(sizes)}
    for name, size in sizes.items():
        if size > 1:
            words.setdefault(size, name)
    for factor in (2, 3, 4):
        for name, size in sizes.items():
            if size >= MIN_NAMED_SIZE:
                words.setdefault(factor * size, f"{factor}·{name}")
    return words


def _shared(sizes: Mapping[str, int]) -> dict[int, str]:
    """Return the names of sizes that a count and something else have, such as 8 heads of 8."""
    names: dict[int, list[str]] = {}
    for name, size in sizes.items():
        if size > 1:
            names.setdefault(size, []).append(name)
    return {
        size: " = ".join(some)
        for size, some in names.items()
        if len(some) > 1 and any(map(_COUNT.search, some))
    }


def _other_sizes(size: int) -> Iterator[int]:
    """Yield other sizes to try: first one that the same windows and strides divide."""
    yield 2 * size
    for part in (7, 8):
        if size % part == 0:
            yield size + size // part
    if size > 1:
        yield size + 1


def _moved(forward: Forward, fresh: Fresh, first: torch.Tensor, axis: int) -> _Moved | None:
    """Return a pass with another size of an axis; None where no other size runs."""
    size = first.shape[axis]
    for other in _other_sizes(size) if size else ():
        resized = _resized(forward, first, axis, other)
        recorder = LineRecorder(forward.code, values=True)
        try:
            with fresh():
                resized.recorded(recorder)
        except Exception:  # noqa: BLE001, S112 - a model's own code may raise anything
            continue
        if recorder.top is not None:
            return _Moved(axis, size, other, dict(shapes_in(recorder.top)))
    return None


def _resized(forward: Forward, first: torch.Tensor, axis: int, size: int) -> Forward:
    """Return the same call with rows repeated, in all inputs that have the axis of the first."""
    made: dict[int, torch.Tensor] = {}

    def changed(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or leaf.ndim != first.ndim:
            return leaf
        if leaf.shape[axis] != first.shape[axis]:
            return leaf
        rows = torch.arange(size, device=leaf.device) % leaf.shape[axis]
        return made.setdefault(id(leaf), leaf.index_select(axis, rows))

    args, kwargs = tree_map(changed, (forward.args, dict(forward.kwargs)))
    return replace(forward, args=args, kwargs=kwargs)


def shapes_in(
    scene: Scene, outer: tuple[CodeType, ...] = ()
) -> Iterator[tuple[Key, tuple[int, ...]]]:
    """Yield the shape of each tensor that the lines of a function set, and of einsum's operands."""
    path = (*outer, scene.code)
    for number, spot in scene.spots.items():
        for name, values in spot.values.items():
            for which, value in enumerate(tensors_in(values)):
                yield (path, number, name, which), value[0]
        for which, shape in enumerate(spot.einsum[1] if spot.einsum else ()):
            yield (path, number, _EINSUM, which), tuple(shape)
        for inner in spot.scenes.values() if len(path) < MAX_WITHIN else ():
            yield from shapes_in(inner, path)


def tensors_in(value: Any) -> Iterator[TensorWords]:
    """Yield the tensors in descriptions, depth first."""
    if isinstance(value, TensorWords):
        yield value
    elif isinstance(value, (tuple, dict)):
        for item in value:
            yield from tensors_in(item)
