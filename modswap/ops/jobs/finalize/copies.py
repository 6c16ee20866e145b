"""The models of a file with their new modules, and the refusal of those that cannot end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from modswap.core.asked.job import Rework
from modswap.core.errors import CheckpointError, ShapeError, UsageError, together
from modswap.core.kept.receipt import SiteRecord
from modswap.core.seen.joint import Joint
from modswap.io.formats.choice import format_named, target_format
from modswap.nn.inserted_site import inserted_names
from modswap.nn.insertion import Insertion
from modswap.ops.apply import Placement, module_at
from modswap.ops.build.fit import Built
from modswap.ops.build.folding.new_modules import NewModules
from modswap.ops.build.gates import gate_range, gates_of
from modswap.ops.load.model import Loaded
from modswap.ops.write.slot_models import key_of, models_of_slots


@dataclass(frozen=True, slots=True)
class BesideModule:
    """A module with a gate beside one that stays."""

    record: SiteRecord
    joint: Joint
    module: Insertion


@dataclass(frozen=True, slots=True)
class FadingModule:
    """A module that fades in for an old one, with the paths of both, and its gates' range."""

    record: SiteRecord
    module: Insertion
    site: nn.Module
    paths: tuple[str, ...]
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class FileCopy:
    """A model of the file and its modules with gates; `key` says where it is, if not first."""

    loaded: Loaded
    key: str
    ended: tuple[FadingModule, ...]
    beside: tuple[BesideModule, ...]
    plain: tuple[tuple[SiteRecord, nn.Module], ...] = ()  # without a gate, where layers are folded

    @property
    def records(self) -> list[SiteRecord]:
        """Return the records of all modules that may change."""
        ended = [one.record for one in self.ended]
        beside = [one.record for one in self.beside]
        return [*ended, *beside, *(record for record, _ in self.plain)]

    @property
    def placements(self) -> list[Placement]:
        """Return the modules as they were, with their paths."""
        olds: list[Placement] = [(one.paths, one.site) for one in self.ended]
        besides: list[Placement] = [(one.record.paths, one.module) for one in self.beside]
        return [*olds, *besides, *((record.paths, module) for record, module in self.plain)]

    def new_modules(self, built: Sequence[Built]) -> NewModules:
        """Return the modules that may change, those that are made in the place of the old ones."""
        made = {one.sites[0].path: one.module for one in built}
        ended = {one.record.paths[0]: made[one.paths[0]] for one in self.ended}
        paths = {one.record.paths[0]: one.module for one in self.beside}
        beside = {path: made.get(path, module) for path, module in paths.items()}
        plain = {record.paths[0]: module for record, module in self.plain}
        placements = [(one.paths, one.module) for one in built]
        return NewModules(self.loaded.model, {**ended, **beside, **plain}, placements)


def copies_of(loaded: Loaded, where: str, *, fold: bool) -> list[FileCopy]:
    """Return the models of a file, each with its own gates, the loaded one first.

    With `fold` they have the new modules without a gate, too.
    """
    keys = ("", *(f" under {key_of(slot)!r}" for slot in loaded.container.slots[1:]))
    return [
        FileCopy(
            one,
            key,
            tuple(_fading(one, where)),
            tuple(_beside(one, where)),
            tuple(_plain(one)) if fold else (),
        )
        for one, key in zip(models_of_slots(loaded), keys, strict=True)
    ]


def _fading(loaded: Loaded, where: str) -> Iterator[FadingModule]:
    """Yield every module that fades in for an old one."""
    for record, joint, module in gates_of(loaded, where):
        if joint.place == "instead":
            paths = tuple(path.rpartition(".")[0] for path in record.paths)
            least, most = gate_range(module)
            yield FadingModule(
                record, module, module_at(loaded.model, paths[0]), paths, least, most
            )


def _beside(loaded: Loaded, where: str) -> Iterator[BesideModule]:
    """Yield every module with a gate that stays beside another one."""
    for record, joint, module in gates_of(loaded, where):
        if joint.place != "instead":
            yield BesideModule(record, joint, module)


def _plain(loaded: Loaded) -> Iterator[tuple[SiteRecord, nn.Module]]:
    """Yield every module of the receipt that has no gate."""
    for record in loaded.receipt.sites if loaded.receipt is not None else ():
        if record.joint is None or not record.joint.has_gate:
            yield record, module_at(loaded.model, record.paths[0])


def refuse_unfinished(copies: Sequence[FileCopy], job: Rework) -> None:
    """Refuse a file without a module that has a gate, or with one that has not come to its end."""
    where = str(job.subject.file)
    first = copies[0]
    if not first.records:
        what = "no module in it has a gate, by which it fades in or is added"
        fix = "name a file in which `start: preserve` put a module; one of weights alone needs the "
        fix += "receipt that `modswap.save` writes"
        if job.fold:
            what = "no module of a swap is recorded in it"
            fix = (
                "name a file that `modswap replace` or `modswap.save` wrote: a script that trains "
            )
            fix += "on keeps the record by `modswap.load` and `modswap.save`"
        raise UsageError(what, where, fix)
    for other in copies[1:]:
        if {r.paths for r in other.records} != {r.paths for r in first.records}:
            what = f"the model{other.key} has other modules with gates than the first one"
            raise CheckpointError(what, where, "save the one that you want by itself")
    _refuse_weights(first.records, first.loaded, job)
    errors = [
        error for copy in copies for one in copy.ended for error in _unfinished(one, copy, job)
    ]
    if errors:
        raise together(errors)


def _refuse_weights(records: Sequence[SiteRecord], loaded: Loaded, job: Rework) -> None:
    """Refuse a file of weights alone for modules of which no receipt has the arguments."""
    own = format_named(loaded.container.format)
    if job.out is None or target_format(own.name, job.out) is own:
        return
    for record in records:
        if record not in (loaded.receipt.sites if loaded.receipt is not None else ()):
            what = f"no receipt says with which arguments {record.paths[0]!r} was made, so that "
            what += "weights alone could not be loaded again"
            raise UsageError(what, str(job.out), "name it as the input is named, such as out.pt")


def _unfinished(one: FadingModule, copy: FileCopy, job: Rework) -> Iterator[ShapeError]:
    path = f"{one.paths[0]}{copy.key}"
    if len(inserted_names(one.site)) > 1:
        what = "another module was put in beside it, which would go with the old one"
        yield ShapeError(what, path, "take that out first")
    if not job.at_one and not one.least == one.most == 1:
        ends = dict.fromkeys((f"{one.least:.4g}", f"{one.most:.4g}"))
        what = f"the gate of the new module is {' to '.join(ends)}, not 1"
        yield ShapeError(what, path, "train on, or add `--at 1` to take it as 1")
