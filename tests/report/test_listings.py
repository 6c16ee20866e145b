"""Lists of modules and of the catalogue, for people and for programs.

Covers: catalogue, tree.
"""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from modswap.core.asked.catalogue import CatalogueEntry, OptionEntry
from modswap.core.seen.site import Call
from modswap.core.seen.tree import BareParameter, Tree, TreeRow, Wanted
from modswap.core.seen.values import TensorInfo
from modswap.report.catalogue import (
    catalogue_entry,
    catalogue_json,
    catalogue_page,
    catalogue_table,
)
from modswap.report.page import Page
from modswap.report.tree import tree_json, tree_table

X = TensorInfo((1, 8, 4, 4))
ROWS = (
    TreeRow("", "nets.Net", 1200, 4800, calls=(Call((X,), (), X),)),
    TreeRow("stem", "torch.nn.modules.conv.Conv2d", 1000, 4000, calls=(Call((X,), (), X),) * 2),
    TreeRow("again", "torch.nn.modules.conv.Conv2d", 1000, 4000, alias_of="stem"),
    TreeRow("unused", "torch.nn.modules.linear.Linear", 200, 800),
    TreeRow("unused.act", "torch.nn.modules.activation.ReLU", 0, 0),
)
TRACED = Tree("net.pt", "torch", ROWS, traced=True)
PLAIN = Tree("net.pt", "torch", ROWS, notes=("classes are unknown",))
ENTRY = CatalogueEntry(
    "Gate",
    "rescales each channel",
    "Somebody et al., 2018, arXiv:1709.01507",
    "(N, C, H, W) → the same",
    ("P = H*W",),
    "4*P*C",
    "itemsize*H*W*C",
    (OptionEntry("ratio", "integer, at least 1", "4", "how many times narrower"),),
    "- match: a\n  with: Gate\n",
)


@pytest.mark.parametrize("tree", [TRACED, PLAIN], ids=["traced", "plain"])
def test_tree_looks_as_expected(tree: Tree, golden: Callable[[str, str], None]) -> None:
    golden(f"tree_{'traced' if tree.traced else 'plain'}.txt", tree_table(tree, ROWS, Page(80)))


BARE = TreeRow("blocks.0", "nets.Block", 9, 36, bare=(BareParameter("gamma", 8, 32),))


@pytest.mark.parametrize("times", [1, 1001])
@pytest.mark.parametrize("traced", [False, True])
def test_parameter_beside_modules_has_a_line_of_its_own(times: int, *, traced: bool) -> None:
    rows = (ROWS[0], replace(BARE, path="", bare=(BareParameter("cls_token", 7, 28),)), BARE)
    tree = Tree("net.pt", "torch", rows * times, traced=traced)

    lines = [line.split() for line in tree_table(tree, tree.rows, Page(80)).splitlines()]

    assert lines.count(["cls_token", "Parameter", "7", "28", "B"]) == times
    assert lines.count(["blocks.0.gamma", "Parameter", "8", "32", "B"]) == times
    assert json.loads(tree_json(tree, [BARE]))["modules"][0]["parameters"] == [
        {"name": "gamma", "params": 8, "bytes": 32}
    ]


LONG = TreeRow("encoder.layers.a_very_long_segment_indeed.attention", "nets.Attn", 1, 4)


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (80, ["encoder.layers", ".a_very_long_segment", "_indeed.attention"]),
        (130, ["encoder.layers.a_very_long_segment_indeed.attention"]),
    ],
)
def test_long_paths_break_before_dots(width: int, lines: list[str]) -> None:
    shown = tree_table(TRACED, [LONG], Page(width)).splitlines()[2:]

    assert [line.split()[0] for line in shown[: len(lines)]] == lines


def test_many_rows_take_a_line_each_at_any_width() -> None:
    many = [*ROWS, *(replace(LONG, path=f"{LONG.path}.{n}") for n in range(1000))]
    tree = replace(TRACED, rows=(*many, LONG))

    lines = tree_table(tree, many, Page(80)).splitlines()

    assert lines[0].split() == ["path", "class", "input", "→", "output", "parameters", "size"]
    shown = [line.split()[0] for line in lines[1 : len(many) + 1]]
    assert shown == [row.path or "(the" for row in many]
    assert lines[len(many) + 1 :][0] == f"{len(many)} of {len(many) + 1} modules shown"
    assert len({len(line) for line in lines[: len(many) + 1]}) == 1


def test_tree_lists_the_names_to_allow() -> None:
    asked = [Wanted(f"nets.N{i}", "not allowed by itself", f"--allow nets.N{i}") for i in range(14)]
    wild = Wanted("os.system", "can run any code", "")
    tree = replace(PLAIN, wanted=(*asked, wild))

    text = " ".join(tree_table(tree, ROWS, Page(100)).split())

    assert "to load it, os.system would have to be called, which can run any code" in text
    assert "to load it, if you trust what it names: --allow nets.N0 --allow nets.N1 " in text
    assert "--allow nets.N11 … (14 in all)" in text
    assert json.loads(tree_json(tree, ROWS))["wanted"][14] == {
        "name": "os.system",
        "verdict": "can run any code",
        "option": "",
    }


def test_tree_says_how_many_are_shown() -> None:
    assert "2 of 5 modules shown" in tree_table(PLAIN, ROWS[:2], Page(80))


def test_tree_as_json_has_every_row() -> None:
    data = json.loads(tree_json(TRACED, ROWS))

    assert [row["path"] for row in data["modules"]] == [row.path for row in ROWS]
    assert data["modules"][2]["alias_of"] == "stem"
    assert data["modules"][1]["calls"][0] == {"input": [[1, 8, 4, 4]], "output": [[1, 8, 4, 4]]}


def test_catalogue_looks_as_expected(golden: Callable[[str, str], None]) -> None:
    golden("catalogue.txt", catalogue_table([ENTRY], Page(80)))
    golden("catalogue_entry.txt", catalogue_entry(ENTRY, Page(80)))
    golden("catalogue.md", catalogue_page([ENTRY]))


def test_catalogue_as_json_has_every_option() -> None:
    assert json.loads(catalogue_json([ENTRY]))[0]["options"][0]["name"] == "ratio"
