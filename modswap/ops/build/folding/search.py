"""Search for layers of a module that other layers can do the work of, and fold them.

Each fold is tried: with other weights, drawn several times, the module has to compute the same in
double precision, on other inputs as well. So a batch norm behind a convolution whose output is used
elsewhere as well stays, and so do branches whose outputs are bounded before they are added.
"""

import copy
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from modswap.core.decided.blueprint import LayerFold
from modswap.live_values import live_tensors, named_tensors
from modswap.nn.folded_layers import LINEAR, NORMS, refolded
from modswap.ops.build.folded_places import fold_of
from modswap.ops.build.folding.flow import LayerCall, ModuleInputs, layer_calls, normed, same_input
from modswap.ops.build.folding.weights import TapWeights, added, identity_of, map_of, set_weights
from modswap.ops.run.isolation import set_mode, untouched
from modswap.seeds import kept_random_state, seeded

# the scale of drawn weights, and whether the inputs are drawn too; large values reach every bound
_DRAWS = ((1.0, False), (1.0, True), (100.0, True))
_TOLERANCE = 1e-9  # of the largest output, in double precision
_NO_STATISTICS = "it takes its statistics from each batch, in evaluation as well"
_NOTHING_BEFORE = "no plain convolution or linear layer gives it its input"
_OTHERS = "the outputs would be others: what comes before it is used otherwise as well"
_SHARED = "its weights, or those of the layer before it, are other modules' as well"
_NOT_REACHED = "the dummy input does not reach it"


class Branch(NamedTuple):
    """A linear layer with the batch norm behind it, or a batch norm alone, by their paths."""

    layer: str
    norm: str = ""


