"""Parts of the report at a terminal.

Covers: details, layout, sites, verification.
"""

import re
from dataclasses import replace

import pytest
from rich.text import Text

from modswap.core.decided.verdict import Verdict
from modswap.core.finding import Finding
from modswap.core.kept.outcome import Amount, Ledger
from modswap.report import REPORTS
from modswap.report.page import Page
from modswap.report.terminal.layout import columns, wrapped
from tests.report import outcomes


def lines_of(text: str, width: int) -> list[str]:
    return [line.plain for line in wrapped(Text("- "), text, Page(width))]


def test_lines_begin_below_the_text_and_break_no_word() -> None:
    assert lines_of("one two three", 9) == ["- one two", "  three"]
    assert lines_of("of (1, 64, 14, 14) now", 12) == ["- of", "  (1, 64, 14, 14)", "  now"]
    assert lines_of("tuple[(1, 2), None]", 8) == ["- tuple[(1, 2),", "  None]"]
    assert lines_of("a.path.that.is.long", 8) == ["- a.path.that.is.long"]
    assert lines_of("", 8) == ["- "]


def test_cells_are_aligned_on_both_sides() -> None:
    rows = [[Text("a"), Text("1")], [Text("long"), Text("100")]]

    assert [line.plain for line in columns(rows, right=[1])] == ["a       1", "long  100"]


def table(*paths: str, width: int = 80, verbose: bool = False, new: str = "Attention") -> list[str]:
    sites = tuple(replace(outcomes.site(path), new_class=new) for path in paths)
    text = REPORTS["table"]([replace(outcomes.DONE, sites=sites)], Page(width, verbose=verbose))
    return text.split("\n\n")[1].splitlines()


def test_table_takes_the_widest_form_that_fits() -> None:
    full, short, shorter = (table("block", width=width)[1] for width in (80, 60, 54))

    assert full == "block  Sequential → Attention  (1, 512, 14, 14)  2,360,832 → 1,055,744"
    assert short == "block  Sequential → Attention  (1, 512, 14, 14)  2.4M → 1.1M"
    assert shorter == "block  Sequential → Attention  512×14×14  2.4M → 1.1M"


def test_table_without_room_names_each_change_once() -> None:
    assert table("encoder.block.of.a.long.path", "b", width=64) == [
        "Sequential → Attention",
        "  encoder.block.of.a.long.path  (1, 512, 14, 14)  2.4M → 1.1M",
        "  b                             (1, 512, 14, 14)  2.4M → 1.1M",
    ]


def test_table_without_room_for_a_path_puts_the_numbers_below_it() -> None:
    path = "encoder." * 10

    assert table(path, width=64) == [
        "Sequential → Attention", f"  {path}", "    (1, 512, 14, 14)  2,360,832 → 1,055,744",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("width", "line"), [(80, "a     Sequential → B  2,360"), (30, "  a  2,360")]
)
def test_column_without_a_shape_is_left_out(width: int, line: str) -> None:
    one = replace(outcomes.site("a"), calls=(), new_class="B")

    text = REPORTS["table"]([replace(outcomes.DONE, sites=(one,))], Page(width))

    assert "shape" not in text
    assert f"\n{line}" in text


def test_many_sites_are_cut_short_unless_all_are_asked_for() -> None:
    paths = [f"block_{chr(97 + number)}" for number in range(20)]

    assert table(*paths)[-1] == "… and 4 more sites: -v lists them"
    assert len(table(*paths, verbose=True)) == 21


def test_many_failures_are_cut_short_unless_all_are_asked_for() -> None:
    failed = [Finding("limits", f"p{c}", "failed", f"{c} is over") for c in "abcdefghijklmnop"]
    outcome = replace(outcomes.DONE, verdict=Verdict((), finite=True, findings=tuple(failed)))

    text = REPORTS["table"]([outcome], Page(80))

    assert "✗ pl: l is over (limits)\n✗ … and 4 more: -v lists them\n16 checks fail" in text
    assert text.count("✗") == 13
    assert REPORTS["table"]([outcome], Page(80, verbose=True)).count("✗") == 16


@pytest.mark.parametrize("width", [60, 80, 120])
def test_paths_and_class_names_are_never_broken(width: int) -> None:
    for outcome in (outcomes.CROWDED, outcomes.LONG, outcomes.ODD, outcomes.BESIDE):
        text = REPORTS["table"]([outcome], Page(width, verbose=True))
        for site in outcome.sites:
            assert re.search(rf"(^|\s){re.escape(site.path)}($|[\s,:])", text, re.MULTILINE)
            assert site.new_class.rpartition(".")[2] in text


def test_details_say_where_weights_come_from_and_what_began_fresh() -> None:
    mapped = (("conv.weight", "0.weight"), ("conv.bias", "zeros"))
    sites = tuple(
        replace(outcomes.site(path), mapped=mapped, fresh=("bn.weight",)) for path in "ab"
    )
    others = replace(outcomes.site("c"), mapped=mapped)
    outcome = replace(outcomes.DONE, sites=(*sites, others))

    text = REPORTS["table"]([outcome], Page(80, verbose=True))

    assert "mapped  a, b\n" in text
    assert "mapped  c\n" in text
    assert re.search(
        r"  conv.weight +from 0.weight\n  conv.bias +from zeros\n  bn.weight +fresh", text
    )
    assert "mapped  c\n" not in REPORTS["table"]([outcome], Page(80))


def test_mapped_tensors_are_counted() -> None:
    ledger = Ledger(Amount(182), Amount(3, 900), Amount(12), Amount(14), proved=True)
    made = replace(outcomes.site("a"), mapped=(("weight", "0.weight"),))
    outcome = replace(outcomes.DONE, ledger=ledger, sites=(made,))

    assert "182 kept, equal bit for bit; 3 mapped; 12 fresh" in REPORTS["table"]([outcome], Page())
    text = REPORTS["table"]([outcome], Page(verbose=True))
    assert re.search(r"mapped +3 +900 B   made of other weights\n", text)
    nothing = replace(outcomes.DONE, ledger=Ledger())
    assert "tensors  0 kept\n" in REPORTS["table"]([nothing], Page())


def test_details_of_findings_that_hold_are_shown_on_request() -> None:
    text = REPORTS["table"]([outcomes.HELD], Page(100, verbose=True))

    assert "holds reached: 2 sites\n" in text
    assert "holds matrix: 2 passes\n" in text
    assert "holds cost: the model\n      the model: 1.2 → 0.9 GFLOPs of one pass\n" in text
    assert "holds" not in REPORTS["table"]([outcomes.HELD], Page(100)).split("written\n")[1]


def test_passes_that_raise_are_shown_on_request() -> None:
    text = REPORTS["table"]([outcomes.ODD], Page(100, verbose=True))

    assert "fails (1, 3, 64, 64) train bfloat16: model output (1, 2, 224, 224) → raised" in text
