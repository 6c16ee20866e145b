"""The module tree of a loaded checkpoint, with shapes if a dummy input is given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from modswap.core.asked.job import ALL_SHAPES, Layers, Subject
from modswap.core.errors import NAME_A_FACTORY, UsageError
from modswap.core.progress import Progress
from modswap.core.seen.site import Call
from modswap.core.seen.tree import OutputValues, Tree
from modswap.io.formats.container import Container
from modswap.io.formats.reading import read
from modswap.io.formats.target import refuse_target
from modswap.io.recognise.implied_tree import WEIGHTS, TensorSize, implied_rows
from modswap.live_values import dtype_name, module_paths
from modswap.nn.fake_tensors import needs_values
from modswap.ops.first_input.find import find_input
from modswap.ops.first_input.from_file import read_input
from modswap.ops.jobs.layer_outputs import layer_outputs, save_outputs
from modswap.ops.load.hub_folder import pretrained
from modswap.ops.load.model import Loaded
from modswap.ops.measure.layer_flops import layer_flops
from modswap.ops.reopen import reopen
from modswap.ops.run.inputs import Case, DummyCall
from modswap.ops.run.module_rows import KnownFacts, is_floating, module_rows
from modswap.ops.swap import refused
from modswap.ops.trace.passes import Trace, trace


def build_tree(subject: Subject, progress: Progress, layers: Layers = ALL_SHAPES) -> Tree:
    """Return the module tree of a file, by loading it; with the subject's inputs it has shapes.

    With `layers` these modules have the values that they put out.

    For a file of weights without a factory, the tensor names imply the tree: paths, parameters and
    bytes; the classes are unknown. With inputs, a folder's config.json builds the model.

    Raises:
        ModswapError: As `read_tree`.
    """
    progress(f"loading {subject.file}")
    container = read(subject.file, subject.policy)
    slot = container.slots[0]
    shaped = bool(subject.inputs or subject.find_input or subject.input_files)
    built = subject.factory or (shaped and pretrained(subject.file, slot.value))
    if slot.kind == "weights" and not built:
        _refuse_unbuilt(subject)
        return _implied(container)
    loaded = reopen(subject)
    seen = _seen(loaded, subject, progress) if shaped else _Seen()
    outputs = _outputs(loaded, seen, layers, subject, progress)
    stored = loaded.stored.places if loaded.stored is not None else {}
    known = KnownFacts(seen.calls, seen.flops, outputs, stored)
    rows = tuple(module_rows(loaded.model, known))
    notes = (*loaded.container.notes, *seen.notes, *_other_slots(container))
    return Tree(str(subject.file), container.format, rows, shaped, notes)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The record of the first pass: its call, the calls of modules, FLOPs, and notes."""

    call: DummyCall | None = None
    calls: Mapping[str, tuple[Call, ...]] = field(default_factory=dict)
    flops: Mapping[nn.Module, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def _seen(loaded: Loaded, subject: Subject, progress: Progress) -> _Seen:
    """Run a pass on the inputs that were given, or on those that are found."""
    notes: tuple[str, ...] = ()
    if subject.inputs or subject.input_files:
        progress("dummy pass" if subject.inputs else "pass")
        read = [read_input(text) for text in subject.input_files]
        notes = tuple(note for _, note in read)
        call = DummyCall((*subject.inputs, *(tensor for tensor, _ in read)), {})
        traced = _dummy_pass(loaded.model, call)
    else:
        progress("looking for an input that fits")
        first = find_input(loaded, "--input")
        call, traced, notes = first.calls[0], first.traced, (first.record.note,)
    progress("counting operations")
    return _Seen(call, traced.seen.by_path(), layer_flops(loaded.model, Case(call)), notes)


def _outputs(
    loaded: Loaded, seen: _Seen, layers: Layers, subject: Subject, progress: Progress
) -> Mapping[str, Sequence[OutputValues]]:
    """Return the values that the wanted modules put out, and write them where that is asked for."""
    if layers.wanted is None or seen.call is None:
        return {}
    if layers.out is not None:
        refuse_target(subject.file, layers.out, force=layers.force)
    progress("pass on real values")
    first: dict[nn.Module, str] = {}  # of its paths
    for path, module, *_ in module_paths(loaded.model):
        if layers.wanted(path):
            first.setdefault(module, path)
    modules = {path: module for module, path in first.items()}
    found = layer_outputs(loaded.model, seen.call, modules, keep=layers.out is not None)
    if layers.out is not None:
        save_outputs(found, subject.file, layers.out, force=layers.force)
    return found.values


def _refuse_unbuilt(subject: Subject) -> None:
    """Refuse what needs a model where the file holds weights without code."""
    shaped = subject.inputs or subject.find_input or subject.input_files
    if shaped or subject.renames:
        need = "shapes need" if shaped else "other names need"
        what = f"{need} a model, and the file holds weights without code"
        fix = "say how to build the model: `--model package.module:callable`"
        raise UsageError(what, str(subject.file), fix).with_retry(*NAME_A_FACTORY)


def _dummy_pass(model: nn.Module, call: DummyCall) -> Trace:
    """Run a pass, on fake tensors where they suffice, and return its trace."""
    traced = trace(model, Case(call), unreal=True, quick=True)
    if traced.cause is not None and (needs_values(traced.cause) or not traced.seen.raised_in):
        traced = trace(model, Case(call))
    if traced.cause is not None:
        raise refused(traced)
    return traced


def _other_slots(container: Container) -> tuple[str, ...]:
    others = [".".join(slot.keys) for slot in container.slots[1:]]
    if not others:
        return ()
    shown = ".".join(container.slots[0].keys)
    return (f"shown is {shown!r}; the file also holds the model under {', '.join(others)}",)


def _size(tensor: torch.Tensor) -> TensorSize:
    nbytes = tensor.numel() * tensor.element_size()
    plain = tensor.layout is torch.strided and tensor.device.type != "meta"
    place = (tensor.data_ptr(), tensor.numel()) if plain and nbytes else None
    dtype = dtype_name(tensor.dtype)
    return TensorSize(tensor.numel(), nbytes, place, is_floating(tensor), dtype)


def _implied(container: Container) -> Tree:
    """Return the tree that the tensor names imply."""
    weights: Mapping[str, torch.Tensor] = container.slots[0].value
    sizes = {name: _size(tensor) for name, tensor in weights.items()}
    rows = implied_rows(sizes)
    return Tree(
        str(container.file),
        container.format,
        rows,
        notes=(*container.notes, WEIGHTS, *_other_slots(container)),
    )