@dataclass(frozen=True, slots=True)
class Merge:
    """Branches whose sum the layer of the first one can compute."""

    own: Branch
    others: tuple[Branch, ...] = ()

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Return all of them."""
        return (self.own, *self.others)

    @property
    def fold(self) -> LayerFold:
        """Return the structure that is left."""
        norms = tuple(one.norm for one in self.branches if one.norm)
        return LayerFold(self.own.layer, norms, tuple(one.layer for one in self.others))


@dataclass(frozen=True, slots=True)
class Merges:
    """The layers of a module that can be folded, and the batch norms that cannot, with reasons."""

    found: tuple[Merge, ...] = ()
    staying: Mapping[str, str] = field(default_factory=dict)


def merges_of(module: nn.Module, inputs: ModuleInputs, shared: Set[int] = frozenset()) -> Merges:
    """Return the layers of a module that can be folded, seen in a pass on these inputs.

    `shared` has the ids of tensors that several modules hold, which stay as they are.
    """
    with untouched(module, training=False), torch.no_grad(), seeded(0):
        every = layer_calls(module, inputs)
        calls = [call for call in every if not _ids(call.layer) & shared]
        found, staying = _behind_layers(module, calls, inputs)
        found = _with_branches(module, calls, found, inputs)
    for linear, norm in normed(every):
        if (_ids(linear.layer) | _ids(norm.layer)) & shared:
            staying.setdefault(norm.path, _SHARED)
    gone = {path for merge in found for path in (*merge.fold.norms, *merge.fold.branches)}
    norms = {p: m for p, m in module.named_modules() if type(m) in NORMS and p not in gone}
    reached = {call.path for call in every}
    left = {p: staying.get(p) or _reason(m, reached=p in reached) for p, m in norms.items()}
    return Merges(found, left)


def with_merges(module: nn.Module, merges: Sequence[Merge]) -> nn.Module:
    """Return a copy of a module with layers folded; tensors of other layers are the same ones.

    Raises:
        ValueError: If the layers cannot be folded so.
    """
    layers = dict(module.named_modules())
    touched = (path for merge in merges for branch in merge.branches for path in branch if path)
    changed = {one for path in touched for one in _ids(layers[path])}
    kept = {id(t): t for t in named_tensors(module).values() if id(t) not in changed}
    made = refolded(copy.deepcopy(module, kept), [merge.fold for merge in merges])
    for merge in merges:
        set_weights(made.get_submodule(merge.own.layer), _sum(layers, merge))
    return made


def apart(one: Any, other: Any) -> float:
    """Return how far outputs are from others, by the largest of these; infinite for other forms."""
    olds, news = live_tensors(one), live_tensors(other)
    if not olds or [t.shape for t in olds] != [t.shape for t in news]:
        return math.inf
    return max((_apart(old, new) for old, new in zip(olds, news, strict=True)), default=math.inf)


def _apart(old: torch.Tensor, new: torch.Tensor) -> float:
    if not old.is_floating_point():
        return 0.0 if torch.equal(old, new) else math.inf
    most = float(old.abs().max()) if old.numel() else 0.0
    distance = float((new - old).abs().max()) if old.numel() else 0.0
    if math.isnan(distance):
        return math.inf
    return distance / most if most else (0.0 if distance == 0 else math.inf)


def _ids(layer: nn.Module) -> set[int]:
    return {id(tensor) for tensor in named_tensors(layer).values()}


def _reason(norm: Any, *, reached: bool) -> str:
    """Return why a batch norm stays that no layer was tried for."""
    if norm.running_var is None:
        return _NO_STATISTICS
    return _NOTHING_BEFORE if reached else _NOT_REACHED


def _behind_layers(
    module: nn.Module, calls: list[LayerCall], inputs: ModuleInputs
) -> tuple[tuple[Merge, ...], dict[str, str]]:
    """Return the batch norms that go into the layers before them, and reasons for others."""
    staying: dict[str, str] = {}
    candidates: dict[str, Merge] = {}
    for linear, norm in normed(calls):
        if reason := _refused(module, linear, norm):
            staying[norm.path] = reason
        else:
            candidates[norm.path] = Merge(Branch(linear.path, norm.path))
    every = tuple(candidates.values())
    if len({merge.own.layer for merge in every}) == len(every) and _holds(module, every, inputs):
        return every, staying
    found: tuple[Merge, ...] = ()
    for path, merge in candidates.items():
        if _holds(module, (*found, merge), inputs):
            found = (*found, merge)
        else:
            staying[path] = _OTHERS
    return found, staying


def _refused(module: nn.Module, linear: LayerCall, norm: LayerCall) -> str:
    """Return why a batch norm is not even tried; empty if it is."""
    if (layer := cast("Any", norm.layer)).running_var is None:
        return _NO_STATISTICS
    if layer.num_features != len(cast("torch.Tensor", linear.layer.weight)):
        return _NOTHING_BEFORE
    around, _, name = norm.path.rpartition(".")
    unit = module.get_submodule(around)
    if fold_of(unit, name) == "forward_fuse":
        return f"its class, {type(unit).__name__}, folds it itself, where its library calls `fuse`"
    return ""


def _with_branches(
    module: nn.Module, calls: list[LayerCall], found: tuple[Merge, ...], inputs: ModuleInputs
) -> tuple[Merge, ...]:
    """Return merges, and those of branches whose outputs are added to that of a layer."""
    merges = {merge.own.layer: merge for merge in found}
    for group in same_input(_ends(calls, found)):
        linear = [call for call in group if type(call.layer) in LINEAR]
        if not linear:
            continue
        head = max(linear, key=lambda call: cast("torch.Tensor", call.layer.weight)[0].numel()).path
        for path in dict.fromkeys(call.path for call in group if call.path != head):
            own = merges.get(head, Merge(Branch(head)))
            other = merges.get(path, Merge(Branch(path)))
            joined = Merge(own.own, (*own.others, *other.branches))
            tried = {key: merge for key, merge in merges.items() if key != path} | {head: joined}
            if _holds(module, tuple(tried.values()), inputs):
                merges = tried
    return tuple(merges.values())


def _ends(calls: list[LayerCall], found: tuple[Merge, ...]) -> list[LayerCall]:
    """Return the calls of layers that can be branches, with what the norms behind them give."""
    norms = {merge.own.layer: merge.own.norm for merge in found}
    gave = {call.path: call.gave for call in calls}
    free = [call for call in calls if call.path not in norms.values()]
    return [
        replace(call, gave=gave[norms[call.path]]) if call.path in norms else call
        for call in free
        if type(call.layer) in LINEAR or cast("Any", call.layer).running_var is not None
    ]


def _holds(module: nn.Module, merges: Sequence[Merge], inputs: ModuleInputs) -> bool:
    """Return whether a module computes the same with layers folded, for weights drawn anew."""
    given = inputs.copied(torch.float64)
    try:
        for scale, varied in _DRAWS:
            other = _drawn(copy.deepcopy(module).double(), scale)
            taken = given.drawn() if varied else given
            with kept_random_state():
                wanted = taken.run(other)
            if scale > 1 and not _is_finite(wanted):
                continue  # so large that it shows nothing
            with kept_random_state():
                found = taken.run(with_merges(other, merges))
            if not apart(wanted, found) <= _TOLERANCE:
                return False
    except Exception:  # noqa: BLE001 - the module's code is anyone's: what fails is not folded
        return False
    return True


def _is_finite(value: Any) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in live_tensors(value))


def _drawn(module: nn.Module, scale: float) -> nn.Module:
    """Return a module with weights and statistics drawn anew, none of them 0."""
    set_mode(module, training=False)
    for layer in module.modules():
        for name, tensor in named_tensors(layer, recurse=False).items():
            if not tensor.is_floating_point():
                continue
            if "var" in name:
                tensor.uniform_(0.5, 2)
            elif tensor.ndim > 1:
                tensor.normal_(std=scale / math.sqrt(max(1, tensor[0].numel())))
            else:
                tensor.normal_().add_(0.25)
    return module


def _sum(layers: Mapping[str, nn.Module], merge: Merge) -> TapWeights:
    """Return the weights of a layer with what goes into it."""
    total = map_of(layers[merge.own.layer], layers.get(merge.own.norm or "\0"))
    for layer, norm in merge.others:
        if total is None:
            break
        alone = type(layers[layer]) in NORMS
        other = (
            identity_of(layers[layer], total)
            if alone
            else map_of(layers[layer], layers.get(norm or "\0"))
        )
        total = added(total, other) if other is not None else None
    if total is None:
        raise ValueError(f"the layers at {merge.own.layer!r} cannot be one")
    return total
