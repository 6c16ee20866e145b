"""Fill a model with the weights of a file, and keep tied parameters tied."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modswap.core.asked.renames import Rename
from modswap.core.decided.renaming import found_renames
from modswap.live_values import module_paths
from modswap.ops.load.factory import Factory
from modswap.ops.load.lazy_layers import give_sizes
from modswap.ops.load.library_names import LibraryNames
from modswap.ops.load.stored import Naming, Stored

MAX_NAMES = 6  # of a list that an error prints
# buffers of these kinds hold counters and indices, which the model's own code computes
_COMPUTED = (torch.int64, torch.bool)


def stored_in(
    model: nn.Module,
    weights: Mapping[str, Any],
    renames: tuple[Rename, ...],
    library: LibraryNames | None,
    where: str,
    *,
    of_library: bool,
) -> Stored:
    """Return the tensors of a file as a model names them.

    The names are those of the model's `library` if the library wrote the file; else they are tried
    as they are, and then as the library has them.

    Raises:
        CheckpointError: If the library cannot convert a tensor of the file.
    """
    wanted = model.state_dict(keep_vars=True)
    plain = _stored(wanted, weights, Naming(renames), where)
    if library is None or (not of_library and not _missing(model, wanted, plain)):
        return plain
    return _stored(wanted, weights, Naming(renames, library), where)


def _stored(
    wanted: Mapping[str, Any], weights: Mapping[str, Any], naming: Naming, where: str
) -> Stored:
    parts, carried = naming.parts(weights, wanted)
    held: dict[str, Any] = {}
    sources: dict[str, tuple[str, ...]] = {}
    for part in parts:
        made = {part.target: weights[part.sources[0]]}
        if part.converter is not None and naming.library is not None:
            made = naming.library.made(part, weights, where)
        held |= {name: tensor for name, tensor in made.items() if name in wanted}
        sources |= {name: part.sources for name in made if name in wanted}
    return Stored(weights, held, sources, carried, naming, _left_out(wanted, held))


def _left_out(wanted: Mapping[str, Any], held: Mapping[str, Any]) -> dict[str, str]:
    """Return the names that a file leaves out, each with a name of the same tensor in the file."""
    ties: dict[str, str] = {}
    for group in _ties(wanted):
        known = [name for name in group if name in held]
        ties |= {name: known[0] for name in group if known and name not in held}
    return ties


def fill(model: nn.Module, stored: Stored, factory: Factory, where: str) -> tuple[str, ...]:
    """Put a file's weights into a model without a copy, and keep tied parameters tied.

    Returns:
        Notes on tensors of the file that are none of the model, and on those that the file leaves
        out and the model has by itself.

    Raises:
        ModswapError: Of the factory's kind, with the names that are missing or do not fit.
    """
    give_sizes(model, stored.weights, factory)
    wanted = model.state_dict(keep_vars=True)
    _refuse_unfit(model, wanted, stored, factory, where)
    ties = _ties(wanted)
    model.load_state_dict(stored.weights, strict=False, assign=True)
    _tie(model, ties, stored)
    return tuple(_notes(model, wanted, stored))


def _refuse_unfit(
    model: nn.Module, wanted: Mapping[str, Any], stored: Stored, factory: Factory, where: str
) -> None:
    """Refuse weights that do not fit a model, and offer the renamings after which they do."""
    tensors = {name: value for name, value in wanted.items() if torch.is_tensor(value)}
    missing = _missing(model, wanted, stored)
    mismatched = _mismatched(tensors, stored.weights)
    foreign = missing or mismatched or not stored.weights
    unexpected = [*(stored.carried if foreign else _more_layers(model, tensors, stored))]
    wrong = _listed({"missing": missing, "unexpected": unexpected, "mismatched": mismatched})
    if not wrong:
        return
    what = f"the model of {factory.name!r} does not fit the weights: {'; '.join(wrong)}"
    fix = f"build the model that {Path(where).absolute().name} was saved from"
    if not foreign:
        what += ", of the kind of its own layers"
        fix += _none_of_it(unexpected[0])
    if missing:
        fix = _renamings(tensors, stored, missing) or fix
    raise factory.error(what, factory.where, fix)


def _listed(found: Mapping[str, list[str]]) -> list[str]:
    return [f"{len(names)} {kind} ({_some(names)})" for kind, names in found.items() if names]


def _none_of_it(name: str) -> str:
    beginning = f"{name.rpartition('.')[0]}."
    return f"; if they are none of it, say so: `--rename '{beginning}=other.{beginning}'`"


def _mismatched(tensors: Mapping[str, Any], held: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} is {tuple(held[name].shape)} in the file, {tuple(value.shape)} in the model"
        for name, value in tensors.items()
        if name in held and held[name].shape != value.shape
    ]


def _renamings(tensors: Mapping[str, Any], stored: Stored, missing: list[str]) -> str:
    """Return the options that give every tensor its name in the model; empty if none do."""
    own = stored.carried | {sources[0]: name for name, sources in stored.sources.items()}
    shapes = {own[name]: _shape(value) for name, value in stored.raw.items() if name in own}
    wanted = {name: _shape(value) for name, value in tensors.items()}
    absent = frozenset(wanted) - frozenset(missing) - frozenset(shapes)
    answers = found_renames(shapes, wanted, absent)
    later = bool(stored.naming.renames)  # `--strip-prefix` comes before all of them
    lines = [" ".join(one.option(later=later) for one in answer) for answer in answers]
    if not lines:
        return ""
    return f"the names differ, and all fit with {' or with '.join(f'`{line}`' for line in lines)}"


def _shape(value: torch.Tensor) -> tuple[int, ...]:
    return () if value.is_nested else tuple(value.shape)


def _missing(model: nn.Module, wanted: Mapping[str, Any], stored: Stored) -> list[str]:
    """Return the tensors of a model that neither the file nor the model's own code gives it."""
    known = stored.weights.keys() | stored.ties.keys() | set(_by_itself(model, wanted, stored))
    return [name for name, value in wanted.items() if torch.is_tensor(value) and name not in known]


