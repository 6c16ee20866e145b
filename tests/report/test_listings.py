"""Lists of modules and of the catalogue, for people and for programs.

Covers: catalogue, tree, tree_rows.
"""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import pytest

from modswap.core.asked.catalogue import CatalogueEntry, OptionEntry
from modswap.core.seen.site import Call
from modswap.core.seen.tree import BareParameter, OutputValues, Tree, TreeRow, Wanted
from modswap.core.seen.values import TensorInfo
from modswap.report.catalogue import (
    catalogue_entry,
    catalogue_json,
    catalogue_page,
    catalogue_table,
)
from modswap.report.page import Page, human_count
from modswap.report.tree import tree_json, tree_table

X = TensorInfo((1, 8, 4, 4))
WIDE = Page(120)
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


def block(number: int, **more: Any) -> list[TreeRow]:
    path = f"blocks.{number}"
    inner = TreeRow(f"{path}.attn", "nets.Attention", 8, 32)
    return [replace(BARE, path=path, **more), inner]


def shown(rows: Sequence[TreeRow], page: Page = WIDE, marked: Collection[str] = ()) -> list[str]:
    """Return the paths in a table of these rows below a model."""
    whole = (ROWS[0], TreeRow("blocks", "nets.List", 0, 0), *rows)
    tree = Tree("net.pt", "torch", whole)
    lines = tree_table(tree, whole, page, marked).splitlines()[2:-1]
    return [line.partition("  ")[0].strip() for line in lines]


def test_equal_blocks_are_one_line_with_their_count() -> None:
    rows = [row for number in range(12) for row in block(number)]

    assert shown(rows) == [
        "(the model)", "blocks", "blocks.0–11 ×12", "blocks.0–11.gamma", "blocks.0–11.attn",
    ]  # fmt: skip


def test_verbose_page_and_selected_paths_have_every_block() -> None:
    rows = [row for number in range(3) for row in block(number)]
    tree = Tree("net.pt", "torch", (ROWS[0], *rows))

    assert "blocks.2.attn" in shown(rows, Page(120, verbose=True))
    assert "blocks.2.attn" in tree_table(tree, rows, WIDE)


def test_block_that_differs_is_a_line_of_its_own() -> None:
    others: dict[int, dict[str, Any]] = {2: {"dtype": "float16"}, 5: {"params": 10}}
    rows = [row for number in range(7) for row in block(number, **others.get(number, {}))]

    paths = [path for path in shown(rows) if "attn" not in path and "gamma" not in path]
    assert paths[2:] == ["blocks.0–1 ×2", "blocks.2", "blocks.3–4 ×2", "blocks.5", "blocks.6"]


def test_highlighted_block_is_marked_and_not_folded() -> None:
    rows = [row for number in range(4) for row in block(number)]

    paths = shown(rows, marked={"blocks.1"})

    assert "▶ blocks.1" in paths
    assert "blocks.2–3 ×2" in paths
    tree = Tree("net.pt", "torch", (ROWS[0], *rows))
    data = json.loads(tree_json(tree, rows, {"blocks.1"}))["modules"]
    assert [one["path"] for one in data if one["highlighted"]] == ["blocks.1"]


MEASURED = (
    TreeRow("", "nets.Net", 1200, 4800, dtype="float16/float32", flops=123_456),
    TreeRow(
        "stem",
        "nets.Stem",
        1000,
        4000,
        dtype="float32",
        flops=123_000,
        outputs=(
            OutputValues(1, "", X, 0.123456, 1.5, 0.25),
            OutputValues(2, "logits", X, -1e-9, 1.0, 0.0001, nan=3, infinite=1),
            OutputValues(3, "", X, None, None, 1.0),
        ),
    ),
    TreeRow("head", "nets.Head", 200, 800, dtype="float16"),
)


@pytest.mark.parametrize("width", [80, 120])
def test_measured_tree_looks_as_expected(width: int, golden: Callable[[str, str], None]) -> None:
    tree = Tree("net.pt", "torch", MEASURED, traced=True)

    golden(f"tree_measured_{width}.txt", tree_table(tree, MEASURED, Page(width)))


def test_measured_tree_as_data_has_flops_dtypes_and_outputs() -> None:
    tree = Tree("net.pt", "torch", MEASURED, traced=True)

    stem = json.loads(tree_json(tree, MEASURED))["modules"][1]

    assert (stem["dtype"], stem["flops"]) == ("float32", 123_000)
    assert stem["outputs"][1] == {
        "call": 2, "place": "logits", "shape": [1, 8, 4, 4], "dtype": "float32", "mean": -1e-9,
        "std": 1.0, "zeros": 0.0001, "nan": 3, "infinite": 1,
    }  # fmt: skip
    assert "highlighted" not in stem


def test_long_tree_has_the_same_columns() -> None:
    rows = (*MEASURED, *(replace(LONG, path=f"{LONG.path}.{n}") for n in range(1001)))

    lines = tree_table(Tree("net.pt", "torch", rows), rows, Page(80)).splitlines()

    assert lines[0].split() == ["path", "class", "parameters", "size", "FLOPs", "dtype"]
    assert lines[2].split() == ["stem", "Stem", "1,000", "3.9", "KiB", "123", "k", "float32"]


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0"), (999, "999"), (12345, "12.3 k"), (3 * 10**18, "3e+03 P")]
)
def test_counts_are_short(count: int, words: str) -> None:
    assert human_count(count) == words


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


def test_other_spellings_of_a_module_are_listed() -> None:
    entry = replace(ENTRY, spellings=("GateModule", "SG"))

    assert "also    GateModule, SG" in catalogue_entry(entry, Page(80))
    assert "- Also found as: GateModule, SG\n" in catalogue_page([entry])


def test_tree_says_under_which_names_a_file_holds_a_module() -> None:
    row = replace(ROWS[1], stored_as=("e.s", "s"))

    assert "in the file: e.s, s" in tree_table(PLAIN, [row], Page(80))
