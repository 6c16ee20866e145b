"""The record of a forward pass as plain data: functions, and their lines with numbers and words."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

import torch
from torch import nn

from modswap.core.explained.record import Followed, Line, Numbers, SetValue, Shape
from modswap.core.explained.words import ModuleText
from modswap.ops.explain.axes import MAX_WITHIN, Axes
from modswap.ops.explain.passes import Place
from modswap.ops.explain.recorder import LineRecord, Scene
from modswap.ops.explain.source import Statement
from modswap.ops.explain.values import Described, ItemsWords, TensorWords

MAX_VALUES = 2  # different values of a name that are shown
_SEQUENTIAL = nn.Sequential.forward.__code__
_FUNCTIONAL = nn.functional.relu.__code__.co_filename
MAX_PATHS = 4  # modules that are named


@dataclass(frozen=True, slots=True)
class Rows:
    """The rules by which a record becomes rows.

    Args:
        axes: The names of axes.
        times: The seconds of each statement; None where no time was taken.
        depth: How many functions below the forward are followed; methods of the same module do not
            count.
        paths: Paths of the module's own modules, by identity.
        text: The explanation of its steps.
        only: Names of the functions that are followed alone; None: all.
    """

    axes: Axes
    times: Mapping[Place, float] | None
    depth: int
    only: Collection[str] | None
    paths: Mapping[int, str]
    text: ModuleText | None

    def root(self, scene: Scene) -> Followed:
        """Return the forward with its lines."""
        return self._followed(scene, (), self.depth)

    def _followed(self, scene: Scene, outer: tuple[CodeType, ...], depth: int) -> Followed:
        path = (*outer, scene.code)
        lines = tuple(self._lines(scene, path, depth)) if self._has_lines(scene, outer) else ()
        return Followed(
            name=_name(scene),
            file=scene.code.co_filename,
            first=scene.code.co_firstlineno,
            count=scene.count,
            numbers=self._sum(scene, path),
            paths=self._paths(scene),
            returned=self._returned(scene, path),
            lines=lines,
            container=scene.code is _SEQUENTIAL,
        )

    def _paths(self, scene: Scene) -> tuple[str, ...]:
        """Return the paths of the modules whose method it is, the first few."""
        found = [path for one in scene.modules if (path := self.paths.get(one, ""))]
        return (*found[:MAX_PATHS], *(["…"] if len(found) > MAX_PATHS else []))

    @staticmethod
    def _has_lines(scene: Scene, outer: tuple[CodeType, ...]) -> bool:
        """Return whether a function is shown line by line: any but a single layer of torch."""
        of_torch = [type(one).__module__.startswith("torch.nn.") for one in scene.modules.values()]
        layers = [any(True for _ in one.children()) for one in scene.modules.values()]
        return not outer or not of_torch or not all(of_torch) or any(layers)

    def _lines(self, scene: Scene, path: tuple[CodeType, ...], depth: int) -> Iterator[Line]:
        for number, statement in enumerate(scene.source.statements):
            spot = scene.spots.get(number)
            if spot is None:
                words = self._words(scene, statement)
                yield Line(statement.first, statement.last, statement.rows, words=words)
                continue
            yield Line(
                first=statement.first,
                last=statement.last,
                source=statement.rows,
                count=self._count(scene, number, statement),
                numbers=self._numbers(spot, path, number),
                values=tuple(self._values(spot, path, number)),
                legend=self.axes.legend(spot, (path, number)),
                marks=tuple(sorted(spot.marks)),
                words=self._words(scene, statement),
                calls=tuple(self._calls(spot, scene, path, depth)),
            )

    def _words(self, scene: Scene, statement: Statement) -> Any:
        name = scene.code.co_qualname
        return None if self.text is None else self.text.step(name, statement.key)

    @staticmethod
    def _count(scene: Scene, number: int, statement: Statement) -> int:
        body = scene.spots.get(number + 1) if statement.inner else None
        return scene.spots[number].count if body is None else body.count

    def _calls(
        self, spot: LineRecord, scene: Scene, path: tuple[CodeType, ...], depth: int
    ) -> Iterator[Followed]:
        for inner in spot.scenes.values():
            own = bool(inner.modules) and inner.modules.keys() <= scene.modules.keys()
            left = depth - (not own)
            chosen = self.only is None or inner.code.co_qualname in self.only
            wrapper = inner.code.co_filename == _FUNCTIONAL and not _of_torch(scene)
            if left >= 0 and chosen and not wrapper and len(path) < MAX_WITHIN:
                yield self._followed(inner, path, left)

    def _numbers(self, spot: LineRecord, path: tuple[CodeType, ...], number: int) -> Numbers:
        seconds = None if self.times is None else self.times.get((path, number), 0.0)
        flops, beyond, nbytes = total(spot)
        return Numbers(flops, beyond, nbytes, seconds)

    def _sum(self, scene: Scene, path: tuple[CodeType, ...]) -> Numbers:
        return added([self._numbers(spot, path, at) for at, spot in scene.spots.items()])

    def _values(
        self, spot: LineRecord, path: tuple[CodeType, ...], number: int
    ) -> Iterator[SetValue]:
        for name, found in spot.values.items():
            if name == "_":
                continue
            which = iter(range(1 << 30))
            texts = [self._worded(value, (path, number, name), which) for value in found]
            shown = tuple(dict.fromkeys(texts))
            if shown[0] or not name:
                yield SetValue(name, shown[:MAX_VALUES], len(shown) > MAX_VALUES)

    def _returned(self, scene: Scene, path: tuple[CodeType, ...]) -> SetValue | None:
        for number, spot in scene.spots.items():
            found = [one for one in self._values(spot, path, number) if not one.name]
            if found:
                return found[0]
        return None

    def _worded(self, value: Described, at: Any, which: Iterator[int]) -> Shape | str:
        if isinstance(value, TensorWords):
            return self.axes.shape((*at, next(which)), value)
        if not isinstance(value, ItemsWords):
            return str(value)
        kind, length, names, items = value
        parts = [self._worded(item, at, which) for item in items]
        shown = (
            [f"{n} {p}" for n, p in zip(names, parts, strict=False)]
            if names
            else list(map(str, parts))
        )
        shown += ["…"] if length > len(items) else []
        return f"{kind}({', '.join(shown)})"


def _of_torch(scene: Scene) -> bool:
    """Return whether a function is torch's own, whose calls of torch's functions are followed."""
    return Path(scene.code.co_filename).is_relative_to(Path(torch.__file__).parent)


def _name(scene: Scene) -> str:
    owners = list(scene.modules.values())
    if owners and scene.code.co_name == "forward":
        return type(owners[0]).__name__
    return scene.code.co_qualname.rpartition("<locals>.")[2]


def total(spot: LineRecord) -> tuple[int, int, int]:
    """Return the FLOPs, those beyond torch's counter and the new bytes of a statement in all."""
    flops = beyond = nbytes = 0
    waiting = [spot]  # a forward may call itself as deep as Python lets it
    while waiting:
        one = waiting.pop()
        flops, beyond, nbytes = flops + one.flops, beyond + one.beyond, nbytes + one.nbytes
        waiting += (inner for scene in one.scenes.values() for inner in scene.spots.values())
    return flops, beyond, nbytes


def added(some: list[Numbers]) -> Numbers:
    """Return the sum of numbers; without time where one has none."""
    known = [one.seconds for one in some if one.seconds is not None]
    return Numbers(
        sum(one.flops for one in some),
        sum(one.beyond for one in some),
        sum(one.nbytes for one in some),
        sum(known) if len(known) == len(some) else None,
    )


def paths_in(module: nn.Module) -> dict[int, str]:
    """Return the path of each module in a module, by identity."""
    return {id(one): path for path, one in module.named_modules()}
