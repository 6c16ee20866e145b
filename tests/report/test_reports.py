"""Reports for people and programs: their look, numbers summed.

Covers: json_report, page, table.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from modswap.core.asked.recipe import TensorInput
from modswap.core.kept.found_input import FoundInput
from modswap.core.kept.outcome import Outcome
from modswap.report import REPORTS
from modswap.report.json_report import as_data
from modswap.report.page import Page, change_words, human_bytes
from modswap.report.summary.sections import SECTIONS
from modswap.report.table import _SECTIONS
from tests.report import outcomes

CASES = {
    "done": outcomes.DONE,
    "checked": outcomes.CHECKED,
    "failed": outcomes.FAILED,
    "odd": outcomes.ODD,
    "beside": outcomes.BESIDE,
    "dry": outcomes.DRY,
    "early": outcomes.EARLY,
    "examined": outcomes.EXAMINED,
    "held": outcomes.HELD,
    "many": outcomes.MANY,
    "measured": outcomes.MEASURED,
    "crowded": outcomes.CROWDED,
    "long": outcomes.LONG,
    "healed": outcomes.HEALED,
}


BEYOND = {"long"}  # paths are not broken


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", CASES)
def test_table_looks_as_expected(name: str, width: int, golden: Callable[[str, str], None]) -> None:
    text = REPORTS["table"]([CASES[name]], Page(width))

    golden(f"{name}_{width}.txt", text)
    assert name in BEYOND or max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("name", ["done", "examined", "odd", "beside", "healed"])
def test_verbose_table_looks_as_expected(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"{name}_verbose.txt", REPORTS["table"]([CASES[name]], Page(80, verbose=True)))


def test_table_in_ascii_is_aligned(golden: Callable[[str, str], None]) -> None:
    text = REPORTS["table"]([outcomes.CROWDED], Page(80, ascii=True))

    golden("crowded_ascii.txt", text)
    assert text.isascii()
    assert REPORTS["table"]([outcomes.ODD], Page(80, verbose=True, ascii=True)).isascii()


def test_order_of_sections_is_that_of_all_reports_for_people() -> None:
    text = REPORTS["table"]([outcomes.CROWDED], Page(80))
    starts = ["FAILED", "cost", "ViTSelf", "✗", "!", "–", "14 checks fail"]

    places = [text.index(f"\n{start}") if number else 0 for number, start in enumerate(starts)]

    assert places == sorted(places)
    assert [*SECTIONS] == [*_SECTIONS]


@pytest.mark.parametrize("name", CASES)
def test_json_looks_as_promised(name: str, golden: Callable[[str, str], None]) -> None:
    text = REPORTS["json"]([CASES[name]], Page())

    golden(f"{name}.json", re.sub(r'"modswap": "[^"]+"', '"modswap": "X"', text))


def test_json_has_the_keys_of_the_contract() -> None:
    data = json.loads(REPORTS["json"]([outcomes.DONE], Page()))

    assert {"modswap", "command", "checkpoint", "recipe", "ok", "sites"} <= data.keys()
    assert {"verify", "ledger", "params", "output", "error"} <= data.keys()
    site = data["sites"][0]
    assert {"path", "aliases", "rule", "layout", "start", "notes"} <= site.keys()
    assert site["old"] == {"class": "torch.nn.modules.container.Sequential", "params": 2_360_832}
    assert site["new"].keys() == {"class", "params", "args"}
    assert site["calls"] == [{"input": [[1, 512, 14, 14]], "output": [[1, 512, 14, 14]]}]
    case = data["verify"]["cases"][0]
    assert {"input", "mode", "dtype", "before", "after", "ok", "error"} <= case.keys()
    assert data["verify"]["finite"] is True
    assert data["ledger"]["kept"] == {"tensors": 182, "bytes": 31_457_280}
    assert data["output"] == {
        "file": "out.pt", "bytes": 39_000_000, "sha256": "5f" * 32, "format": "torch",
    }  # fmt: skip
    assert data["error"] is None


def test_every_error_is_in_json() -> None:
    error = as_data(outcomes.FAILED)["error"]

    assert error is not None
    assert error["where"] == "head"
    assert error["code"] == 1
    assert [one["where"] for one in error["more"]] == ["the model"]


@pytest.mark.parametrize("outcome", [outcomes.DONE, outcomes.CHECKED], ids=["done", "checked"])
def test_numbers_of_the_table_add_up(outcome: Outcome) -> None:
    text = REPORTS["table"]([outcome], Page(120))

    pairs = re.findall(r"([\d,]+) → ([\d,]+)$", text, re.MULTILINE)
    change = sum(int(new.replace(",", "")) - int(old.replace(",", "")) for old, new in pairs)
    assert len(pairs) == 2
    assert outcome.params_before + change == outcome.params_after
    assert f"{outcome.params_before:,} → {outcome.params_after:,}" in text


@pytest.mark.parametrize("form", ["table", "json"])
def test_several_outcomes_are_one_report(form: str) -> None:
    text = REPORTS[form]([outcomes.CHECKED, outcomes.FAILED], Page(100))

    if form == "json":
        assert [one["ok"] for one in json.loads(text)] == [True, False]
    else:
        assert text.index("OK  ") < text.index("\n\nsite ") < text.index("\n\nFAILED  ")


def test_colour_is_for_those_who_show_it() -> None:
    assert "\x1b[" in REPORTS["table"]([outcomes.DONE], Page(100, color=True))
    assert "\x1b[" not in REPORTS["table"]([outcomes.DONE], Page(100))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 << 30, "3.0 GiB"), (5 << 40, "5.0 TiB")],
)
def test_bytes_are_written_for_people(count: int, text: str) -> None:
    assert human_bytes(count) == text


def test_module_that_is_taken_out_has_no_new_one() -> None:
    assert change_words(replace(outcomes.site("gate"), new_class="")) == "Sequential taken out"


def test_input_that_was_found_is_in_json() -> None:
    inputs = (TensorInput.model_validate({"shape": [1, 3, 8, 8]}),)
    found = FoundInput("(1, 3, 8, 8)", "the first layer takes 3 channels", inputs)

    data = as_data(replace(outcomes.DONE, found_input=found))

    assert data["input_found"] == {
        "input": "(1, 3, 8, 8)",
        "why": "the first layer takes 3 channels",
        "inputs": [{"shape": [1, 3, 8, 8]}],
    }
