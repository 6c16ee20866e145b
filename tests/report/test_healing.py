"""A healing in the reports: agreements by stage, comparisons, errors by site."""

from dataclasses import replace

import pytest
from rich.console import Console

from modswap.core.healed.agreement import Agreement, Control
from modswap.core.healed.healing import Healing, Measured, SiteHealing, StageResult
from modswap.core.kept.outcome import Outcome
from modswap.report.healing import healing_as_data, healing_parts, healing_words
from modswap.report.table import headline

BEFORE = Agreement("top-1", 0.1, 0.2, 3.5, 100)
AFTER = Agreement("top-1", 0.99, 1.0, 0.02, 100)
HEALING = Healing(
    samples="500 pictures of photos/, 32x32",
    learned=400,
    held=100,
    before=BEFORE,
    after=AFTER,
    goal=0.99,
    stages=(
        StageResult("inherit", BEFORE, 0.1, kept=False),
        StageResult("closed", AFTER, 1.5, note="1 of 1 modules fitted"),
        StageResult("norms", BEFORE, 0.4, kept=False, note="the statistics of 1 batch norm"),
    ),
    sites=(SiteHealing("conv", 2.5, 0.05, 0.02, ("it holds",)),),
    controls=(Control("dropped", replace(BEFORE, confident=None)),),
    notes=("one picture was broken",),
    measured=(Measured("accuracy on labels", 0.9, 0.1, 0.89),),
)


def shown(healing: Healing) -> str:
    console = Console(width=100, color_system=None)
    with console.capture() as captured:
        for part in healing_parts(healing):
            console.print(part)
    return captured.get()


def test_every_number_is_in_the_table() -> None:
    said = shown(HEALING)
    for words in (
        "500 pictures of photos/, 32x32: 400 to learn from, 100 held out to judge",
        "one picture was broken",
        "confident half",
        "nothing better",
        "the statistics of 1 batch norm; taken back",
        "beside: dropped",
        "2.5 → 0.05",
        "conv: it holds",
        "accuracy on labels 0.900 original, 0.100 swapped, 0.890 healed",
    ):
        assert words in " ".join(said.split()), words
    assert healing_words(HEALING) == "top-1 0.100 → 0.990"


def test_metric_without_confidence_has_no_such_column() -> None:
    plain = replace(HEALING, before=replace(BEFORE, confident=None), sites=())
    said = shown(plain)
    assert "confident half" not in said
    assert "error at the site" not in said


@pytest.mark.parametrize(("count", "more"), [(12, ""), (14, "… and 2 more, in the JSON report")])
def test_many_sites_are_cut_short(count: int, more: str) -> None:
    sites = tuple(SiteHealing(f"conv{n}", 1.0, 0.1, notes=("alike",)) for n in range(count))
    said = shown(replace(HEALING, sites=sites))
    assert f"conv0, conv1, conv2 and {count - 3} more: alike" in said
    assert (more in said) if more else ("in the JSON report" not in said)


def test_data_for_programs_hold_all_fields() -> None:
    data = healing_as_data(HEALING)
    assert data is not None
    assert data["stages"][1]["agreement"]["value"] == 0.99
    assert data["interrupted"] is False
    assert healing_as_data(None) is None
    assert not HEALING.exact
    assert replace(HEALING, stages=(), after=BEFORE).exact


@pytest.mark.parametrize(
    ("interrupted", "words"),
    [
        (True, "net.pt: broken off before anything was healed; a dry run, nothing was written"),
        (False, "net.pt: no stage brought it nearer to the original; a dry run"),
    ],
)
def test_headline_says_where_nothing_was_healed(interrupted: bool, words: str) -> None:
    healing = replace(HEALING, interrupted=interrupted)

    said = headline(Outcome("heal", "net.pt", "", healing=healing)).plain

    assert words in said


def test_headline_says_that_one_site_needs_no_healing() -> None:
    exact = replace(HEALING, stages=(), after=BEFORE)

    said = headline(Outcome("heal", "net.pt", "", healing=exact)).plain

    assert "1 site needs no healing; a dry run, nothing was written" in said
