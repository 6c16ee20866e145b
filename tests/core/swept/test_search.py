"""The search for the least sum of errors: the optimum that trying everything finds.

Covers: search, choice.
"""

import itertools
import random
import sys
from typing import Any

import pytest

from modswap.core.errors import ShapeError, UsageError
from modswap.core.swept.choice import (
    Budgets,
    ChoiceRequest,
    amount_of,
    choose,
    count_of,
    refuse_too_many,
)
from modswap.core.swept.record import SiteTrial, SweptCost, TrialResult
from modswap.core.swept.search import SearchOption, SearchProblem, search
from tests.effort import examples


def best_of_all(problem: SearchProblem) -> int | None:
    """Return the least sum of errors, by trying every choice."""
    best: int | None = None
    for choice in itertools.product(*[(None, *site) for site in problem.sites]):
        taken = [one for one in choice if one is not None]
        if len(taken) < problem.count or (len(taken) > problem.count and not problem.more):
            continue
        used = [sum(one.amounts[d] for one in taken) for d in range(len(problem.budgets))]
        if all(mine <= most for mine, most in zip(used, problem.budgets, strict=True)):
            error = sum(one.error for one in taken)
            best = error if best is None else min(best, error)
    return best


def made(seed: int, sites: int, options: int, budgets: int) -> SearchProblem:
    """Return a random problem whose budgets lie between what must and what would be taken."""
    draw = random.Random(seed)
    rows = tuple(
        tuple(
            SearchOption(
                draw.randrange(10**12),
                tuple(draw.randrange(-(10**5), 10**9) for _ in range(budgets)),
            )
            for _ in range(draw.randrange(options + 1) if seed % 5 == 4 else options)
        )
        for _ in range(sites)
    )
    count, more = draw.randrange(1, sites), bool(draw.randrange(2))
    loose = SearchProblem(rows, count, more, (0,) * budgets)
    least = [loose.least(d) or 0 for d in range(budgets)]
    share = draw.choice([-0.1, 0.4, 0.8, 1.2])
    return SearchProblem(rows, count, more, tuple(round(v + share * 3e8 * count) for v in least))


@pytest.mark.each_once
@pytest.mark.parametrize("beams", [(16, 128), (1,)])  # of the quick searches before
@pytest.mark.parametrize("budgets", [0, 1, 2, 3])
def test_optimum_is_that_of_trying_everything(
    budgets: int, beams: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modswap.core.swept.search._BEAMS", beams)
    found = 0
    for seed in range(examples(25)):
        problem = made(seed, 5, 3, budgets)
        best = search(problem)
        assert (None if best is None else best.error) == best_of_all(problem), seed
        if best is not None:
            found += 1
            taken = [problem.sites[site][option] for site, option in best.options]
            assert sum(one.error for one in taken) == best.error
            assert len({site for site, _ in best.options}) == len(taken) >= problem.count
    assert found > 10


def test_too_few_sites_have_no_least_amount() -> None:
    problem = SearchProblem(((), (SearchOption(1, (4,)),)), 2, False, (9,))

    assert problem.least(0) is None
    assert search(problem) is None


def results_of(seed: int, sites: int, options: int) -> list[TrialResult]:
    draw = random.Random(seed)
    return [
        TrialResult(
            SiteTrial(f"block.{site}", "M", {"k": option}),
            SweptCost(
                draw.randrange(-5000, 50_000),
                draw.randrange(10**6, 10**8),
                1000,
                draw.uniform(0, 3),
            ),
            draw.uniform(0, 1),
        )
        for site in range(sites)
        for option in range(options)
    ]


BEFORE = SweptCost(100_000, 10**9, 10**6, 20.0)


@pytest.mark.parametrize("name", ["flops", "params", "latency"])
def test_choice_of_twelve_sites_is_the_optimum_under_each_budget(name: str) -> None:
    """12 sites with 3 options and 4 to choose: every choice of sites and options is tried."""
    results = results_of(3, 12, 3)
    rows = [results[start : start + 3] for start in range(0, 36, 3)]
    sums = [
        (
            sum(one.error or 0.0 for one in taken),
            sum(getattr(one.added, name) for one in taken),
        )
        for chosen in itertools.combinations(rows, 4)
        for taken in itertools.product(*chosen)
    ]
    amounts = sorted(amount for _, amount in sums)
    most = getattr(BEFORE, name) + amounts[len(amounts) // 50]
    room = most - getattr(BEFORE, name)
    best = min(error for error, amount in sums if amount <= room)
    assert best > min(error for error, _ in sums)  # the budget binds

    choice = choose(BEFORE, results, ChoiceRequest(4, False, Budgets(**{name: most})))

    assert choice.error == pytest.approx(best, abs=1e-9)
    assert getattr(choice.cost, name) <= most
    assert len({one.trial.site for one in choice.results}) == 4


def test_more_sites_are_chosen_where_that_keeps_a_budget() -> None:
    large = TrialResult(SiteTrial("a", "M"), SweptCost(10, 0, 5, 0.0), 0.1)
    small = TrialResult(SiteTrial("b", "M"), SweptCost(-20, 0, 7, 0.0), 0.5)
    budget = Budgets(params=100_000)

    one = choose(BEFORE, [large, small], ChoiceRequest(1, False, budget))
    more = choose(BEFORE, [large, small], ChoiceRequest(1, True, Budgets(params=99_990)))
    free = choose(BEFORE, [large, small], ChoiceRequest(1))

    assert [r.trial.site for r in one.results] == ["b"]
    assert (more.asked, [r.trial.site for r in more.results]) == ("1+", ["b"])
    assert [r.trial.site for r in free.results] == ["a"]
    both = choose(BEFORE, [large, small], ChoiceRequest(2))
    assert (both.cost.params, both.cost.memory) == (99_990, 10**6 + 7)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ChoiceRequest(3), "--choose: 2 of 3 sites have a trial that holds, 3 are asked for; ask"),
        (
            ChoiceRequest(2, True, Budgets(flops=10**9)),
            "--max-flops: 2+ of the sites take 1,000,000,300 FLOPs (1.0 G) or more, 1,000,000,000",
        ),
        (
            ChoiceRequest(1, False, Budgets(latency=20.5)),
            "--max-latency: 1 of the sites take 21.000 ms or more, 20.500 ms are allowed; allow",
        ),
        (
            ChoiceRequest(1, False, Budgets(10**9 + 150, 100_050)),
            "--choose: no choice of 1 sites keeps all budgets at once: flops, params; allow more",
        ),
    ],
)
def test_choice_that_there_is_not_is_an_error_in_words(
    request_: ChoiceRequest, message: str
) -> None:
    results = [
        TrialResult(SiteTrial("a", "M"), SweptCost(100, 100, 0, 1.0), 0.1),
        TrialResult(SiteTrial("b", "M"), SweptCost(10, 200, 0, 2.0), 0.1),
        TrialResult(SiteTrial("c", "M"), reason="too wide"),
    ]

    with pytest.raises(ShapeError) as caught:
        choose(BEFORE, results, request_)

    assert str(caught.value).startswith(message)


