"""Export a model in the way in which it was exported before."""

import inspect
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, Protocol, cast

import torch
from torch import nn
from torch.utils._pytree import tree_unflatten

from modswap.core.errors import ShapeError
from modswap.io.formats.exported.graphs import given, own_sizes, plain_signatures, unsign
from modswap.live_values import map_leaves

ATTRIBUTE = "modswap_export"  # where a model bears its `Export`
_UNFLATTEN = "torch.export.unflatten"
_SYMBOL = re.compile(r"\w+")


class Program(Protocol):
    """The members of torch's `ExportedProgram` that are used here."""

    graph: Any
    graph_signature: Any
    module_call_graph: Any
    range_constraints: Any
    example_inputs: Any
    call_spec: Any

    def module(self) -> nn.Module:
        """Return a callable module."""
        ...


@dataclass(frozen=True, slots=True)
class Export:
    """The way to export a model: its inputs and their sizes.

    Args:
        args: Positional example inputs.
        kwargs: Example inputs by keyword.
        names: The names of the positional inputs.
        shapes: The dynamic shapes of each name, as torch defines them; empty: all sizes are fixed.
        signed: How many inputs each module has whose call signature the archive holds, by its path.
        sizes: The sizes that each input may have, in words.
        extra: The archive's extra files, modswap's own left out.
        training: Whether it was exported in training mode.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    names: tuple[str, ...]
    shapes: Mapping[str, Any] = field(default_factory=dict)
    signed: Mapping[str, int] = field(default_factory=dict)
    sizes: tuple[str, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)
    training: bool = False


def export_of(model: nn.Module) -> Export | None:
    """Return how a model was exported; None if it came from no archive."""
    found = vars(model).get(ATTRIBUTE)
    return found if isinstance(found, Export) else None


def is_stand_in(module: nn.Module) -> bool:
    """Return whether torch made a module from a graph, in the place of one of the model's own."""
    return type(module).__module__ == _UNFLATTEN


def unflattened(program: Program, extra: Mapping[str, str]) -> nn.Module:
    """Return an archive's program as a module with the tree that was exported."""
    with quiet():
        own_sizes(program.graph)
        try:
            model = torch.export.unflatten(cast("Any", program))
        except Exception:  # noqa: BLE001 - torch raises any error of its graphs
            # signatures may not fit a graph that uses a value inside a module and outside it
            unsign(program)
            model = torch.export.unflatten(cast("Any", program))
    found = _export(program, extra)
    names = (*found.names, *found.kwargs)
    vars(model)["flat_args_adapter"] = _Inputs(names, program.call_spec.in_spec.num_leaves)
    # torch prints to standard output before it adapts inputs for the first time
    vars(model)["adapted"] = True
    for module in model.modules():
        module.training = found.training
    vars(model)[ATTRIBUTE] = found
    return model


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The adapter that torch calls for inputs of another structure."""

    names: tuple[str, ...]
    leaves: int

    def adapt(self, *_: Any, **__: Any) -> list[Any]:
        """Refuse them."""
        raise TypeError(f"it was exported for the inputs ({', '.join(self.names)})")

    def get_flat_arg_paths(self) -> list[str]:
        """Return the names of the inputs for error messages."""
        return list(self.names) if len(self.names) == self.leaves else []


def _export(program: Program, extra: Mapping[str, str]) -> Export:
    args, kwargs = program.example_inputs or ((), {})
    root, *others = program.module_call_graph
    known = root.signature.forward_arg_names or ()
    names = tuple(known[: len(args)]) if len(known) >= len(args) else ()
    names = names or tuple(f"arg{number}" for number in range(len(args)))
    spec = program.call_spec.in_spec
    shapes: Mapping[str, Any] = {}
    if program.example_inputs and program.range_constraints:
        ranges = program.range_constraints.items()
        dims = {str(symbol): _dim(str(symbol), r) for symbol, r in ranges if symbol.is_Symbol}
        leaves = [_dynamic_axes(value, dims) for value in _input_values(program)]
        in_args, in_kwargs = tree_unflatten(leaves, spec)
        shapes = {**dict(zip(names, in_args, strict=True)), **in_kwargs}
    return Export(
        args=tuple(args),
        kwargs=dict(kwargs),
        names=names,
        shapes=shapes,
        signed={one.fqn: given(one.signature) for one in others if one.signature is not None},
        sizes=_sizes(program),
        extra=extra,
        training=_trains(program),
    )


def _input_values(program: Program) -> list[Any]:
    """Return the value of every input in the graph: a tensor without data, or a constant."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    wanted = [s.arg for s in program.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
    found = (nodes.get(getattr(arg, "name", "")) for arg in wanted)
    return [None if node is None else node.meta.get("val") for node in found]


