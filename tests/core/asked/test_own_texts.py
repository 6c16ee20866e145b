"""Texts that modswap writes are recognised in every form, and no others."""

from dataclasses import replace

import pytest

from modswap.core.asked.own_texts import LOCK, RECIPE_TEXT, REPORT, SUMMARY, may_replace
from modswap.core.asked.schema import recipe_schema
from modswap.core.errors import CheckpointError
from modswap.core.kept.comparison import Comparison
from modswap.core.kept.difference import DiffResult
from modswap.core.kept.lock import Lock
from modswap.core.kept.outcome import Amount
from modswap.core.seen.tree import Tree
from modswap.report import REPORTS
from modswap.report.catalogue import (
    catalogue_entry,
    catalogue_json,
    catalogue_page,
    catalogue_table,
)
from modswap.report.difference.data import diff_json
from modswap.report.difference.table import diff_table
from modswap.report.explained import FORMS
from modswap.report.github import github_summary
from modswap.report.page import Page, as_json
from modswap.report.swept.data import sweep_json
from modswap.report.swept.table import sweep_table
from modswap.report.tree import tree_json, tree_table
from modswap.report.verify import verify_json, verify_table
from tests.report.explained.records import explained
from tests.report.outcomes import CHECKED, DONE, DRY, EARLY, FAILED, HELD, NASTY, REFUSED
from tests.report.swept.sweeps import FOUND, NOTHING_HELD
from tests.report.test_diff import FULL
from tests.report.test_listings import ENTRY, MEASURED, PLAIN, ROWS, TRACED
from tests.report.test_verify import RECORD

OUTCOMES = [DONE, CHECKED, DRY, FAILED, EARLY, HELD, NASTY, REFUSED]
WIDTHS = [60, 100, 250]
SWEEPS = [FOUND, replace(FOUND, interrupted=True), NOTHING_HELD]
EQUAL = Comparison("net.pt", "torch", Amount(3, 2048))
UNEQUAL = [
    Comparison("net.pt", "torch", Amount(1, 4), 2, Amount(1, 9), (RECORD,), ("no checksum",)),
    Comparison("net.pt", unknown=1, error=CheckpointError("there is no checksum", "net.pt", "")),
]
LONG = replace(PLAIN, rows=ROWS * 300)
COUNTED = Tree("net.pt", "torch", MEASURED, traced=True)
ALIKE = DiffResult(FULL.a, FULL.b, pairs=FULL.pairs[-1:])
DIFFERENCES = (
    FULL, ALIKE, replace(ALIKE, part="values"), replace(ALIKE, part="structure"),
    DiffResult(FULL.a, FULL.b, come=FULL.come), DiffResult(FULL.a, FULL.b, entries=FULL.entries),
)  # fmt: skip


@pytest.mark.parametrize("form", REPORTS)
@pytest.mark.parametrize("width", WIDTHS)
def test_reports_of_every_form_are_reports(form: str, width: int) -> None:
    page = Page(width)

    for outcomes in (*([one] for one in OUTCOMES), [DONE, FAILED], [NASTY, DONE]):
        assert may_replace(REPORT, REPORTS[form](outcomes, page))
    table = REPORTS["table"]([DONE, FAILED], page)
    assert may_replace(REPORT, f"{table}\n1 of 2 recipes hold\n")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("width", WIDTHS)
def test_explanations_of_every_form_are_reports(form: str, width: int) -> None:
    for language in ("en", "zh"):
        for lesson in (True, False):
            found = explained(lesson=lesson)
            assert may_replace(REPORT, FORMS[form](found, language, Page(width)))


@pytest.mark.one_in(3)
@pytest.mark.parametrize("width", WIDTHS)
def test_reports_of_other_commands_are_reports(width: int) -> None:
    page = Page(width)
    texts = [
        *(tree_table(tree, tree.rows, page) for tree in (TRACED, PLAIN, LONG, COUNTED)),
        *(tree_json(tree, tree.rows) for tree in (TRACED, PLAIN)),
        *(diff_table(found, page) for found in DIFFERENCES),
        *(diff_json(found) for found in DIFFERENCES),
        *(sweep_table(found, page) for found in SWEEPS),
        *map(sweep_json, SWEEPS),
        *(verify_table(found, page) for found in (EQUAL, *UNEQUAL)),
        *(verify_json(found) for found in (EQUAL, *UNEQUAL)),
        catalogue_table([ENTRY], page),
        catalogue_entry(ENTRY, page),
        catalogue_json([ENTRY]),
        catalogue_page([ENTRY]),
        as_json(recipe_schema(["matrix"])),
    ]

    assert [text for text in texts if not may_replace(REPORT, text)] == []


