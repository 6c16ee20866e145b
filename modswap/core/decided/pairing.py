"""Find the tensors of two checkpoints that belong together: by name, by contents, by shapes."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from heapq import nsmallest
from typing import Protocol

How = str
Shape = tuple[int, ...]
_TRIES = 8  # tensors with the same first bytes that are compared with one


class Sized(Protocol):
    """A tensor as its file describes it."""

    @property
    def dtype(self) -> str:
        """Return its dtype."""

    @property
    def shape(self) -> Shape:
        """Return its shape."""

    @property
    def kind(self) -> str:
        """Return what it belongs to: tensors of different kinds are never paired."""


@dataclass(frozen=True, slots=True)
class ValueReading:
    """The functions that read values, where they may be read.

    Args:
        equal: Return for each pair of names whether their bytes are equal.
        sample: Return a few bytes of a tensor of a side (0 or 1), by its name; None where all of
            them are of one element, which says nothing of where it came from.
    """

    equal: Callable[[Sequence[tuple[str, str]]], Sequence[bool]]
    sample: Callable[[int, str], bytes | None]


@dataclass(slots=True)
class Pairing:
    """The pairs that were found, in the order of A, and the names that were left over.

    `pairs` has for each name of A the name in B, and how it was found; `equal` whether the values
    are, for those pairs that were compared; `moved` has modules with their new paths.
    """

    pairs: dict[str, tuple[str, How]] = field(default_factory=dict)
    equal: dict[tuple[str, str], bool] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)


def pair_up(
    a: Mapping[str, Sized], b: Mapping[str, Sized], reading: ValueReading | None = None
) -> Pairing:
    """Return which tensor of B each tensor of A is compared with.

    Without `reading`, names and shapes alone decide.
    """
    work = _Work(a, b, reading)
    if reading is not None:
        work.by_equal_names()
        work.by_contents()
        work.by_modules()
    work.by_names()
    work.by_shapes()
    return work.result()


class _Work:
    """The tensors that are not paired yet, and the pairs so far."""

    def __init__(
        self, a: Mapping[str, Sized], b: Mapping[str, Sized], reading: ValueReading | None
    ) -> None:
        self.a, self.b, self.reading = a, b, reading
        self.found = Pairing()
        self.left, self.right = dict.fromkeys(a), dict.fromkeys(b)  # ordered sets

    def _put(self, old: str, new: str, how: How) -> None:
        self.found.pairs[old] = new, how
        del self.left[old], self.right[new]

    def _fits(self, old: str, new: str) -> bool:
        one, other = self.a[old], self.b[new]
        return one.shape == other.shape and one.kind == other.kind

    def _same_kind(self, old: str, new: str) -> bool:
        return self._fits(old, new) and self.a[old].dtype == self.b[new].dtype

    def _compare(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return those of the pairs whose bytes are equal."""
        wanted = [pair for pair in pairs if pair not in self.found.equal]
        if self.reading is not None and wanted:
            found = self.reading.equal(wanted)
            self.found.equal.update(zip(wanted, found, strict=True))
        return [pair for pair in pairs if self.found.equal[pair]]

    def by_equal_names(self) -> None:
        """Pair tensors that have one name, and the same values."""
        named = [(name, name) for name in self.a if name in self.b and self._same_kind(name, name)]
        for old, new in self._compare(named):
            self._put(old, new, "name")

    def by_contents(self) -> None:
        """Pair tensors of different names that have the same values."""
        facts = [{_facts(held[name]) for name in names} for names, held in self._sides]
        olds, news = (self._by_sample(side, facts[0] & facts[1]) for side in (0, 1))
        for key, names in olds.items():
            self._pair_group(names, news.get(key, []))

    @property
    def _sides(self) -> tuple[tuple[Iterable[str], Mapping[str, Sized]], ...]:
        return (self.left, self.a), (self.right, self.b)

    def _by_sample(self, side: int, wanted: Set[object]) -> Mapping[object, list[str]]:
        """Return the names that are left on a side by facts and a few bytes."""
        found: dict[tuple[object, bytes | None], list[str]] = defaultdict(list)
        names, held = self._sides[side]
        for name in names:
            facts = _facts(held[name])
            if self.reading is not None and facts in wanted:
                found[facts, self.reading.sample(side, name)].append(name)
        return {key: names for key, names in found.items() if key[1] is not None}

    def _pair_group(self, olds: Sequence[str], news: Sequence[str]) -> None:
        free = dict.fromkeys(news)
        for old in olds:
            # the nearest name first: the rest of a moved module comes along
            near = nsmallest(_TRIES, free, key=partial(_shared_end, old))
            equal = next((new for new in near if self._compare([(old, new)])), None)
            if equal is not None:
                self._put(old, equal, "content")
                del free[equal]

    def by_modules(self) -> None:
        """Pair the other tensors of modules that moved, and say which modules these are."""
        votes: dict[str, Counter[str]] = defaultdict(Counter)
        for old, (new, how) in self.found.pairs.items():
            if how == "content":
                start, end = _beginnings(old, new)
                votes[start][end] += 1
        self.found.moved = {start: ends.most_common(1)[0][0] for start, ends in votes.items()}
        if self.found.moved:
            self._release()
            for old in list(self.left):
                self._follow(old, self._new_name(old))

    def _follow(self, old: str, new: str) -> None:
        """Pair a tensor with the one of its new name, where that is left and fits."""
        if new != old and new in self.right and self._fits(old, new):
            self._put(old, new, "module")

    def _release(self) -> None:
        """Let go of pairs of one name that say nothing, where a module moved away or to there."""
        back = {new: old for old, new in self.found.moved.items()}
        for name, (new, how) in list(self.found.pairs.items()):
            away, hither = self._new_name(name), renamed(name, back)
            apart = {away, hither} - {name, ""}
            if how == "name" and apart and (away in self.b or hither in self.a):
                self._let_go(name, new)

    def _let_go(self, old: str, new: str) -> None:
        if self.reading is not None and self.reading.sample(0, old) is None:
            del self.found.pairs[old]
            self.left[old] = None
            self.right[new] = None

    def _new_name(self, name: str) -> str:
        """Return the name in B of a tensor in a module that moved; empty if none around it did."""
        return renamed(name, self.found.moved)

    def by_names(self) -> None:
        """Pair what is left and has one name."""
        for name in [name for name in self.left if name in self.right]:
            if self.a[name].kind == self.b[name].kind:
                self._put(name, name, "name")

    def by_shapes(self) -> None:
        """Pair modules of which every tensor is left, with one and the same names and shapes."""
        olds, news = _whole(self.left, self.a), _whole(self.right, self.b)
        for key, starts in olds.items():
            ends = news.get(key, [])
            inside = [name for _, name, _ in key]
            if len(starts) > 1 or len(ends) != 1 or not self._are_left(starts[0], ends[0], inside):
                continue
            for name in inside:
                self._put(_joined(starts[0], name), _joined(ends[0], name), "shape")
            self.found.moved.setdefault(starts[0], ends[0])

    def _are_left(self, start: str, end: str, inside: Iterable[str]) -> bool:
        """Return whether the tensors of a module are not paired yet, by a larger one around it."""
        return all(
            _joined(start, name) in self.left and _joined(end, name) in self.right
            for name in inside
        )

    def result(self) -> Pairing:
        """Return the pairs in the order of A, and what is left."""
        found = self.found
        found.pairs = {name: found.pairs[name] for name in self.a if name in found.pairs}
        # names go back to the order of their files
        found.removed = [name for name in self.a if name in self.left]
        found.added = [name for name in self.b if name in self.right]
        return found


