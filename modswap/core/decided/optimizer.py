"""The parameter of each entry of an optimizer's state, before and after a swap.

An optimizer's state dict numbers parameters over its groups and rarely names them. An
optimizer over other parameters loads it without an error where counts agree, and then trains
parameters with the moments of others. So every assignment is compared with the shapes of the
moments, and given up in doubt.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Literal

Shape = tuple[int, ...]
Kind = Literal["bias", "vector", "matrix"]
KINDS: tuple[Kind, ...] = ("bias", "vector", "matrix")
_MAX_GROUPS = 4  # by kind, as training scripts make them


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a model."""

    name: str
    shape: Shape
    trainable: bool = True  # whether it requires a gradient

    @property
    def kind(self) -> Kind:
        """Return the kind by which training scripts group parameters."""
        if self.name.rpartition(".")[2] == "bias":
            return "bias"
        return "matrix" if len(self.shape) > 1 else "vector"


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """A group of an optimizer."""

    ids: tuple[int | str, ...]  # its parameters' numbers, or their names
    names: tuple[str, ...] = ()  # their names where they were kept, else empty


@dataclass(frozen=True, slots=True)
class Regrouped:
    """An optimizer's groups after a swap."""

    groups: tuple[tuple[str, ...], ...]  # the names in each group, in order
    ids: Mapping[str, int | str]  # for each kept name the number that it had
    fresh: tuple[str, ...]  # names that have no state yet


def regroup(
    groups: Sequence[ParameterGroup],
    moments: Mapping[int | str, Sequence[Shape]],
    before: Sequence[Parameter],
    after: Sequence[Parameter],
    swapped: tuple[str, ...],
) -> Regrouped | None:
    """Return the groups of an optimizer over the parameters after a swap.

    None in doubt about the parameter of any state. `moments` are shapes of the tensors that it
    keeps for each parameter, `before` and `after` the model's parameters in its order, `swapped`
    prefixes of the names in swapped modules, each ending in a dot.
    """
    owned = _owned(groups, moments, before)
    if owned is None:
        return None
    names, only_trainable = owned
    now = [p for p in after if p.trainable or not only_trainable]
    # a new parameter may have an old one's name and shape, but never its moments
    fresh = tuple(p for p in now if p.name.startswith(swapped))
    kept = [[n for n in group if not n.startswith(swapped)] for group in names]
    order = [p.name for p in now]
    added = _homes(fresh, names, before)
    ids = {name: n for name, n in _numbered(groups, names) if not name.startswith(swapped)}
    ordered = tuple(_in_order(order, *pair) for pair in zip(kept, added, strict=True))
    return Regrouped(ordered, ids, tuple(p.name for p in fresh))


def _homes(
    fresh: Sequence[Parameter], names: Sequence[Sequence[str]], before: Sequence[Parameter]
) -> list[set[str]]:
    """Return the names of the new parameters that go into each group."""
    group = {name: place for place, held in enumerate(names) for name in held}
    grouped = [(p, group[p.name]) for p in before if p.name in group]
    added: list[set[str]] = [set() for _ in names]
    for parameter in fresh:
        added[_home(parameter, grouped)].add(parameter.name)
    return added


def _home(new: Parameter, grouped: Sequence[tuple[Parameter, int]]) -> int:
    """Return the group that held parameters of the new parameter's kind and place."""
    alike = _counts(grouped, "", (new.kind,))
    if len(alike) == 1:
        return next(iter(alike))
    segments = new.name.split(".")
    for end in range(len(segments) - 1, -1, -1):
        near = "".join(f"{segment}." for segment in segments[:end])
        for kinds in ((new.kind,), KINDS):
            found = _counts(grouped, near, kinds)
            if found:
                return found.most_common(1)[0][0]
    return 0


def _counts(
    grouped: Sequence[tuple[Parameter, int]], near: str, kinds: Sequence[Kind]
) -> Counter[int]:
    return Counter(n for p, n in grouped if p.kind in kinds and p.name.startswith(near))


def _numbered(
    groups: Sequence[ParameterGroup], names: Sequence[Sequence[str]]
) -> Iterator[tuple[str, int | str]]:
    """Yield each parameter's name with its number in the optimizer."""
    for group, held in zip(groups, names, strict=True):
        yield from zip(held, group.ids, strict=True)


