"""The drawing of a sweep: every trial has its place, and names bring no markup."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from modswap.core.healed.agreement import Agreement
from modswap.core.swept.record import SiteTrial, SweepChoice, SweptCost, TrialResult
from modswap.report.swept.plot import HEIGHT, WIDTH, front_of, sweep_svg
from tests.report.swept.sweeps import BEFORE, FOUND, RESULTS, result

SVG = "{http://www.w3.org/2000/svg}"


def drawn(
    *results: TrialResult, cost: str = "flops", choice: SweepChoice | None = None
) -> ElementTree.Element:
    found = replace(FOUND, results=results, choice=choice)
    return ElementTree.fromstring(sweep_svg(found, cost))


def at(error: float, flops: int, site: str = "a") -> TrialResult:
    return TrialResult(SiteTrial(site, "M"), SweptCost(-flops, flops, flops, flops / 1e6), error)


@pytest.mark.parametrize("cost", ["flops", "params", "memory", "latency"])
def test_trials_are_placed_by_cost_and_error(cost: str) -> None:
    root = drawn(at(0.01, 100), at(0.1, 3_000_000), at(0.5, 7_000_000), cost=cost)

    circles = root.findall(f"{SVG}circle")
    places = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in circles]
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in places)
    xs = [x for x, _ in places]
    assert xs == sorted(xs, reverse=cost == "params")
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)


def test_healing_goes_from_the_error_to_that_after_it() -> None:
    healed = Agreement("top-1", 0.9, error=0.001, count=8)
    root = drawn(at(0.5, 7), replace(at(0.1, 9), healed=healed))

    (way,) = root.findall(f"{SVG}line[@class='way']")
    (ring,) = root.findall(f"{SVG}circle[@class='healed']")
    assert float(way.get("y2", "")) > float(way.get("y1", ""))  # down, to a smaller error
    assert (ring.get("cx"), ring.get("cy")) == (way.get("x2"), way.get("y2"))
    assert ring.findtext(f"{SVG}title") == "a healed: error 0.001, top-1 0.900"
    assert "after healing" in "".join(root.itertext())


def test_front_has_the_trials_that_no_other_one_beats() -> None:
    front = [at(0.5, 1), at(0.2, 2), at(0.1, 9)]
    beaten = [at(0.3, 3), at(0.5, 2), at(0.2, 5)]

    found = front_of([*beaten, *front], lambda one: one.added.flops if one.added else 0)

    assert found == front


def test_chosen_trials_are_marked_and_modules_have_colours() -> None:
    other = replace(at(0.2, 5), trial=SiteTrial("b", "CBAM"))
    choice = SweepChoice("1", (RESULTS[0],), 0.1, BEFORE)
    root = drawn(RESULTS[0], other, choice=choice)

    kinds = [one.get("class") for one in root.findall(f"{SVG}circle")]
    assert kinds == ["m1", "m0 chosen", "m0", "m1"]  # two of the legend
    assert "prefers-color-scheme:dark" in (root.findtext(f"{SVG}style") or "")


def test_no_two_modules_of_the_legend_have_one_colour() -> None:
    some = [replace(at(0.1 * n, n), trial=SiteTrial("a", f"M{n}")) for n in range(1, 9)]
    root = drawn(*some)

    circles = root.findall(f"{SVG}circle")
    kinds = {
        (one.findtext(f"{SVG}title") or "").split()[1][:2]: one.get("class") for one in circles[:8]
    }
    legend = [one.get("class") for one in circles[8:]]
    assert len({kinds[f"M{n}"] for n in range(1, 7)}) == 6
    assert kinds["M7"] == kinds["M8"] == legend[-1] == "m6"
    assert legend == [f"m{n}" for n in range(7)]
    assert "others" in [text.text for text in root.findall(f"{SVG}text")]


def test_names_bring_no_markup_and_stay_inside() -> None:
    name = "<script>&" + "x" * 60
    root = drawn(*(replace(at(0.1, 9), trial=SiteTrial(f"{name}{i}", "M")) for i in range(3)))

    assert root.find(f"{SVG}script") is None
    labels = [one for one in root.findall(f"{SVG}text") if (one.text or "").startswith("<script>")]
    assert len(labels) == 1  # no two at one height
    assert labels[0].get("text-anchor") == "end"


def test_labels_that_would_cover_one_another_are_left_out() -> None:
    root = drawn(at(0.1, 1, "near"), at(0.099, 2, "close"), at(0.001, 3, "far"))

    texts = [one.text for one in root.findall(f"{SVG}text")]
    assert "near" in texts
    assert "far" in texts
    assert "close" not in texts


def test_one_trial_without_an_error_or_a_cost_is_drawn_as_well() -> None:
    exact = TrialResult(SiteTrial("a", "M"), SweptCost(0, 0, 0, 0.0), 0.0)

    assert len(drawn(exact).findall(f"{SVG}circle")) == 1
    assert result("b", 1.0).holds