def _dynamic_axes(value: Any, dims: Mapping[str, Any]) -> dict[int, Any] | None:
    """Return the dynamic axes of an input, by the dimension of each symbol; None if it has none."""
    if not isinstance(value, torch.Tensor):
        return None
    sizes: Any = value.shape  # numbers, and symbols for those that may vary
    open_axes = {a: size for a, size in enumerate(sizes) if not isinstance(size, int)}
    return {axis: _dynamic(size, dims) for axis, size in open_axes.items()} or None


def _dynamic(size: Any, dims: Mapping[str, Any]) -> Any:
    """Return the dimension for a size: a multiple of a symbol and a summand."""
    expression = size.node.expr
    symbols = list(expression.free_symbols)
    factor = expression.diff(symbols[0])
    if len(symbols) > 1 or not factor.is_Integer or str(symbols[0]) not in dims:
        return torch.export.Dim.AUTO
    dim = dims[str(symbols[0])]
    summand = int(expression.subs(symbols[0], 0))
    dim = dim if factor == 1 else int(factor) * dim
    return dim + summand if summand else dim


def _dim(name: str, allowed: Any) -> Any:
    low, high = (int(end) if _finite(end) else None for end in (allowed.lower, allowed.upper))
    return torch.export.Dim(name, min=low, max=high)


def _finite(end: Any) -> bool:
    return isinstance(end, int) or bool(getattr(end, "is_Integer", False))


def _sizes(program: Program) -> tuple[str, ...]:
    """Return the sizes that each input may have in words, with ranges for symbols."""
    ranges = {str(symbol): str(found) for symbol, found in program.range_constraints.items()}
    words = []
    for value in _input_values(program):
        if not isinstance(value, torch.Tensor):
            words.append(type(value).__name__)
            continue
        sizes = [size_in_words(size, ranges) for size in value.shape]
        words.append(f"({', '.join(sizes)})")
    return tuple(words)


def size_in_words(size: Any, ranges: Mapping[str, str]) -> str:
    """Return a size of an input in words, each symbol replaced by its range as torch prints it."""
    if isinstance(size, int):
        return str(size)
    found = {s: text.replace("VR", "").replace("int_oo", "…") for s, text in ranges.items()}
    return _SYMBOL.sub(lambda symbol: found.get(symbol[0], symbol[0]), str(size.node.expr))


def _trains(program: Program) -> bool:
    """Return whether dropout or batch norm in a graph runs in training mode."""
    flags = {"aten.batch_norm.default": 5, "aten.dropout.default": 2}
    places = ((node, flags.get(str(node.target))) for node in program.graph.nodes)
    return any(place and len(n.args) > place and n.args[place] is True for n, place in places)


def export(model: nn.Module, how: Export) -> tuple[Program, tuple[str, ...]]:
    """Export a model; return the program, and notes on it.

    Call signatures are kept for the modules that had them and for those that torch did not make
    from a graph, so that these can be swapped once more.

    Raises:
        ShapeError: If it does not run at every size that is asked for.
    """
    modules = {path: module for path, module in model.named_modules() if path}
    keep = tuple(path for path, m in modules.items() if path in how.signed or not is_stand_in(m))
    with quiet(), _in_mode(model, training=how.training), _named_inputs(model, how):
        program, notes = _first_that_works(model, how, keep)
    _name_classes(program, model)
    plain_signatures(program)
    if how.sizes and _sizes(program) != how.sizes:
        was, now = ", ".join(how.sizes), ", ".join(_sizes(program))
        notes += (f"the archive took inputs of {was}, the written one takes {now}",)
    return program, notes


