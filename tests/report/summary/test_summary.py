"""An outcome in few words, for all reports for people.

Covers: cost, findings, sites, verdict, sections.
"""

from dataclasses import replace

import pytest

from modswap.core.decided.verdict import Verdict
from modswap.core.errors import MatchError, ShapeError, together
from modswap.core.finding import Finding
from modswap.core.kept.outcome import Outcome, SiteOutcome
from modswap.core.seen.site import Call
from modswap.core.seen.values import NONE, Group, TensorInfo
from modswap.report.summary.cost import costs_of
from modswap.report.summary.findings import (
    FAILS,
    SHAPES_ALONE,
    SKIPS,
    WARNS,
    Remark,
    counted,
    places,
    remarks_of,
)
from modswap.report.summary.sections import SECTIONS
from modswap.report.summary.sites import site_lines
from modswap.report.summary.verdict import headline_of
from tests.report import outcomes


def holding(*findings: Finding) -> Outcome:
    return replace(outcomes.DONE, verdict=Verdict((), finite=True, findings=findings))


def test_costs_are_given_in_three_lengths() -> None:
    params, flops, memory, drift = costs_of(outcomes.MEASURED)

    assert params.full == "parameters 9,163,000 → 6,552,824 (-28.5 %)"
    assert params.short == "parameters 9.2 M → 6.6 M"
    assert params.shortest == "parameters -28.5 %"
    assert flops.full == "FLOPs 868 M → 854 M (-1.6 %)"
    assert memory.short == "memory 54.0 MiB → 54.3 MiB"
    assert drift.full == drift.short == drift.shortest == "drift 1.3e-05"


@pytest.mark.parametrize(
    ("before", "after", "full", "shortest"),
    [
        (800, 800, "parameters 800 (kept)", "parameters kept"),
        (0, 800, "parameters 0 → 800", "parameters 0 → 800"),
        (10, 20_000, "parameters 10 → 20,000 (×2000)", "parameters ×2000"),
        (900, 1200, "parameters 900 → 1,200 (+33.3 %)", "parameters +33.3 %"),
    ],
)
def test_change_of_a_cost_is_in_words(before: int, after: int, full: str, shortest: str) -> None:
    (cost,) = costs_of(replace(outcomes.DONE, params_before=before, params_after=after))

    assert (cost.full, cost.shortest) == (full, shortest)


def test_costs_that_are_not_known_are_left_out() -> None:
    assert costs_of(replace(outcomes.MEASURED, sites=())) == ()
    unknown = replace(outcomes.DONE, params_before=0, params_after=0, verdict=None)
    assert costs_of(unknown) == ()
    far = Finding("drift", "", "passed", "far", data={"relative": None})
    assert costs_of(holding(far))[-1].full == "drift infinite"
    skipped = Finding("drift", "", "skipped", "not run")
    assert [cost.name for cost in costs_of(holding(skipped))] == ["parameters"]


def test_equal_sites_of_a_list_are_one_line() -> None:
    sites = [outcomes.layer("attention", number, 768) for number in range(12)]

    (line,) = site_lines(sites)

    assert line.path == "encoder.layers.0–11.attention ×12"
    assert (line.count, line.site) == (12, sites[0])
    assert len(site_lines(sites, fold=False)) == 12
    other = replace(sites[3], new_params=1)
    assert len(site_lines([*sites[:3], other])) == 2
    assert len(site_lines([sites[0], sites[0]])) == 2  # two modules beside one site


def shapes(*calls: Call) -> tuple[str, str]:
    one: SiteOutcome = replace(outcomes.site("a"), calls=calls)
    (line,) = site_lines([one])
    return line.shape, line.short_shape


def test_shape_of_a_site_is_that_of_its_first_call() -> None:
    square, wide = TensorInfo((1, 8, 4, 4)), TensorInfo((1, 8, 4, 6))
    assert shapes(Call((square,), (), square)) == ("(1, 8, 4, 4)", "8×4×4")
    assert shapes(Call((square,), (), wide)) == ("(1, 8, 4, 4) → (1, 8, 4, 6)", "8×4×4 → 8×4×6")
    both = Group("tuple", ("0", "1"), (square, NONE))
    calls = (Call((both,), (), square), Call((wide,), (), wide))
    assert shapes(*calls) == ("(1, 8, 4, 4) …", "8×4×4 …")
    assert shapes(Call((NONE,), (), TensorInfo((5,)))) == ("(5)", "5")
    assert shapes() == ("", "")


def test_parameters_of_a_site_are_given_in_two_lengths() -> None:
    plain, beside = outcomes.site("a"), outcomes.beside("b", "after")

    assert site_lines([plain])[0].params == "2,360,832 → 1,055,744"
    assert site_lines([plain])[0].short_params == "2.4M → 1.1M"
    assert site_lines([beside])[0].short_params == "2.4M + 1.1M"


def test_failures_come_first_each_once_and_alike_ones_together() -> None:
    failed = [Finding("gradients", f"a.{n}.b", "failed", "no gradient", "set it") for n in (0, 1)]
    alone = Finding("limits", "", "failed", "2 parameters, at most 1", "raise max_params")
    skipped = Finding("finite", "", "skipped", "it is large")
    error = together([ShapeError.of(failed[0]), ShapeError.of(failed[1])])
    outcome = replace(holding(skipped, *failed, alone), error=error)

    assert remarks_of(outcome) == (
        Remark(FAILS, "a.0–1.b ×2", "no gradient", "set it", "gradients"),
        Remark(FAILS, "the model", "2 parameters, at most 1", "raise max_params", "limits"),
        Remark(SKIPS, "finite", "it is large"),
    )
    assert counted(outcome) == "3 checks fail, 1 was skipped"


