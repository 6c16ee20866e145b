"""Fold the layers of the new modules in the models of a file, each with its own weights."""

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from modswap.core.decided.blueprint import LayerFold
from modswap.core.errors import ShapeError
from modswap.core.kept.receipt import SiteRecord
from modswap.live_values import named_tensors
from modswap.nn.adapters import SiteAdapter
from modswap.nn.folded_layers import NORMS
from modswap.nn.insertion import Insertion
from modswap.ops.apply import Placement, temporarily
from modswap.ops.build.folding.flow import ModuleInputs, recorded
from modswap.ops.build.folding.search import Merge, Merges, apart, merges_of, with_merges
from modswap.ops.run.forward import ready, run_model
from modswap.ops.run.inputs import Case
from modswap.ops.run.isolation import untouched
from modswap.seeds import seeded

MAX_ERROR = 1e-5  # of the largest output of a module
_SHOWN = 3  # layers in a note


@dataclass(frozen=True, slots=True)
class NewModules:
    """The new modules of a model, by the first paths that its receipt says.

    `placements` are those that take the place of others.
    """

    model: nn.Module
    modules: Mapping[str, nn.Module]
    placements: Sequence[Placement]

    def inputs(self, case: Case) -> dict[str, ModuleInputs]:
        """Return what the modules, without adapter and gate, are given in a pass."""
        inner = {path: inner_of(module) for path, module in self.modules.items()}
        model = self.model
        with (
            temporarily(model, self.placements),
            recorded(inner) as given,
            ready(model, case, 0) as (args, kwargs, dtype),
        ):
            run_model(model, args, kwargs, dtype=dtype, stand_ins=None)
        return given


@dataclass(frozen=True, slots=True)
class FoldedModule:
    """A new module with layers folded into others.

    Args:
        module: The module, with the adapter and the gate that it had.
        folds: The structure that is left.
        note: A sentence for the report.
    """

    module: nn.Module
    folds: tuple[LayerFold, ...]
    note: str


def inner_of(module: nn.Module) -> nn.Module:
    """Return a new module without the adapter and the gate around it."""
    while isinstance(module, (Insertion, SiteAdapter)):
        module = module.module
    return module


def fold_modules(
    copies: Sequence[NewModules],
    records: Sequence[SiteRecord],
    given: Sequence[Mapping[str, ModuleInputs]],
) -> tuple[list[dict[str, FoldedModule]], tuple[ShapeError, ...]]:
    """Return for each model the new modules that were folded, and an error for what stays.

    A module is folded in the same form in all models, or in none. `given` is what each model gives
    its new modules in a pass.
    """
    shared = _shared(copies[0].model)
    made: list[dict[str, FoldedModule]] = [{} for _ in copies]
    errors: list[ShapeError] = []
    for record in records:
        path = record.paths[0]
        inners = [inner_of(one.modules[path]) for one in copies]
        inputs = [one.get(path) for one in given]
        merges = _merges(record, records, inners[0], inputs[0], shared)
        new, wrong = _every(inners, inputs, merges.found)
        errors += _left(path, merges, wrong)
        for index, found in enumerate(new):
            whole = _around(copies[index].modules[path], inners[index], found.module)
            made[index][path] = FoldedModule(whole, found.folds, found.note)
    return made, tuple(errors)


def _merges(
    record: SiteRecord,
    records: Sequence[SiteRecord],
    inner: nn.Module,
    inputs: ModuleInputs | None,
    shared: frozenset[int],
) -> Merges:
    """Return what can be folded in a module, if a pass gave it its inputs."""
    norms = [path for path, one in inner.named_modules() if type(one) in NORMS]
    if any(other.paths[0].startswith(f"{record.paths[0]}.") for other in records):
        return Merges((), dict.fromkeys(norms, "another new module is inside the same one"))
    if inputs is None:
        return Merges((), dict.fromkeys(norms, "the dummy input does not reach it"))
    return merges_of(_in_dtype(inner, inputs), inputs, shared) if norms else Merges()


def _every(
    inners: Sequence[nn.Module], inputs: Sequence[ModuleInputs | None], merges: Sequence[Merge]
) -> tuple[list[FoldedModule], str]:
    """Return a module of all models with its layers folded; none, and why, if one moves."""
    if not merges:
        return [], ""
    made = []
    for inner, given in zip(inners, inputs, strict=True):
        if given is None:
            return [], "a copy of the model does not reach it"
        new = with_merges(inner, merges)
        error = _error(inner, new, given)
        if not error <= _most(inner, given):
            return [], f"the outputs of its module would move by {error:.3g}"
        folds = tuple(merge.fold for merge in merges)
        note = f"{', '.join(_said(folds))}, its outputs within {error:.2g}"
        made.append(FoldedModule(new, folds, note))
    return made, ""


def _error(module: nn.Module, other: nn.Module, inputs: ModuleInputs) -> float:
    """Return how far a module's outputs move, on what it is given in evaluation.

    Both run in the precision of the inputs, with weights that are rounded as they are stored.
    """
    ran = []
    for one in (module, other):
        made = _in_dtype(one, inputs)
        with untouched(made, training=False), torch.no_grad(), seeded(0):
            ran.append(inputs.run(made))
    return apart(*ran)


def _most(module: nn.Module, inputs: ModuleInputs) -> float:
    """Return how far its outputs may move: more if the weights are stored in half precision."""
    stored = (torch.finfo(dtype).eps for dtype in _floating(module) - {inputs.dtype})
    return max((MAX_ERROR, *stored))


def _said(folds: Sequence[LayerFold]) -> Iterator[str]:
    for fold in folds[:_SHOWN]:
        yield f"{' and '.join((*fold.norms, *fold.branches))} went into {fold.layer}"
    if len(folds) > _SHOWN:
        yield f"and {len(folds) - _SHOWN} more"


def _left(path: str, merges: Merges, wrong: str) -> Iterator[ShapeError]:
    """Yield an error for each batch norm that stays."""
    folded = [norm for merge in merges.found for norm in merge.fold.norms] if wrong else []
    for norm, why in {**merges.staying, **dict.fromkeys(folded, wrong)}.items():
        yield ShapeError(why, f"{path}.{norm}" if norm else path, "leave it so")


def _in_dtype(inner: nn.Module, inputs: ModuleInputs) -> nn.Module:
    """Return a module in the precision of what it is given; a copy if that is another one."""
    if inputs.dtype is None or _floating(inner) <= {inputs.dtype}:
        return inner
    return copy.deepcopy(inner).to(inputs.dtype)


def _floating(module: nn.Module) -> set[torch.dtype]:
    return {t.dtype for t in named_tensors(module).values() if t.is_floating_point()}


def _around(module: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Return the adapter and gate of a module around another one; their tensors stay the same."""
    if module is old:
        return new
    kept = {id(tensor): tensor for tensor in named_tensors(module).values()}
    made: nn.Module = copy.deepcopy(module, {**kept, id(old): new})
    return made


def _shared(model: nn.Module) -> frozenset[int]:
    """Return the ids of tensors that several modules hold."""
    held = Counter(
        id(tensor)
        for module in model.modules()
        for tensor in named_tensors(module, recurse=False).values()
    )
    return frozenset(one for one, count in held.items() if count > 1)
