"""Reports of `diff`, for people and for programs.

Covers: folded_names, difference.data, difference.distances, difference.html, difference.table.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from modswap.core.kept.difference import (
    ClassChange,
    DiffResult,
    EntryChange,
    Facts,
    Lone,
    Side,
    Spread,
)
from modswap.core.kept.difference import (
    TensorPair as Pair,
)
from modswap.report.difference.data import diff_json
from modswap.report.difference.distances import SHOWN_LINES
from modswap.report.difference.html import diff_html
from modswap.report.difference.table import diff_table
from modswap.report.folded_names import NameFold, folded
from modswap.report.page import Page
from tests.report.web.pages import parsed_page

NET, OUT = Side("net.pt", "torch", 40, 4096), Side("out.safetensors", "safetensors", 1, 12)
FACTS = Facts("float32", (8, 3))


def apart(name: str, relative: float | None = 0.5, new: Facts = FACTS, **more: Any) -> Pair:
    spread = Spread(100, 10, 0.25, relative, 0.98765432)
    return Pair(name, name, "name", FACTS, new, equal=False, spread=replace(spread, **more))


ATTENTION = ClassChange("gate", "gate", "torch.nn.Sequential", "modswap.nn.bra.BRA")
FULL = DiffResult(
    NET,
    OUT,
    "all",
    (
        *(apart(f"blocks.{n}.attn.weight") for n in range(12)),
        apart("head.weight", None, cosine=None, changed=100, nan=(0, 3), infinite=(1, 0)),
        apart("zero.weight", 0.0, max_abs=0.0, changed=1),
        apart("half.weight", 0.1, Facts("float16", (8, 3)), in_float64=True, elements=10**7),
        Pair("same.weight", "same.weight", "name", FACTS, Facts("float16", (8, 3)), equal=True),
        Pair("wide.weight", "wide.weight", "name", FACTS, Facts("float32", (9, 3)), equal=False),
        Pair("odd.weight", "odd.weight", "name", FACTS, FACTS, equal=False),
        *(Pair(f"enc.{n}.w", f"body.{n}.w", "content", FACTS, FACTS, True) for n in range(3)),
        Pair("enc.3.w", "body.3.w", "module", FACTS, FACTS, True),
        Pair("plain.w", "plain.w", "name", FACTS, FACTS, True),
    ),
    removed=(
        Lone("gate.0.weight", "float32 (8, 3)"),
        Lone("old.1.weight", "float32 (8,)"),
        Lone("lone.weight", "float32 (8,)"),
        Lone("optimizer:state.0.exp_avg", "float32 (8,)", "optimizer"),
        Lone("optimizer:state.1.exp_avg", "float32 (8,)", "optimizer"),
    ),
    added=(Lone("gate.qkv.weight", "float32 (24, 8)"),),
    gone=(Lone("old", "torch.nn.Conv2d"), Lone("gate.0", "torch.nn.Conv2d")),
    come=(Lone("drop", "torch.nn.Dropout"),),
    classes=(ATTENTION, ClassChange("enc", "body", "Encoder", "Encoder"),
             ClassChange("", "", "Net", "BigNet")),
    entries=(
        EntryChange("b = a", "tie", "one tensor", "two tensors"),
        EntryChange("epoch", "metadata", "3", "4"),
        EntryChange("best", "metadata", None, "0.5"),
        EntryChange("optimizer:param_groups.0.lr", "optimizer", "0.1", None),
        EntryChange("gate.dim", "setting", None, "8"),
        EntryChange("norm.eps", "setting", "1e-05", "0.001"),
    ),
    compared_entries=50,
    notes=("in A the model is under 'model'",),
)  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
def test_difference_as_text(width: int, golden: Callable[[str, str], None]) -> None:
    text = diff_table(FULL, Page(width=width))

    assert max(map(len, text.splitlines())) <= width
    golden(f"diff_{width}.txt", text)


def test_detailed_page_lists_what_is_inside_changed_modules() -> None:
    text = diff_table(FULL, Page(width=120, verbose=True))

    for name in ("gate.0.weight", "gate.dim", "optimizer:state.1.exp_avg", "blocks.11.attn.weight"):
        assert name in text
    assert "×" not in text


def test_equal_files_are_said_to_be_so() -> None:
    found = DiffResult(NET, NET, pairs=FULL.pairs[-1:], compared_entries=1, headline="one file")

    assert diff_table(found, Page(width=100)).splitlines()[-2:] == [
        "note  one file", "EQUAL  1 tensor, 1 other value",
    ]  # fmt: skip
    assert diff_table(replace(found, part="values"), Page()).endswith("EQUAL  1 tensor in values\n")


def test_one_difference_is_singular() -> None:
    found = DiffResult(NET, NET, entries=FULL.entries[:1], come=FULL.come, added=FULL.added)

    assert diff_table(found, Page(width=100)).splitlines()[-1] == (
        "DIFFERENT  1 tensor added, 1 module differs, 1 other value differs"
    )


def test_thousands_of_tensors_are_cut_with_their_count() -> None:
    letters = [f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"]
    many = DiffResult(
        NET,
        OUT,
        pairs=tuple(apart(f"{name}.w", n / 100) for n, name in enumerate(letters)),
        added=tuple(Lone(f"{name}.v", name) for name in letters),
    )

    text = diff_table(many, Page(width=80))

    assert f"and {64 - SHOWN_LINES} more lines; -v lists all" in text
    assert f"and {64 - SHOWN_LINES} more tensors, each less far apart; -v lists all" in text
    assert "hh.w" in text
    assert "aa.w" not in text


def test_whole_modules_are_one_line_and_further_names_are_said() -> None:
    added = [Lone(f"blocks.{n}.{leaf}", "float32 (8,)") for n in range(2, 5) for leaf in "wb"]
    tie = Lone("head.w", "float32 (8,)", same="embed.w")
    found = DiffResult(NET, OUT, pairs=(apart("blocks.1.w"),), added=(*added, tie))

    lines = [" ".join(line.split()) for line in diff_table(found, Page(100)).splitlines()]

    assert "+ tensor blocks.2–4 ×3 2 tensors" in lines
    assert "+ tensor head.w float32 (8,), the same tensor as embed.w" in lines
    assert "blocks.4.b" in diff_table(found, Page(100, verbose=True))
    assert json.loads(diff_json(found))["tensors"]["added"][-1]["same"] == "embed.w"


def test_json_has_every_tensor_that_differs() -> None:
    data = json.loads(diff_json(FULL))

    assert data["equal"] is False
    assert data["a"] == {"file": "net.pt", "format": "torch", "tensors": 40, "bytes": 4096}
    assert len(data["tensors"]["changed"]) == 18
    assert data["tensors"]["changed"][0]["values"]["share"] == 0.1
    assert data["tensors"]["moved"][0] == {"from": "enc.0.w", "to": "body.0.w", "by": "content"}
    assert data["modules"]["changed"][0]["new"] == "modswap.nn.bra.BRA"
    assert data["entries"][1] == {"name": "epoch", "kind": "metadata", "a": "3", "b": "4"}


def test_json_has_no_infinity() -> None:
    found = DiffResult(NET, OUT, "values", (apart("w", max_abs=float("inf")),))

    data = json.loads(diff_json(found))

    assert data["only"] == "values"
    assert data["tensors"]["changed"][0]["values"]["max_abs"] == "infinite"
    assert data["counts"] == {"changed": 1}


def test_names_from_a_file_stay_on_their_line() -> None:
    found = DiffResult(NET, OUT, added=(Lone("a\n::error::b", "x"),))

    assert not any(line.startswith("::") for line in diff_table(found, Page()).splitlines())


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.0.w", "a.1.w", "a.2.w"], "a.0–2.w ×3"),
        (["a.0.w", "a.2.w"], "a.{0,2}.w ×2"),
        (["a.0.1.w", "a.1.1.w", "a.0.2.w"], "a.*.*.w ×3"),
        (["a.0.1.w", "a.1.1.w", "a.0.1.w"], "a.*.1.w ×3"),
        (["a.0.1.w", "a.1.1.w"], "a.0–1.1.w ×2"),
        ([f"a.{n}.w" for n in (0, 2, 4, 6, 8, 10, 12)], "a.0…12.w ×7"),
        (["conv1.w"], "conv1.w"),
        (["opt:0.w", "opt:1.w"], "opt:0–1.w ×2"),
    ],
)
def test_names_are_folded_by_their_numbers(names: list[str], words: str) -> None:
    assert NameFold(tuple(names), "").words == words


def test_only_names_with_one_key_are_folded() -> None:
    groups = folded([("a.0", "x"), ("a.1", "x"), ("a.2", "y"), ("conv1", "x"), ("conv2", "x")])

    assert [group.words for group in groups] == ["a.0–1 ×2", "a.2", "conv1", "conv2"]


def test_page_lists_every_difference_and_the_distances() -> None:
    hostile = replace(FULL, headline="</table><script>", notes=("\u202enote",))

    page = parsed_page(diff_html(hostile, Page()))

    assert "Different" in page.text
    assert "</table><script>" in page.text
    assert page.count("script") == 1
    assert "\\u202enote" in page.text
    for name in ("blocks.0–11.attn.weight ×12", "head.weight", "lone.weight"):
        assert name in page.text
    assert f"modswap diff {NET.file} {OUT.file} --format json" in page.text


def test_page_of_equal_files_says_so() -> None:
    page = parsed_page(diff_html(DiffResult(NET, NET, "values"), Page()))

    assert "Equal" in page.text
    assert "--only values --format json" in page.text
    assert page.count("table") == 0


def test_page_of_very_many_differences_folds_them() -> None:
    many = tuple(Lone(f"new.{n}.w", "float32 (1,)") for n in range(6000))

    page = diff_html(DiffResult(NET, OUT, added=many), Page())

    assert len(page) < 100_000