def test_errors_before_any_check_are_failures_without_counts() -> None:
    error = MatchError("no module matches", "swap.yaml:4:5", "look")
    outcome = Outcome("check", "net.pt", "swap.yaml", error=error)

    assert remarks_of(outcome) == (Remark(FAILS, "swap.yaml:4:5", "no module matches", "look"),)
    assert remarks_of(outcome)[0].text == "swap.yaml:4:5: no module matches"
    assert counted(outcome) == ""


def test_errors_at_lines_of_a_recipe_are_not_folded() -> None:
    errors = [MatchError("no module matches", f"swap.yaml:{line}:5") for line in (4, 5)]
    outcome = Outcome("check", "net.pt", "swap.yaml", error=together(errors))

    assert [one.about for one in remarks_of(outcome)] == ["swap.yaml:4:5", "swap.yaml:5:5"]


def test_advice_and_notes_are_warnings() -> None:
    advice = Finding("survival", "", "passed", "`train()` loses it", "import modswap\nmodel = 1")
    sites = tuple(replace(outcomes.site(path), notes=("frozen",)) for path in ("a.0", "a.1"))
    outcome = replace(
        holding(advice), sites=sites, notes=("an input was found", "an input was found")
    )

    assert remarks_of(outcome) == (
        Remark(WARNS, "the model", advice.what, advice.fix, "survival"),
        Remark(WARNS, "", "an input was found"),
        Remark(WARNS, "a.0–1 ×2", "frozen"),
    )
    assert [one.text for one in remarks_of(outcome)] == [
        "the model: `train()` loses it (survival)", "an input was found", "a.0–1 ×2: frozen",
    ]  # fmt: skip


def test_notes_that_differ_in_numbers_are_one_with_their_range() -> None:
    sites = tuple(
        replace(outcomes.site(f"a.{number}"), notes=(f"{share} of the variance in 2 parts",))
        for number, share in enumerate(("9e-05", "0.5", "0.02"))
    )

    (remark,) = remarks_of(replace(holding(), sites=sites))

    assert remark.text == "a.0–2 ×3: 9e-05 to 0.5 of the variance in 2 parts"


def test_checks_skipped_for_one_reason_are_one_remark() -> None:
    skipped = [
        Finding("finite", "a", "skipped", "not read"),
        Finding("finite", "b", "skipped", "not read"),
        Finding("copies", "a", "skipped", "not read"),
        Finding("copies", "b", "skipped", "not read"),
        Finding("export", "", "skipped"),
        Finding("sizes", "", "skipped", "not read"),
    ]

    assert [one.text for one in remarks_of(holding(*skipped))] == [
        "finite, copies at a, b: not read", "export: not examined", "sizes: not read",
    ]  # fmt: skip


def test_checks_are_counted() -> None:
    passed = [Finding("reached", path, "passed") for path in "ab"]

    assert counted(holding()) == ""
    assert counted(holding(passed[0])) == "1 check holds"
    assert counted(holding(*passed)) == "2 checks hold"
    skipped = [Finding("finite", path, "skipped") for path in "ab"]
    assert counted(holding(*passed, *skipped)) == "2 checks hold, 2 were skipped"
    assert counted(holding(*skipped)) == "2 checks were skipped"
    assert counted(outcomes.MANY) == f"31 checks hold; {SHAPES_ALONE}"
    assert counted(outcomes.EXAMINED).startswith("1 check fails, 7 hold, 2 were skipped; ")


def test_many_places_are_cut_short() -> None:
    assert places(["a", "a", "b", ""]) == "a, b"
    assert places(list("abcdef")) == "a, b, c, d and 2 more"


def test_headline_of_a_failure_names_the_files() -> None:
    failed = headline_of(replace(outcomes.FAILED, seconds=1.26))
    done = headline_of(outcomes.DONE)

    assert (failed.label, failed.text) == ("FAILED", "configs/unetpp_bra.yaml, unetpp.pt (1.3 s)")
    assert (done.label, done.text) == ("OK", "2 sites swapped in unetpp.pt")


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (outcomes.CHECKED, "the swap of 2 sites by configs/unetpp_bra.yaml holds; nothing was"),
        (replace(outcomes.CHECKED, recipe=""), "the swap of 2 sites holds; nothing was written"),
        (outcomes.DRY, "the swap of 2 sites holds; a dry run, nothing was written"),
        (replace(outcomes.DONE, command="revert"), "2 sites taken out of unetpp.pt"),
        (
            replace(outcomes.DRY, command="revert"),
            "2 sites can be taken out of unetpp.pt; nothing was written",
        ),
        (replace(outcomes.DONE, command="finalize"), "2 sites finalized in unetpp.pt"),
    ],
)
def test_headline_says_what_was_done(outcome: Outcome, text: str) -> None:
    assert headline_of(outcome).text.startswith(text)


def test_verdict_is_first_and_counts_are_last() -> None:
    assert next(iter(SECTIONS)) == "verdict"
    assert [*SECTIONS][-1] == "counts"