def _first_that_works(
    model: nn.Module, how: Export, keep: tuple[str, ...]
) -> tuple[Program, tuple[str, ...]]:
    """Export as before; else without call signatures; else with the sizes that torch finds."""
    # torch raises many kinds of errors about signatures and shapes
    with suppress(Exception):
        return _exported(model, how, how.shapes, keep), ()
    try:
        return _exported(model, how, how.shapes, ()), (UNSIGNED,)
    except Exception as error:
        program = _as_torch_likes(model, how, keep)
        if program is None:
            raise _refused(error) from error
        return program, (UNCHECKED,)


def _as_torch_likes(model: nn.Module, how: Export, keep: tuple[str, ...]) -> Program | None:
    """Export with all sizes that torch can leave open; None if these are fewer than before."""
    shapes = map_leaves(lambda dim: None if dim is None else torch.export.Dim.AUTO, how.shapes)
    try:
        program = _exported(model, how, shapes, keep)
    except Exception:  # noqa: BLE001 - the first error is the one that is reported
        return None
    return program if _open(_sizes(program)) == _open(how.sizes) else None


def _open(sizes: tuple[str, ...]) -> list[int]:
    """Return how many axes of each input may vary."""
    return [size.count("[") for size in sizes]


UNSIGNED = (
    "torch could not record how the modules are called: "
    "what goes in later has to take one tensor and no more"
)
UNCHECKED = (
    "torch cannot tell that every size holds that the archive took: "
    "the written one refuses some of them when it is run"
)


def _refused(error: Exception) -> ShapeError:
    text = " ".join(str(error).split())[:600]
    what = f"torch.export refuses the swapped model: {type(error).__name__}: {text}"
    fix = (
        "choose a module that runs at every size of the archive, "
        "or swap in the eager model and export that with the sizes that hold"
    )
    return ShapeError(what, "the model", fix)


def _exported(
    model: nn.Module, how: Export, shapes: Mapping[str, Any], keep: tuple[str, ...]
) -> Program:
    program = torch.export.export(
        model,
        how.args,
        dict(how.kwargs),
        dynamic_shapes=dict(shapes) or None,
        preserve_module_call_signature=keep,
    )
    return cast("Program", program)


def _name_classes(program: Program, model: nn.Module) -> None:
    """Write into a program's graph the classes that stand-ins stand for."""
    names = {
        path: module.type_name()
        for path, module in model.named_modules(remove_duplicate=False)
        if is_stand_in(module) and callable(module.type_name)
    }
    for node in program.graph.nodes:
        stack = node.meta.get("nn_module_stack")
        if stack:
            node.meta["nn_module_stack"] = {
                key: (path, names.get(path.split("@")[0]) or kind)
                for key, (path, kind) in stack.items()
            }


@contextmanager
def _in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Set every module's training flag for the time of a block."""
    before = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in before:
            module.training = training
        yield
    finally:
        for module, flag in before:
            module.training = flag


@contextmanager
def _named_inputs(model: nn.Module, how: Export) -> Iterator[None]:
    """Give the inputs of a module that torch made their names back, for the time of a block."""
    if not is_stand_in(model):
        yield
        return
    forward = model.forward

    def named(*args: Any, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    parameter = inspect.Parameter
    vars(named)["__signature__"] = inspect.Signature(
        [parameter(name, parameter.POSITIONAL_OR_KEYWORD) for name in how.names]
        + [parameter(name, parameter.KEYWORD_ONLY) for name in how.kwargs]
    )
    vars(model)["forward"] = named
    try:
        yield
    finally:
        del vars(model)["forward"]


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress torch's warnings, log and prints for the time of a block."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(StringIO()):
            yield
    finally:
        logging.disable(level)
