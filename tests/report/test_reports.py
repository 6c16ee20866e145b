"""Reports for people and programs: their look, numbers summed.

Covers: json_report, page, table, verification.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from modswap.core.decided.verdict import CaseKey, CaseVerdict, Verdict
from modswap.core.finding import Finding
from modswap.core.kept.outcome import Outcome
from modswap.core.seen.values import Group, Plain, TensorInfo
from modswap.report import REPORTS
from modswap.report.json_report import as_data
from modswap.report.page import Page, human_bytes
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
}


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", CASES)
def test_table_looks_as_expected(name: str, width: int, golden: Callable[[str, str], None]) -> None:
    text = REPORTS["table"]([CASES[name]], Page(width))

    golden(f"{name}_{width}.txt", text)
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("name", CASES)
def test_json_looks_as_promised(name: str, golden: Callable[[str, str], None]) -> None:
    text = REPORTS["json"]([CASES[name]], Page())

    golden(f"{name}.json", re.sub(r'"modswap": "[^"]+"', '"modswap": "X"', text))


def test_table_says_where_weights_come_from_and_what_began_fresh() -> None:
    mapped = (("conv.weight", "0.weight"), ("conv.bias", "zeros"))
    sites = tuple(
        replace(outcomes.site(path), mapped=mapped, fresh=("bn.weight",)) for path in "ab"
    )
    others = replace(outcomes.site("c"), mapped=mapped)

    text = REPORTS["table"]([replace(outcomes.DONE, sites=(*sites, others))], Page(80))

    assert "mapped  a, b\n" in text
    assert "mapped  c\n" in text
    assert re.search(
        r"  conv.weight +from 0.weight\n  conv.bias +from zeros\n  bn.weight +fresh", text
    )
    assert "made of other weights" not in text


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


def test_many_passes_take_a_line_for_each_form_of_output() -> None:
    text = REPORTS["table"]([outcomes.MANY], Page(100))
    lines = [line for line in text.splitlines() if line.startswith("holds ")]

    assert len(lines) == 2
    assert lines[0].startswith("holds 30 passes eval, train float32 of (1, 3, 32, 64)")
    assert "27 more: model output (*, 2, *, 64)" in " ".join(text.split())
    assert lines[1] == "holds (1, 3, 8, 8) eval float32: model output tuple[(1, 2, 224, 224), None]"


def test_many_passes_are_all_shown_to_those_who_ask() -> None:
    text = REPORTS["table"]([outcomes.MANY], Page(100, verbose=True))

    assert sum(line.startswith("holds ") for line in text.splitlines()) == 31


def test_passes_that_fail_are_shown_one_by_one_among_many() -> None:
    bad = CaseVerdict(CaseKey("(9, 3, 9, 9)"), outcomes.LOGITS, None, outcomes.PROBLEMS[:1])
    verdict = Verdict((*outcomes.passes(9), bad, bad), finite=None)

    text = REPORTS["table"]([replace(outcomes.FAILED, verdict=verdict)], Page(100))

    assert sum(line.startswith("holds ") for line in text.splitlines()) == 1
    assert (
        text.count("fails (9, 3, 9, 9) eval float32: model output (1, 2, 224, 224) → raised") == 2
    )


def test_passes_over_few_inputs_are_summed_up_with_all_of_them() -> None:
    [case] = outcomes.passes(1)
    keys = [CaseKey("(1, 3, 32, 64)", m, d) for m in ("eval", "train") for d in ("f", "h", "b")]
    verdict = Verdict(tuple(replace(case, key=key) for key in keys), finite=True)

    text = REPORTS["table"]([replace(outcomes.DONE, verdict=verdict)], Page(120))

    assert (
        "holds 6 passes eval, train f, h, b of (1, 3, 32, 64): model output (1, 2, 32, 64)" in text
    )


def test_outputs_that_are_nested_are_summed_up_by_their_parts() -> None:
    values = [
        Group("dict", ("a", "b"), (TensorInfo((n, 2)), Plain("int", str(n)))) for n in range(1, 6)
    ]
    cases = tuple(CaseVerdict(CaseKey(str(v)), v, v) for v in values)

    text = REPORTS["table"](
        [replace(outcomes.CHECKED, verdict=Verdict(cases, finite=True))], Page(200)
    )

    assert "5 passes eval float32 of" in text
    assert "model output dict[(*, 2), *]" in text


def test_findings_take_a_line_for_each_check_and_failures_are_reported_once() -> None:
    text = REPORTS["table"]([outcomes.EXAMINED], Page(100))

    assert "holds reached: 2 sites\n" in text
    assert "fails gradients: 1 of 2 sites\n" in text
    assert "skipped finite, 2 sites: weights were not read\n" in text
    assert "holds cost: 1.2 → 0.9 GFLOPs of one pass\n" in text
    assert "holds matrix: 2 passes\n" in text
    assert text.count("now 11 of 12 have") == 1
    assert text.count("fix: set `topk` above 0") == 1


def _failing(*paths: str, good: Sequence[str] = (), check: str = "matrix") -> str:
    """Return the line of an examination that fails at paths of a model with two sites."""
    failed = [Finding(check, path, "failed", f"wrong {n}") for n, path in enumerate(paths)]
    held = [Finding(check, path, "passed") for path in good]
    seen = [Finding("reached", path, "passed") for path in ("block", "head")]
    text = REPORTS["table"](
        [replace(outcomes.CHECKED, verdict=Verdict((), True, (*seen, *failed, *held)))], Page(120)
    )
    return next(line for line in text.splitlines() if line.startswith("fails"))


def test_places_that_fail_are_counted_once() -> None:
    assert _failing("block.proj", "block.proj") == "fails matrix: block"
    assert _failing("block.proj", "block.norm", "") == "fails matrix: block and the model"
    assert _failing("block", "head") == "fails matrix: 2 sites"
    assert _failing("block", good=["head"]) == "fails matrix: 1 of 2 sites"
    assert _failing("block.proj", good=["head", "block"]) == "fails matrix: 1 of 2 sites"
    assert _failing("", good=["head"]) == "fails matrix: the model"


def test_failures_are_reported_in_full_where_no_error_repeats_them() -> None:
    alone = Finding("limits", "", "failed", "2 parameters, at most 1", "raise max_params")
    plain = Finding("sizes", "", "failed", "(1, 3, 9, 9) raised")
    verdict = Verdict((), finite=True, findings=(alone, plain, Finding("export", "", "skipped")))

    text = REPORTS["table"]([replace(outcomes.DONE, verdict=verdict)], Page(100))

    assert "fails limits: the model\n      the model: 2 parameters, at most 1\n" in text
    assert "        fix: raise max_params\n" in text
    assert "      the model: (1, 3, 9, 9) raised\nskipped export, the model\n" in text


def test_lines_that_keep_a_swap_are_below_their_finding() -> None:
    lost = Finding("matrix", "gate", "passed", "channels_last is lost", "end with `.contiguous()`")
    whole = Finding("survival", "", "passed", "`train()` loses it", "import modswap\nmodel = 1")
    verdict = Verdict((), finite=True, findings=(lost, Finding("matrix", "", "passed"), whole))

    text = REPORTS["table"]([replace(outcomes.DONE, verdict=verdict)], Page(100))

    assert "        gate: channels_last is lost\n        end with `.contiguous()`\n" in text
    assert "survival: `train()` loses it\n        import modswap\n        model = 1\n" in text


def test_details_of_findings_that_hold_are_shown_on_request() -> None:
    text = REPORTS["table"]([outcomes.HELD], Page(100, verbose=True))

    assert "      reached, channel_attention" not in text
    assert "      cost, the model: 1.2 → 0.9 GFLOPs of one pass\n" in text


@pytest.mark.parametrize("form", ["table", "json"])
def test_several_outcomes_are_one_report(form: str) -> None:
    text = REPORTS[form]([outcomes.CHECKED, outcomes.FAILED], Page(100))

    if form == "json":
        assert [one["ok"] for one in json.loads(text)] == [True, False]
    else:
        assert text.index("\nOK  ") < text.index("\n\nsite ") < text.index("\nFAILED  ")


def test_colour_is_for_those_who_show_it() -> None:
    assert "\x1b[" in REPORTS["table"]([outcomes.DONE], Page(100, color=True))
    assert "\x1b[" not in REPORTS["table"]([outcomes.DONE], Page(100))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 << 30, "3.0 GiB"), (5 << 40, "5.0 TiB")],
)
def test_bytes_are_written_for_people(count: int, text: str) -> None:
    assert human_bytes(count) == text
