"""Change the graph of an exported program so that each of its modules runs alone."""

from typing import Any

import torch

PLAIN = {None, tuple, list, dict}  # containers of inputs and outputs that any process knows


def own_sizes(graph: Any) -> None:
    """Let every module of a graph, changed in place, read sizes off its own tensors.

    torch reads a size that may vary once, off the model's input, and hands it, or that input, on to
    each module that uses it, besides the arguments of the module's own code.
    """
    latest: dict[str, list[Any]] = {}
    for node in list(graph.nodes):
        for size in [one for one in node.all_input_nodes if _symbol(one) is not None]:
            source = _source(_symbol(size), [*node.all_input_nodes, *latest.get(_home(node), [])])
            if _home(size) != _home(node) and source is not None:
                node.replace_input_with(size, _read(graph, node, size, source))
        if isinstance(node.meta.get("val"), torch.Tensor):
            latest.setdefault(_home(node), []).insert(0, node)


def _symbol(node: Any) -> Any:
    """Return the size that a node computes, as an expression; None if it computes no size."""
    value = node.meta.get("val")
    return value.node.expr if isinstance(value, torch.SymInt) else None


def _home(node: Any) -> str:
    """Return the path of the module that a node belongs to."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def _source(symbol: Any, nodes: list[Any]) -> tuple[Any, int] | None:
    """Return the first of some tensors that has an axis of this size, and the axis."""
    for node in nodes:
        value = node.meta.get("val")
        sizes: Any = value.shape if isinstance(value, torch.Tensor) else ()
        for axis, size in enumerate(sizes):
            if isinstance(size, torch.SymInt) and size.node.expr == symbol:
                return node, axis
    return None


def _read(graph: Any, user: Any, size: Any, source: tuple[Any, int]) -> Any:
    """Put a node before another one, and into its module, that reads a size off a tensor."""
    with graph.inserting_before(user):
        node = graph.call_function(torch.ops.aten.sym_size.int, source)
    node.meta = {**user.meta, "val": size.meta["val"]}
    return node


def plain_signatures(program: Any) -> None:
    """Remove call signatures that could not be read again from a program, in place.

    These are the signatures of modules without nodes, and of modules whose inputs or outputs are
    classes of other packages, with the modules inside them.
    """
    working = _working(program.graph)
    signed = [e for e in program.module_call_graph if e.fqn and e.signature is not None]
    foreign = [e for e in signed if not _plain(e.signature.in_spec, e.signature.out_spec)]
    lost = tuple(f"{_bare(entry.fqn)}." for entry in foreign)
    for entry in signed:
        path = _bare(entry.fqn)
        if f"{path}.".startswith(lost) or path not in working:
            entry.signature = None


def _working(graph: Any) -> set[str]:
    """Return the paths of the modules that have nodes in a graph."""
    stacks = [node.meta.get("nn_module_stack") or {} for node in graph.nodes]
    return {_bare(path) for stack in stacks for path, _ in stack.values()}


def _bare(path: str) -> str:
    """Return a path without the numbers that torch gives to later calls."""
    return ".".join(segment.partition("@")[0] for segment in path.split("."))


def unsign(program: Any) -> None:
    """Remove every call signature but the model's own from a program, in place."""
    for entry in program.module_call_graph:
        if entry.fqn:
            entry.signature = None


def _plain(*specs: Any) -> bool:
    return all(spec.type in PLAIN and _plain(*spec.children()) for spec in specs)


def given(signature: Any) -> int:
    """Return how many inputs a call signature has, those by keyword included."""
    args, kwargs = signature.in_spec.children()
    return int(args.num_children + kwargs.num_children)
