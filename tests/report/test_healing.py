"""A healing in the reports: agreements by stage, comparisons, errors by site."""

from dataclasses import replace

import pytest
from rich.console import Console

from modswap.core.healed.healing import Healing, SiteHealing
from modswap.core.kept.outcome import Outcome
from modswap.report.healing import healing_as_data, healing_lines, healing_parts, healing_words
from modswap.report.summary.verdict import headline_of
from tests.report.outcomes import AGREED_BEFORE, HEALING


def shown(healing: Healing) -> str:
    console = Console(width=100, color_system=None)
    with console.capture() as captured:
        for part in (*healing_lines(healing), *healing_parts(healing)):
            console.print(part)
    return captured.get()


def test_every_number_is_in_the_table() -> None:
    said = shown(HEALING)
    for words in (
        "500 pictures of photos/, 32x32: 400 to learn from, 100 held out to judge",
        "top-1 0.100 → 0.990; beside it: dropped 0.100",
        "confident half",
        "nothing better",
        "the statistics of 1 batch norm; taken back",
        "beside: dropped",
        "2.5 → 0.05",
        "accuracy on labels 0.900 original, 0.100 swapped, 0.890 healed",
    ):
        assert words in " ".join(said.split()), words
    assert healing_words(HEALING) == "top-1 0.100 → 0.990"


def test_result_without_comparisons_is_alone() -> None:
    assert next(healing_lines(replace(HEALING, controls=()))) == "top-1 0.100 → 0.990"


def test_metric_without_confidence_has_no_such_column() -> None:
    plain = replace(HEALING, before=replace(AGREED_BEFORE, confident=None), sites=())
    said = shown(plain)
    assert "confident half" not in said
    assert "error at the site" not in said


@pytest.mark.parametrize(("count", "more"), [(12, ""), (14, "… and 2 more, in the JSON report")])
def test_many_sites_are_cut_short(count: int, more: str) -> None:
    sites = tuple(SiteHealing(f"conv{n}", 1.0, 0.1, notes=("alike",)) for n in range(count))
    said = shown(replace(HEALING, sites=sites))
    assert (more in said) if more else ("in the JSON report" not in said)


def test_data_for_programs_hold_all_fields() -> None:
    data = healing_as_data(HEALING)
    assert data is not None
    assert data["stages"][1]["agreement"]["value"] == 0.99
    assert data["interrupted"] is False
    assert healing_as_data(None) is None
    assert not HEALING.exact
    assert replace(HEALING, stages=(), after=AGREED_BEFORE).exact


@pytest.mark.parametrize(
    ("interrupted", "words"),
    [
        (True, "net.pt: broken off before anything was healed; a dry run, nothing was written"),
        (False, "net.pt: no stage brought it nearer to the original; a dry run"),
    ],
)
def test_headline_says_where_nothing_was_healed(interrupted: bool, words: str) -> None:
    healing = replace(HEALING, interrupted=interrupted)

    said = headline_of(Outcome("heal", "net.pt", "", healing=healing)).text

    assert words in said


def test_headline_says_that_one_site_needs_no_healing() -> None:
    exact = replace(HEALING, stages=(), after=AGREED_BEFORE)

    said = headline_of(Outcome("heal", "net.pt", "", healing=exact)).text

    assert "1 site needs no healing; a dry run, nothing was written" in said
