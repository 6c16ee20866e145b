"""The graphs for Google's Model Explorer."""

import json
from dataclasses import replace
from typing import Any

from modswap.core.kept.model_view import ModelView
from modswap.core.seen.tree import TreeRow
from modswap.report import REPORTS
from modswap.report.graph.model_explorer import ADDED, REMOVED
from modswap.report.page import Page
from tests.report import outcomes


def row(path: str, class_name: str, params: int = 4) -> TreeRow:
    return TreeRow(path, class_name, params, 4 * params)


VIEW = ModelView(
    (row("", "Net"), row("stem", "nn.Conv"), row("gate", "nn.Seq"), row("gate.0", "nn.Conv")),
    (
        row("", "Net", 9), row("stem", "nn.Conv"), row("gate", "nn.BRA", 9),
        row("gate.qkv", "nn.Linear"), row("gate.a/b", "nn.Linear"),
    ),
    (("stem", "gate.0"), ("gone", "stem")),
    (("stem", "gate.qkv"),),
)  # fmt: skip


def graphs(*shown: ModelView | None) -> list[dict[str, Any]]:
    made = [replace(outcomes.DONE, view=view) for view in shown]
    found = json.loads(REPORTS["model-explorer"](made, Page()))
    assert found["label"] == "unetpp.pt"
    graphs: list[dict[str, Any]] = found["graphs"]
    return graphs


def test_graphs_before_and_after_have_nodes_layers_and_edges() -> None:
    before, after = graphs(VIEW)

    assert (before["id"], after["id"]) == ("before", "after")
    nodes = {node["id"]: node for node in after["nodes"]}
    assert list(nodes) == ["stem", "gate.qkv", "gate.a/b"]
    assert nodes["gate.qkv"]["namespace"] == "gate"
    assert nodes["gate.qkv"]["label"] == "qkv: Linear"
    assert nodes["gate.qkv"]["incomingEdges"] == [{"sourceNodeId": "stem"}]
    assert nodes["stem"]["incomingEdges"] == []
    assert [node.get("incomingEdges") for node in before["nodes"]] == [
        [],
        [{"sourceNodeId": "stem"}],
    ]


def test_changes_have_colours_and_say_what_is_on_the_other_side() -> None:
    text = json.dumps(graphs(VIEW))
    before, after = graphs(VIEW)

    assert before["groupNodeConfigs"] == [{"namespaceRegex": "^gate$", "backgroundColor": REMOVED}]
    assert after["groupNodeConfigs"] == [{"namespaceRegex": "^gate$", "backgroundColor": ADDED}]
    assert after["groupNodeAttributes"]["gate"]["on the other side"] == "nn.Seq, 4 parameters"
    assert text.count('"not there"') == 3


def test_graphs_of_several_outcomes_have_names_of_their_own_and_may_be_none() -> None:
    assert [one["id"] for one in graphs(VIEW, None, VIEW)] == [
        "1 before", "1 after", "3 before", "3 after",
    ]  # fmt: skip
