"""The job of `diff`: compare two checkpoints as data; torch is needed only where values differ."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import cast

from modswap.core.decided.pairing import Pairing, ValueReading, pair_up
from modswap.core.errors import ModswapError
from modswap.core.kept.difference import (
    DiffResult,
    EntryChange,
    Facts,
    How,
    Lone,
    Part,
    Side,
    Spread,
    TensorPair,
)
from modswap.core.progress import Progress, silent
from modswap.core.words.option_spelling import never_trusted
from modswap.io.formats.contents import Contents, HeldTensor
from modswap.io.formats.outline import contents
from modswap.io.raw.held import holding
from modswap.io.raw.memory import enough_memory
from modswap.io.raw.spans import Descriptors, Span, are_equal, descriptors
from modswap.io.recognise.look import unreadable
from modswap.ops.compare.structure import compared_entries, compared_modules, compared_ties

_SAMPLE_BYTES = 64
_STEP_BYTES = 1 << 30  # read between two lines of progress
_FEW = 0.1  # share of tensors that have a partner, below which two files have little in common
IN_FLOAT64 = "where dtypes differ, values were compared in float64"
ONE_FILE = "both names lead to one file: it equals itself, and its values were not read"


def diff_files(a: Path, b: Path, part: Part = "all", progress: Progress = silent) -> DiffResult:
    """Compare two checkpoints of any formats; nothing in them is built or executed.

    Raises:
        CheckpointError: If one of them cannot be read.
        UnsafeError: If one of them names what no sound file does.
    """
    started = time.monotonic()
    with holding(a) as one, holding(b) as other:
        try:
            progress(f"reading {a} and {b}")
            same = a.exists() and b.exists() and a.samefile(b)
            first = contents(a)
            second = first if same else contents(b)
            with enough_memory(a):
                found = compare(Compared(str(a), first), Compared(str(b), second), part, progress)
        except ModswapError as error:
            raise never_trusted(error) from error
        except OSError as error:
            raise unreadable(Path(str(error.filename or a)), error) from None
        one.refuse_change()
        other.refuse_change()
    headline = ONE_FILE if same else found.headline
    return replace(found, headline=headline, seconds=time.monotonic() - started)


@dataclass(frozen=True, slots=True)
class Compared:
    """A side of a comparison: its name for the report, and its contents."""

    name: str
    contents: Contents

    @property
    def side(self) -> Side:
        """Return it for reports."""
        held = self.contents.tensors.values()
        sizes = {id(one) if one.identity is None else one.identity: one.nbytes for one in held}
        return Side(self.name, self.contents.format, len(held), sum(sizes.values()))


def compare(
    a: Compared, b: Compared, part: Part = "all", progress: Progress = silent
) -> DiffResult:
    """Return where two contents differ."""
    sides = a.side, b.side
    first, second, notes = _alike(a.contents, b.contents)
    old, new = first.tensors, second.tensors
    with descriptors() as files:
        values = _Values(old, new, files, progress, one=a.contents is b.contents)
        reading = None if part == "structure" else ValueReading(values.equal, values.sample)
        pairing = pair_up(_facts(old), _facts(new), reading)
        pairs = tuple(_pairs(pairing, old, new))
        if part != "structure":
            pairs = values.judged(pairs, pairing.equal)
    notes = (*notes, *_notes_of_values(pairs, pairing, part))
    found = DiffResult(*sides, part, pairs, notes=notes, headline=_headline(pairs, old, new))
    return found if part == "values" else _with_structure(found, (first, second), pairing, part)


def _notes_of_values(pairs: Sequence[TensorPair], pairing: Pairing, part: Part) -> Iterator[str]:
    if any(pair.spread is not None and pair.spread.in_float64 for pair in pairs):
        yield IN_FLOAT64
    if part == "values" and (pairing.removed or pairing.added):
        counts = f"{len(pairing.removed):,} tensors of A and {len(pairing.added):,} of B"
        yield f"{counts} have no counterpart, and no values to compare with"


def _facts(side: Mapping[str, HeldTensor]) -> dict[str, Facts]:
    return {name: held.facts for name, held in side.items()}


def _with_structure(
    found: DiffResult, sides: tuple[Contents, Contents], pairing: Pairing, part: Part
) -> DiffResult:
    """Return a difference with what only one side has, classes, ties and other values."""
    a, b = sides
    gone, come, classes = compared_modules(a, b, pairing.moved)
    changes, count, notes = compared_entries(a, b, pairing.moved)
    if part == "structure":
        changes = tuple(change for change in changes if change.kind == "setting")
    places = {pair.a: pair.b for pair in found.pairs}
    return replace(
        found,
        removed=_lone(pairing.removed, a, places.keys()),
        added=_lone(pairing.added, b, places.values()),
        gone=gone,
        come=come,
        classes=classes,
        entries=(*compared_ties(a.tensors, b.tensors, places), *sorted(changes, key=_order)),
        compared_entries=count,
        notes=(*found.notes, *_notes_of_classes(a, b), *notes),
    )


def _order(change: EntryChange) -> bool:
    return change.kind == "setting"  # of modules: there may be many


def _lone(names: Sequence[str], side: Contents, paired: Iterable[str]) -> tuple[Lone, ...]:
    """Return tensors that one side has; of a further name of a tensor in both, that name."""
    held = side.tensors
    known = {held[name].identity: name for name in paired if held[name].identity is not None}
    found = []
    for name in names:
        facts = held[name].facts
        same = known.get(held[name].identity, "")
        found.append(Lone(name, facts.words, facts.kind, same))
    return tuple(found)


def _notes_of_classes(a: Contents, b: Contents) -> tuple[str, ...]:
    without = [name for name, side in (("A", a), ("B", b)) if not side.modules]
    if len(without) != 1:
        return ()
    return (f"{without[0]} holds weights without code: classes of modules are not compared",)


def _alike(a: Contents, b: Contents) -> tuple[Contents, Contents, tuple[str, ...]]:
    """Return two contents under names of one kind, and notes about them."""
    places = (("A", a.place), ("B", b.place)) if a.place != b.place else ()
    notes = [f"in {side} the model is {place}" for side, place in places if place]
    if a.numbered and b.numbered:
        a, b = a.by_parameter, b.by_parameter
    left = [len(one.tensors) for one in (a, b)]
    a, b = _without_transient(a, b), _without_transient(b, a)
    count = sum(left) - len(a.tensors) - len(b.tensors)
    if count:
        notes.append(
            f"left out, for files of weights leave them out: {count:,} buffers, not persistent"
        )
    return a, b, tuple(notes)


def _without_transient(side: Contents, other: Contents) -> Contents:
    """Return contents without the buffers that files of weights leave out, if the other is one."""
    if other.modules:
        return side
    kept = {n: h for n, h in side.tensors.items() if not h.optional or n in other.tensors}
    return replace(side, tensors=kept)


def _headline(
    pairs: Sequence[TensorPair], a: Mapping[str, HeldTensor], b: Mapping[str, HeldTensor]
) -> str:
    """Say it in a sentence where two files have hardly anything in common."""
    weights = [min(sum(h.facts.kind == "weights" for h in side.values()) for side in (a, b)), 0]
    weights[1] = sum(pair.old.kind == "weights" for pair in pairs)
    if weights[1] and weights[1] >= _FEW * weights[0]:
        return ""
    count = sum(held.facts.kind == "weights" for held in a.values())
    return (
        f"these are files of different models: {weights[1] or 'none'} of the {count:,} tensors of "
        "A's model have a counterpart in B, by name, contents or shapes"
    )


def _pairs(
    pairing: Pairing, a: Mapping[str, HeldTensor], b: Mapping[str, HeldTensor]
) -> "list[TensorPair]":
    return [
        TensorPair(old, new, cast("How", how), a[old].facts, b[new].facts)
        for old, (new, how) in pairing.pairs.items()
    ]


class _Values:
    """The values of the tensors of both sides, which are read as they are asked for."""

    def __init__(
        self,
        a: Mapping[str, HeldTensor],
        b: Mapping[str, HeldTensor],
        files: Descriptors,
        progress: Progress,
        *,
        one: bool,
    ) -> None:
        self.sides = a, b
        self.files = files
        self.one = one  # whether both sides are one file
        self.advance = counter(progress)

    def equal(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Return for each pair of names whether all bytes are equal, in one order."""
        a, b = self.sides
        if self.one:
            return [a[old] is b[new] for old, new in pairs]
        plain = [pair for pair in pairs if _in_one_order(a[pair[0]], b[pair[1]])]
        spans = [
            (Span(a[old].extents, self.files), Span(b[new].extents, self.files))
            for old, new in plain
        ]
        found = dict(zip(plain, are_equal(spans, self.advance), strict=True))
        rest = [pair for pair in pairs if pair not in found]
        apart = zip(rest, self._spreads(rest), strict=True)
        found |= {pair: one is not None and not one.changed for pair, one in apart}
        return [found[pair] for pair in pairs]

    def _spreads(self, pairs: Sequence[tuple[str, str]]) -> list[Spread | None]:
        if not pairs:
            return []
        from modswap.ops.compare.values import spreads

        a, b = self.sides
        held = [(a[old], b[new]) for old, new in pairs]
        return spreads(held, self.files, self.advance)

    def sample(self, side: int, name: str) -> bytes | None:
        """Return bytes of the beginning, the middle and the end of a tensor, or None."""
        held = self.sides[side][name]
        if held.tiles or held.strides is not None or not held.numel:
            return None
        span = Span(held.extents, self.files)
        count = min(span.nbytes, _SAMPLE_BYTES)
        data = bytearray(3 * count)
        middle = (span.nbytes - count) // 2
        for number, start in enumerate((0, middle - middle % 16, span.nbytes - count)):
            span.read(start, memoryview(data)[number * count : (number + 1) * count])
        size = max(span.nbytes // held.numel, 1)
        alike = data == data[:size] * (len(data) // size)
        return None if alike else bytes(data)

    def judged(
        self, pairs: Sequence[TensorPair], known: Mapping[tuple[str, str], bool]
    ) -> tuple[TensorPair, ...]:
        """Return pairs with whether their values are equal, and how far they are apart."""
        shaped = [pair for pair in pairs if pair.old.shape == pair.new.shape]
        asked = [(p.a, p.b) for p in shaped if (p.a, p.b) not in known and _same_dtype(p)]
        equal = {**known, **dict(zip(asked, self.equal(asked), strict=True))}
        unequal = [(p.a, p.b) for p in shaped if not equal.get((p.a, p.b))]
        apart = dict(zip(unequal, self._spreads(unequal), strict=True))
        return tuple(_judged(pair, equal, apart) for pair in pairs)


def _same_dtype(pair: TensorPair) -> bool:
    return pair.old.dtype == pair.new.dtype


def _judged(
    pair: TensorPair,
    equal: Mapping[tuple[str, str], bool],
    apart: Mapping[tuple[str, str], Spread | None],
) -> TensorPair:
    key = pair.a, pair.b
    if pair.old.shape != pair.new.shape:
        return replace(pair, equal=False)
    spread = apart.get(key)
    if key in equal:
        return replace(pair, equal=equal[key], spread=None if equal[key] else spread)
    return replace(pair, equal=spread is not None and not spread.changed, spread=spread)


def _in_one_order(a: HeldTensor, b: HeldTensor) -> bool:
    """Return whether equal elements lie in equal bytes."""
    one_dtype = a.facts.dtype == b.facts.dtype
    return one_dtype and a.dense and b.dense and a.strides == b.strides


def counter(progress: Progress) -> Callable[[int], None]:
    """Return a function that adds bytes that were read, and prints a line now and then."""
    done = [0]
    lock = Lock()

    def advance(count: int) -> None:
        with lock:
            before, done[0] = done[0], done[0] + count
            if before // _STEP_BYTES < done[0] // _STEP_BYTES:
                progress(f"compared {done[0] / 2**30:.1f} GiB")

    return advance
