"""The modules before and after a swap as graphs for Google's Model Explorer.

Its file holds graphs of nodes; a module with others in it is a layer, named by the namespace of the
nodes in it. Changed modules have the colour and the attributes of their change in both graphs.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modswap.core.kept.model_view import ModelView
from modswap.core.kept.outcome import Outcome
from modswap.core.seen.tree import TreeRow
from modswap.report.page import Page, as_json, bare
from modswap.report.tamed import tamed

REMOVED, ADDED = "#f5b7b1", "#abebc6"  # of modules that go, and of those that come
Graph = dict[str, Any]


def model_explorer_report(outcomes: Sequence[Outcome], page: Page) -> str:
    """Return a collection of graphs, two for each outcome; the page has no effect."""
    del page
    several = len(outcomes) > 1
    graphs = [
        graph
        for number, outcome in enumerate(outcomes, 1)
        for graph in _graphs(tamed(outcome), f"{number} " if several else "")
    ]
    return as_json({"label": outcomes[0].checkpoint, "graphs": graphs})


def _graphs(outcome: Outcome, prefix: str) -> Iterator[Graph]:
    """Yield the graph before and that after; none where the command ended before."""
    view = outcome.view if outcome.view is not None else ModelView()
    before = {row.path: row for row in view.before}
    after = {row.path: row for row in view.after}
    if before:
        edges = view.edges_before
        yield {"id": f"{prefix}before", **_graph(before, after, edges, REMOVED)}
    if after:
        yield {"id": f"{prefix}after", **_graph(after, before, view.edges_after, ADDED)}


def _graph(
    own: Mapping[str, TreeRow],
    other: Mapping[str, TreeRow],
    edges: Sequence[tuple[str, str]],
    color: str,
) -> Graph:
    """Return the nodes of one side, and what is known of its layers."""
    holding = {path.rpartition(".")[0] for path in own if path}
    leaves = {path: row for path, row in own.items() if path not in holding}
    incoming: dict[str, list[str]] = {}
    for maker, taker in edges:
        if maker in leaves:
            incoming.setdefault(taker, []).append(maker)
    layers = {_layer(path): row for path, row in own.items() if path in holding and path}
    changed = [
        _layer(path) for path in own if path in holding and path and _differs(path, own, other)
    ]
    nodes = [
        _node(row, incoming.get(path, ()), color if _differs(path, own, other) else "", other)
        for path, row in leaves.items()
    ]
    return {
        "nodes": nodes,
        "groupNodeAttributes": {name: dict(_facts(row, other)) for name, row in layers.items()},
        "groupNodeConfigs": [
            {"namespaceRegex": f"^{re.escape(name)}$", "backgroundColor": color} for name in changed
        ],
    }


def _differs(path: str, own: Mapping[str, TreeRow], other: Mapping[str, TreeRow]) -> bool:
    there = other.get(path)
    return there is None or there.class_name != own[path].class_name


def _layer(path: str) -> str:
    """Return a module's path as a namespace."""
    return path.replace("/", "∕").replace(".", "/")  # noqa: RUF001 - a slash would be a level


def _node(
    row: TreeRow, makers: Sequence[str], color: str, other: Mapping[str, TreeRow]
) -> dict[str, Any]:
    above, _, name = row.path.rpartition(".")
    node: dict[str, Any] = {
        "id": row.path or "(the model)",
        "label": f"{name}: {bare(row.class_name)}",
        "namespace": _layer(above),
        "attrs": [{"key": key, "value": value} for key, value in _facts(row, other)],
        "incomingEdges": [{"sourceNodeId": maker} for maker in makers],
    }
    return {**node, "style": {"backgroundColor": color}} if color else node


def _facts(row: TreeRow, other: Mapping[str, TreeRow]) -> Iterator[tuple[str, str]]:
    yield "path", row.path
    yield "class", row.class_name
    yield "parameters", f"{row.params:,}"
    there = other.get(row.path)
    if there is None:
        yield "on the other side", "not there"
    elif (there.class_name, there.params) != (row.class_name, row.params):
        yield "on the other side", f"{there.class_name}, {there.params:,} parameters"
