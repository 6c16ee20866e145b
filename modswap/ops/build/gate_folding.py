"""Fold the gate of an inserted module into the module's last linear layer."""

import copy
from dataclasses import dataclass, replace

import torch
from torch import nn

from modswap.core.seen.joint import Form, Joint
from modswap.live_values import named_tensors
from modswap.nn.insertion import Insertion
from modswap.ops.build.folding.flow import ModuleInputs
from modswap.ops.run.isolation import untouched
from modswap.seeds import seeded

_TOLERANCE = 1e-5  # of the largest output; the layers round in another order
# the size of the factors that are tried; large ones reach a bound of the output, if it has one
_SIZES = (1.0, 100.0, 0.01)
# layers whose output is scaled by scaling their weight and bias, one value for each channel
_LINEAR = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm),
)


@dataclass(frozen=True, slots=True)
class Folded:
    """An inserted module without a gate.

    Args:
        module: The module, in its new form.
        layer: The layer that the gate went into, by its path in the new module, which is empty for
            the new module itself; None where no layer changed.
    """

    module: Insertion
    layer: str | None = None


def without_gate(
    inserted: Insertion, joint: Joint, given: ModuleInputs, *, at_one: bool
) -> Folded | None:
    """Return an inserted module without its gate, which computes the same; None if there is none.

    The gate of a module that is added goes into the last layer whose output it can scale: that is
    tried with other gates of the same signs, on what the module was given and on other values. A
    gate of 1 is left out. `joint` is how the module is joined; `at_one` takes every gate as 1.
    """
    gate = inserted.gate
    if gate is None:
        return None
    if at_one or bool((gate == 1).all()):
        form = _AT_ONE.get((joint.form, joint.place == "around"))
        return Folded(_joined(inserted, joint, form)) if form else None
    if joint.form != "add" or not bool(gate.any()):
        return None
    layer = _last_layer(inserted.module, gate.detach(), joint.axes, given)
    if layer is None:
        return None
    made = _joined(inserted, joint, "sum", layer)
    _scale(made.module.get_submodule(layer), gate.detach())
    return Folded(made, layer)


# the form without a gate that computes the same as one with a gate of 1; around a module or not
_AT_ONE: dict[tuple[Form, bool], Form] = {
    ("add", False): "sum",
    ("add", True): "sum",
    ("scale", False): "plain",
}


def _joined(inserted: Insertion, joint: Joint, form: Form, layer: str | None = None) -> Insertion:
    """Return the module joined in a form without a gate; the parameters of a layer are copies."""
    own = inserted.module.get_submodule(layer).parameters() if layer is not None else ()
    copies = {id(parameter) for parameter in own}
    kept = {id(t): t for t in named_tensors(inserted.module).values() if id(t) not in copies}
    made = Insertion(copy.deepcopy(inserted.module, kept), replace(joint, form=form))
    made.training = inserted.training
    return made


def _last_layer(
    module: nn.Module, gate: torch.Tensor, axes: int, given: ModuleInputs
) -> str | None:
    """Return the last layer of a module that scales its output as a gate would.

    A module that is stored in half precision is tried in the precision of what it was given.
    """
    dtype = given.dtype or gate.dtype
    if any(t.is_floating_point() and t.dtype != dtype for t in named_tensors(module).values()):
        module, gate = copy.deepcopy(module).to(dtype), gate.to(dtype)
    with untouched(module, training=False), torch.no_grad(), seeded(0):
        order = _order(module, given)
        return next((path for path in order if _scales(module, path, gate, axes, given)), None)


def _order(module: nn.Module, given: ModuleInputs) -> list[str]:
    """Return the linear layers of a module: those called, the last one first, then the others.

    A module may use a layer's weights without calling it.
    """
    ran: list[str] = []
    layers = {p: layer for p, layer in module.named_modules() if type(layer) in _LINEAR}
    hooks = [
        layer.register_forward_hook(lambda *_, path=path: ran.append(path))
        for path, layer in layers.items()
    ]
    try:
        given.run(module)
    finally:
        for hook in hooks:
            hook.remove()
    return [*dict.fromkeys([*reversed(ran), *reversed(layers)])]


def _scales(
    module: nn.Module, path: str, gate: torch.Tensor, axes: int, given: ModuleInputs
) -> bool:
    """Return whether factors in a layer's weight and bias come out as factors of the output."""
    layer = module.get_submodule(path)
    weight = getattr(layer, "weight", None)
    if weight is None or (gate.numel() > 1 and len(weight) != gate.numel()):
        return False
    if _holders(module, layer) > 1:
        return False
    try:
        return all(
            _comes_out(module, path, size * _factors(gate), axes, inputs)
            for inputs, size in zip((given, given.drawn(), given.drawn()), _SIZES, strict=True)
        )
    except Exception:  # noqa: BLE001 - the module's code is anyone's: what fails is not folded
        return False


def _factors(gate: torch.Tensor) -> torch.Tensor:
    return gate.sign() * torch.empty_like(gate).uniform_(0.5, 2)


def _comes_out(
    module: nn.Module, path: str, factors: torch.Tensor, axes: int, given: ModuleInputs
) -> bool:
    """Return whether these factors in a layer are those of the output, which is not 0."""
    plain = _output(module, given)
    other = copy.deepcopy(module)
    _scale(other.get_submodule(path), factors)
    scaled = _output(other, given)
    if plain is None or scaled is None:
        return False
    wanted = plain * factors.view(-1, *[1] * axes)
    most = float(wanted.abs().max())
    return most > 0 and float((scaled - wanted).abs().max()) <= _TOLERANCE * most


def _holders(module: nn.Module, layer: nn.Module) -> int:
    """Return the most modules that hold a parameter of a layer."""
    own = {id(parameter) for parameter in layer.parameters(recurse=False)}
    held = [id(p) for inner in module.modules() for p in inner.parameters(recurse=False)]
    return max(held.count(one) for one in own)


def _output(module: nn.Module, given: ModuleInputs) -> torch.Tensor | None:
    output = given.run(module)
    return output if isinstance(output, torch.Tensor) else None


def _scale(layer: nn.Module, factors: torch.Tensor) -> None:
    with torch.no_grad():
        for parameter in layer.parameters(recurse=False):
            parameter.mul_(factors.view(-1, *[1] * (parameter.ndim - 1)))