def renamed(name: str, moved: Mapping[str, str]) -> str:
    """Return the new name of a tensor or module in a module that moved; empty if none did."""
    start = name
    while True:
        if start in moved:
            return _joined(moved[start], name[len(start) :].removeprefix("."))
        if not start:
            return ""
        start = start.rpartition(".")[0]


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _facts(held: Sized) -> tuple[str, Shape, str]:
    return held.dtype, held.shape, held.kind


def _shared_end(a: str, b: str) -> int:
    """Return how many segments two names share at their ends, below 0."""
    pairs = zip(reversed(a.split(".")), reversed(b.split(".")), strict=False)
    count = 0
    for one, other in pairs:
        if one != other:
            break
        count += 1
    return -count


def _beginnings(a: str, b: str) -> tuple[str, str]:
    """Return what is left of two names without their common end."""
    count = -_shared_end(a, b)
    one, other = a.split("."), b.split(".")
    count = min(count, len(one) - 1, len(other) - 1)
    return ".".join(one[: len(one) - count]), ".".join(other[: len(other) - count])


_Inside = tuple[tuple[str, str, Shape], ...]  # kind, name in the module and shape of each tensor


def _whole(names: Iterable[str], held: Mapping[str, Sized]) -> dict[_Inside, list[str]]:
    """Return the modules all of whose tensors are among the names, by what is in them.

    Those around others come first.
    """
    inside = _by_module(list(names), held)
    found: dict[_Inside, list[str]] = defaultdict(list)
    for path in sorted(inside, key=lambda path: path.count(".") + bool(path)):
        start = len(path) + 1 if path else 0
        facts = [(held[name].kind, name[start:], held[name].shape) for name in inside[path]]
        found[tuple(sorted(facts))].append(path)
    return found


def _by_module(names: Sequence[str], held: Mapping[str, Sized]) -> dict[str, list[str]]:
    """Return the names in each module that has no others."""
    partly = {above for name in held.keys() - set(names) for above in _above(name)}
    inside: dict[str, list[str]] = defaultdict(list)
    for name in names:
        own = [above for above in _above(name) if above or held[name].kind == "weights"]
        for above in own:
            inside[above].append(name)
    return {path: found for path, found in inside.items() if path not in partly}


def _above(name: str) -> Iterator[str]:
    """Yield the modules around a tensor, the outermost first: the model itself is the empty one."""
    yield ""
    place = name.find(".")
    while place >= 0:
        yield name[:place]
        place = name.find(".", place + 1)