def test_earlier_forms_of_reports_are_reports() -> None:
    for text in (
        '{"schema": 1, "modswap": "0.1.0", "command": "check"}',
        '[{"modswap":"0.1.0"}]',
        '{"modswap": "0.0.9", "command": "replace"',  # cut short
        "OK  1 site swapped in net.pt (3.1 s)\n",
    ):
        assert may_replace(REPORT, text)


CHANGE = """\
--- a/net.py
+++ b/net.py
@@ -1,2 +1,3 @@
 import torch
+from modswap.nn import ECA
"""


def test_changes_of_code_are_reports() -> None:
    said = "- `OK  1 site in 1 file: net:Net() of the changed source builds the swapped model`"

    assert may_replace(REPORT, CHANGE)
    assert may_replace(REPORT, f"```diff\n{CHANGE}```\n\n{said}\n")
    assert not may_replace(REPORT, CHANGE.replace("modswap", "mine"))


OTHERS = {
    "config.json": '{"architectures": ["ViT"], "hidden_size": 32, "model_type": "vit"}',
    "index": '{"metadata": {"total_size": 4}, "weight_map": {"a": "model-1.safetensors"}}',
    "modswap.json": '{"recipe": "version: 1", "receipt": {"modswap": "0.1.0"}}',
    "tokenizer": '{"version": "1.0", "truncation": null, "added_tokens": []}',
    "list": '[{"id": 0, "name": "cat"}]',
    "pytest": '<?xml version="1.0"?><testsuites><testsuite name="pytest"/></testsuites>',
    "linter": '{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "ruff"}}}]}',
    "code": "import torch\n\nOK = 1\n",
    "text": "a text\nof mine: OK  FAILED\n",
    "vocab": "[PAD]\n[UNK]\nOK\n",
    "readme": "# modswap\n\nIt is a model.\n",
    "code with such keys": 'import torch\n\nCFG = {"replace": 1, "with": 2}\n',
    "settings of a rule's name": "replace:\n  - a\nwidth: 3\n",
    "JSON of another program": '{"rules": {"insert": []}, "replace": []}',
    "settings": "model: resnet\ntrain:\n  replace: 3\nlr: 0.1\n",
    "requirements": "modswap==0.1.0\n",
}


@pytest.mark.parametrize("kind", [REPORT, RECIPE_TEXT, LOCK])
@pytest.mark.parametrize("name", OTHERS)
def test_other_texts_are_of_no_kind(kind: str, name: str) -> None:
    assert not may_replace(kind, OTHERS[name])


@pytest.mark.parametrize("name", OTHERS)
def test_summary_is_added_to_markdown_alone(name: str) -> None:
    assert may_replace(SUMMARY, OTHERS[name]) is (OTHERS[name][0] not in "[{<")


def test_kinds_are_not_taken_for_each_other() -> None:
    texts = {
        REPORT: REPORTS["json"]([DONE], Page()),
        RECIPE_TEXT: "# mine\nversion: 1\nreplace:\n  - {match: a, with: ECA}\n",
        LOCK: Lock().text(),
    }

    for kind in texts:
        assert [other for other, text in texts.items() if may_replace(kind, text)] == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\nreplace: [{match: a, with: ECA}]",
        "{version: 1, replace: [{match: a, with: ECA}]}",
        '{"version": 1, "insert": []}',
        "insert:\n  - {after: a",  # one that cannot be read
        "'replace' : []",
    ],
)
def test_recipes_are_recipes(text: str) -> None:
    assert may_replace(RECIPE_TEXT, text)


def test_empty_text_and_own_summaries_are_of_every_kind() -> None:
    for kind in (REPORT, RECIPE_TEXT, LOCK, SUMMARY):
        assert may_replace(kind, "")
        assert may_replace(kind, "\n\n")
    assert may_replace(SUMMARY, "# Tests\n\n" + github_summary([DONE]))