def test_numbers_are_read_as_people_write_them() -> None:
    assert (count_of("3"), count_of(" 12+ ")) == ((3, False), (12, True))
    assert [amount_of(text, "--max-flops") for text in ("4.1G", "250m", "7", "1.5k")] == [
        4_100_000_000, 250_000_000, 7, 1500,
    ]  # fmt: skip
    for text in ("0", "-1", "3++", "some"):
        with pytest.raises(UsageError, match="is no number of sites"):
            count_of(text)
    with pytest.raises(UsageError, match="--max-params: '4 GB' is no number; write 250M"):
        amount_of("4 GB", "--max-params")


@pytest.mark.slow
@pytest.mark.parametrize(("budgets", "count", "more"), [(1, 30, True), (3, 10, False)])
def test_sixty_sites_of_twelve_options_take_few_steps(
    budgets: int, count: int, more: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(budgets)
    rows = tuple(
        tuple(
            SearchOption(
                draw.randrange(10**12), tuple(draw.randrange(10**9) for _ in range(budgets))
            )
            for _ in range(12)
        )
        for _ in range(60)
    )
    loose = SearchProblem(rows, count, more, (0,) * budgets)
    spare = 0.1e9 * budgets * count  # with less, ten sites of three amounts fit nowhere
    most = tuple(round((loose.least(d) or 0) + spare) for d in range(budgets))
    steps = 0
    searches = vars(sys.modules[search.__module__])["_SiteSearch"]
    leads_on: Any = vars(searches)["_leads_on"]

    def counted(*args: Any) -> Any:
        nonlocal steps
        steps += 1
        return leads_on(*args)

    monkeypatch.setattr(searches, "_leads_on", counted)

    assert search(SearchProblem(rows, count, more, most)) is not None
    assert 0 < steps < 200_000


def test_more_sites_than_there_are_cannot_be_chosen() -> None:
    refuse_too_many(None, 1)
    refuse_too_many(ChoiceRequest(2), 2)
    with pytest.raises(UsageError, match="3 sites are to be chosen, and the rule selects 2"):
        refuse_too_many(ChoiceRequest(3), 2)
