"""The module tree of a loaded checkpoint, with shapes if a dummy input is given."""

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from modswap.core.asked.job import Subject
from modswap.core.errors import NAME_A_FACTORY, UsageError
from modswap.core.progress import Progress
from modswap.core.seen.site import Call
from modswap.core.seen.tree import BareParameter, Tree, TreeRow
from modswap.io.formats.container import Container
from modswap.io.formats.reading import read
from modswap.io.recognise.implied_tree import WEIGHTS, TensorSize, implied_rows
from modswap.live_values import module_paths, named_tensors, sizes_below
from modswap.nn.fake_tensors import needs_values
from modswap.ops.first_input.find import find_input
from modswap.ops.load.hub_folder import pretrained
from modswap.ops.load.model import Loaded
from modswap.ops.reopen import reopen
from modswap.ops.run.describe import class_name
from modswap.ops.run.inputs import Case, DummyCall
from modswap.ops.swap import refused
from modswap.ops.trace.passes import Trace, trace


def build_tree(subject: Subject, progress: Progress) -> Tree:
    """Return the module tree of a file, by loading it; with the subject's `inputs` it has shapes.

    For a file of weights without a factory, the tensor names imply the tree: paths, parameters and
    bytes; the classes are unknown. With inputs, a folder's config.json builds the model.

    Raises:
        ModswapError: As `read_tree`.
    """
    progress(f"loading {subject.file}")
    container = read(subject.file, subject.policy)
    slot = container.slots[0]
    shaped = bool(subject.inputs or subject.find_input)
    built = subject.factory or (shaped and pretrained(subject.file, slot.value))
    if slot.kind == "weights" and not built:
        _refuse_unbuilt(subject)
        return _implied(container)
    loaded = reopen(subject)
    seen: Trace | None = None
    found: tuple[str, ...] = ()
    if subject.inputs:
        progress("dummy pass")
        seen = _dummy_pass(loaded.model, DummyCall(subject.inputs, {}))
    elif shaped:
        progress("looking for an input that fits")
        first = find_input(loaded, "--input")
        seen, found = first.traced, (first.record.note,)
    calls = seen.seen.by_path() if seen is not None else {}
    rows = tuple(_rows(loaded, calls))
    notes = (*loaded.container.notes, *found, *_other_slots(container))
    return Tree(str(subject.file), container.format, rows, seen is not None, notes)


def _refuse_unbuilt(subject: Subject) -> None:
    """Refuse what needs a model where the file holds weights without code."""
    shaped = subject.inputs or subject.find_input
    if shaped or subject.renames:
        need = "shapes need" if shaped else "other names need"
        what = f"{need} a model, and the file holds weights without code"
        fix = "say how to build the model: `--model package.module:callable`"
        raise UsageError(what, str(subject.file), fix).with_retry(*NAME_A_FACTORY)


def _dummy_pass(model: nn.Module, call: DummyCall) -> Trace:
    """Run a pass, on fake tensors where they suffice, and return its trace."""
    traced = trace(model, Case(call), unreal=True)
    if traced.cause is not None and (needs_values(traced.cause) or not traced.seen.raised_in):
        traced = trace(model, Case(call))
    if traced.cause is not None:
        raise refused(traced)
    return traced


def _rows(loaded: Loaded, calls: Mapping[str, tuple[Call, ...]]) -> Iterator[TreeRow]:
    first: dict[nn.Module, str] = {}
    tensors: dict[int, str] = {}
    stored = loaded.stored.places if loaded.stored is not None else {}
    places = tuple(module_paths(loaded.model))
    params, nbytes = sizes_below(places)
    for number, (path, module, *_) in enumerate(places):
        known = first.setdefault(module, path)
        alias = "" if known == path else known
        yield TreeRow(
            path=path,
            class_name=class_name(module),
            params=params[number],
            nbytes=nbytes[number],
            alias_of=alias,
            calls=calls.get(known, ()),
            stored_as=stored.get(path, ()),
            ties=() if alias else tuple(_ties(path, module, tensors)),
            bare=() if alias else tuple(_bare(module)),
        )


def _bare(module: nn.Module) -> Iterator[BareParameter]:
    """Yield a module's own parameters, if it has modules in it."""
    if any(True for _ in module.children()):
        for name, own in module.named_parameters(recurse=False):
            yield BareParameter(name, own.numel(), own.numel() * own.element_size())


def _ties(path: str, module: nn.Module, tensors: dict[int, str]) -> Iterator[tuple[str, str]]:
    """Yield a module's own tensors that were met before, with the name that they had there."""
    for name, tensor in named_tensors(module, recurse=False).items():
        full = f"{path}.{name}" if path else name
        known = tensors.setdefault(id(tensor), full)
        if known != full:
            yield name, known


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
    floating = tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized
    return TensorSize(tensor.numel(), nbytes, place, floating)


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