def _by_itself(model: nn.Module, wanted: Mapping[str, Any], stored: Stored) -> Iterator[str]:
    """Yield the buffers that the file leaves out and that the model's own code computes."""
    ignored = _patterns(model, "_keys_to_ignore_on_load_missing")
    for name, value in wanted.items():
        if name in stored.weights or not torch.is_tensor(value) or isinstance(value, nn.Parameter):
            continue
        if value.dtype in _COMPUTED or any(re.search(pattern, name) for pattern in ignored):
            yield name


def _patterns(model: nn.Module, attribute: str) -> list[str]:
    """Return the patterns of names that a class of transformers passes over."""
    held = getattr(model, attribute, None)
    return [one for one in held if isinstance(one, str)] if isinstance(held, (list, set)) else []


def _more_layers(model: nn.Module, tensors: Mapping[str, Any], stored: Stored) -> Iterator[str]:
    """Yield the names in the file that differ from parameters of the model by numbers alone."""
    ignored = _patterns(model, "_keys_to_ignore_on_load_unexpected")
    kinds = {
        (_numbered(name), _shape(value))
        for name, value in tensors.items()
        if isinstance(value, nn.Parameter)
    }
    for name, new in stored.carried.items():
        value = stored.raw[name]
        if not torch.is_tensor(value) or any(re.search(one, new) for one in ignored):
            continue
        if new not in tensors and (_numbered(new), _shape(value)) in kinds:
            yield name


def _numbered(name: str) -> str:
    """Return a name without the numbers of its layers."""
    return ".".join("#" if segment.isdecimal() else segment for segment in name.split("."))


def _notes(model: nn.Module, wanted: Mapping[str, Any], stored: Stored) -> Iterator[str]:
    carried, own = list(stored.carried), list(_by_itself(model, wanted, stored))
    if carried:
        tensors = "1 tensor" if len(carried) == 1 else f"{len(carried)} tensors"
        listed = _some(carried)
        yield f"{tensors} of the file that the model does not have: kept as in the file ({listed})"
    if own:
        buffers = "1 buffer" if len(own) == 1 else f"{len(own)} buffers"
        yield f"{buffers} that the file leaves out: as the model's own code has them ({_some(own)})"


def _some(names: list[str]) -> str:
    more = f", … and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def _ties(tensors: Mapping[str, Any]) -> list[list[str]]:
    """Return the groups of names that hold one tensor object."""
    groups: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        if torch.is_tensor(tensor):
            groups.setdefault(id(tensor), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _tie(model: nn.Module, ties: list[list[str]], stored: Stored) -> None:
    weights = stored.weights
    modules = {place.path: place.module for place in module_paths(model)}
    for names in ties:
        first = next((name for name in names if name in weights), "")
        if not first:
            continue  # the model has it by itself
        tensor = _table(modules, first)[first.rpartition(".")[2]]
        for name in names:
            # the file may hold two
            if name not in weights or _alike(weights[first], weights[name]):
                _table(modules, name)[name.rpartition(".")[2]] = tensor


def _table(modules: Mapping[str, nn.Module], name: str) -> dict[str, Any]:
    """Return the table of a module that holds a parameter or buffer."""
    owner, _, leaf = name.rpartition(".")
    module = modules[owner]
    parameters: dict[str, Any] = module._parameters
    return parameters if leaf in parameters else module._buffers


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (a.data_ptr() == b.data_ptr() and a.shape == b.shape) or torch.equal(a, b)