def _in_order(order: Sequence[str], kept: Sequence[str], added: set[str]) -> tuple[str, ...]:
    """Return a group's names in the order of the model, if the kept ones are in it already."""
    members = {*kept, *added}
    model = [name for name in order if name in members]
    if [name for name in model if name not in added] == list(kept):
        return tuple(model)
    return (*kept, *(name for name in model if name in added))


def _owned(
    groups: Sequence[ParameterGroup],
    moments: Mapping[int | str, Sequence[Shape]],
    before: Sequence[Parameter],
) -> tuple[list[list[str]], bool] | None:
    """Return the names in each group, and whether only trainable parameters were given to it."""
    shapes = {parameter.name: parameter.shape for parameter in before}
    named = _named(groups)
    if named is not None:
        bare = _bare(named, shapes)
        fits = bare is not None and _fits(groups, bare, moments, shapes)
        return (bare, False) if bare is not None and fits else None
    trainable = [parameter for parameter in before if parameter.trainable]
    for given, only in ((before, False), (trainable, len(trainable) < len(before))):
        sizes = [len(group.ids) for group in groups]
        fitting = [n for n in _candidates(sizes, given) if _fits(groups, n, moments, shapes)]
        if fitting:
            alike = all(names == fitting[0] for names in fitting)
            return (fitting[0], only) if alike else None
    return None


def _named(groups: Sequence[ParameterGroup]) -> list[list[str]] | None:
    """Return the names in each group where the optimizer kept them."""
    names = []
    for group in groups:
        held = group.names or tuple(number for number in group.ids if isinstance(number, str))
        if len(held) != len(group.ids):
            return None
        names.append(list(held))
    return names


def _bare(names: list[list[str]], known: Mapping[str, Shape]) -> list[list[str]] | None:
    """Return names without the prefix of a wrapper; None if they are not the model's."""
    first = next((name for group in names for name in group), "")
    ends = (known_name for known_name in known if first.endswith(f".{known_name}"))
    for prefix in ("", *(first.removesuffix(end) for end in ends)):
        if all(n.startswith(prefix) and n.removeprefix(prefix) in known for g in names for n in g):
            return [[name.removeprefix(prefix) for name in group] for group in names]
    return None


def _candidates(sizes: Sequence[int], given: Sequence[Parameter]) -> Iterator[list[list[str]]]:
    """Yield the ways in which training scripts put a model's parameters into groups of sizes."""
    if sum(sizes) != len(given):
        return
    order = iter(parameter.name for parameter in given)
    yield [list(islice(order, size)) for size in sizes]
    if not 1 < len(sizes) <= _MAX_GROUPS:
        return
    for places in product(range(len(sizes)), repeat=len(KINDS)):
        split = _by_kind(dict(zip(KINDS, places, strict=True)), len(sizes), given)
        if [len(group) for group in split] == list(sizes):
            yield split


def _by_kind(places: Mapping[Kind, int], count: int, given: Sequence[Parameter]) -> list[list[str]]:
    """Return `count` groups; each parameter is in the group of its kind."""
    split: list[list[str]] = [[] for _ in range(count)]
    for parameter in given:
        split[places[parameter.kind]].append(parameter.name)
    return split


def _fits(
    groups: Sequence[ParameterGroup],
    names: Sequence[Sequence[str]],
    moments: Mapping[int | str, Sequence[Shape]],
    shapes: Mapping[str, Shape],
) -> bool:
    """Return whether every moment has the shape of its parameter."""
    return all(
        _is_of(shape, shapes[name])
        for name, number in _numbered(groups, names)
        for shape in moments.get(number, ())
    )


def _is_of(shape: Shape, parameter: Shape) -> bool:
    """Return whether a moment may belong to a parameter: whole, a single number, or factored."""
    rows, last = parameter[:-1], parameter[-1:]
    factored = (rows, (*rows, 1), (*parameter[:-2], *last), (*parameter[:-2], 1, *last))
    return shape in {(), (1,), parameter} or (len(parameter) > 1 and shape in factored)
