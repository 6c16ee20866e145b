"""A sweep as a page."""

import re
import shlex
from base64 import b64decode
from dataclasses import replace

import pytest
import yaml

from modswap.core.healed.agreement import Agreement
from modswap.core.healed.healing import StageResult
from modswap.core.swept.record import SiteTrial, SweepChoice, SweepResult, TrialResult
from modswap.report.page import Page
from modswap.report.swept.html import PLOTTED_ALL, SHOWN_ROWS, _steps, sweep_html
from tests.report.swept.sweeps import BEFORE, FOUND, NOTHING_HELD, RESULTS, result
from tests.report.web.pages import ParsedPage, parsed_page

CHOICE = SweepChoice("1", (RESULTS[1],), 0.125, replace(BEFORE, params=800))
CHOSEN = replace(FOUND, choice=CHOICE, recipe="version: 1\nreplace: []\n")
HEALED = Agreement("top-1", 0.75, None, 0.1, 8)
STAGED = replace(
    RESULTS[0],
    healed=HEALED,
    unhealed=replace(HEALED, value=0.5),
    stages=(StageResult("inherit", HEALED, 1.0, kept=False), StageResult("closed", HEALED, 2.0)),
)
CASES = {
    "staged": replace(FOUND, results=(STAGED,)),
    "found": FOUND,
    "chosen": CHOSEN,
    "measured": replace(CHOSEN, choice=replace(CHOICE, together=BEFORE)),
    "failed": NOTHING_HELD,
    "broken off": replace(FOUND, interrupted=True),
    "in memory": replace(FOUND, checkpoint="", inputs="", notes=()),
    "healed": replace(FOUND, results=(replace(RESULTS[0], healed=HEALED),)),
    "nothing": replace(FOUND, results=(), planned=0),
}


def page_of(found: SweepResult, *args: str) -> ParsedPage:
    return parsed_page(sweep_html(found, Page(args=args)))


@pytest.mark.parametrize("name", CASES)
def test_page_is_sound_and_every_link_in_it_has_its_place(name: str) -> None:
    page = page_of(CASES[name])

    assert len(set(page.ids)) == len(page.ids)
    assert page.count("h1") == page.count("main") == 1
    assert "What to do next?" in page.text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("found", "modswap replace net.pt --match net.1 --with BRA --set n_win=2 --set k=4 -o OUT"),
        ("chosen", "modswap replace net.pt -c RECIPE -o OUT"),
        ("measured", "Measured together: 1,000 parameters"),
        ("failed", "take 4"),
        ("broken off", "Start again with --resume FILE"),
        ("in memory", "modswap replace FILE --match net.1"),
        ("found", "modswap sweep: net.pt Skip"),
        ("found", "error 0.12, parameters -200, FLOPs +1.5 k"),
        ("healed", "0.750"),
        ("staged", "Healings by stages"),
        ("staged", "0.500swapped 0.750inherit 0.750closed 0.750healed"),
        ("nothing", "Nowhere that was tried."),
    ],
)
def test_page_says_what_was_found_and_what_to_do_next(name: str, words: str) -> None:
    assert words in " ".join(page_of(CASES[name], "sweep", "net.pt").text.split())


def test_what_was_chosen_is_marked_and_its_recipe_is_there() -> None:
    text = sweep_html(CHOSEN, Page())

    assert re.findall(r'<tr data-find class="taken"><td>(net\.\d)', text) == ["net.1"]
    assert "version: 1\nreplace: []" in text
    going_on = sweep_html(replace(FOUND, interrupted=True), Page(args=("sweep", "--resume", "f")))
    assert '<span class="word">--resume</span> <span class="word">f</span>' in going_on


@pytest.mark.parametrize(
    ("typed", "options"),
    [
        (["--adapt", "--allow", "a.B", "--grid", "k=1,2"], ["--adapt", "--allow", "a.B"]),
        (["--input=1,3,8,8", "--start", "inherit"], ["--start", "inherit", "--input=1,3,8,8"]),
        (["--resume=f", "--samples", "64"], []),
    ],
)
def test_command_of_the_next_step_swaps_that_module_alone(
    typed: list[str], options: list[str]
) -> None:
    trial = SiteTrial("{a,b}", "BRA", {"k": None, "kernel": [1, None]}, {"mode": "max"})
    found = replace(FOUND, results=(replace(RESULTS[0], trial=trial),))

    (line,) = (what for _, what in _steps(found, Page(args=("sweep", "net.pt", *typed))))

    words = shlex.split(line)
    assert words[:5] == ["modswap", "replace", "net.pt", "--match", r"re:\{a,b\}"]
    settings = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    read = dict(one.split("=", 1) for one in settings)
    assert {name: yaml.safe_load(text) for name, text in read.items()} == {
        "mode": "max", "k": None, "kernel": [1, None],
    }  # fmt: skip
    assert words[words.index("kernel=[1, null]") + 1 :] == [*options, "-o", "OUT"]


def test_plots_of_all_costs_are_pictures_inside_the_page() -> None:
    addresses = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', sweep_html(FOUND, Page()))

    drawings = [b64decode(address) for address in addresses]
    titles = (b"FLOPs added", b"parameters added", b"bytes added", b"milliseconds added")
    assert all(title in drawing for title, drawing in zip(titles, drawings, strict=True))
    assert "<img" not in sweep_html(NOTHING_HELD, Page())


def test_plots_of_a_thousand_trials_fit_into_a_page() -> None:
    name = "backbone.stages.0.blocks.0.attention"
    many = tuple(result(f"{name}.{n}", 0.1 + n) for n in range(1000))

    some = sweep_html(replace(FOUND, results=many[:PLOTTED_ALL]), Page())
    text = sweep_html(replace(FOUND, results=many), Page())

    assert (some.count("<img"), text.count("<img")) == (4, 1)
    assert max(len(some), len(text)) < 1_000_000
    assert "--plot-cost NAME" in text


def test_very_many_trials_are_cut() -> None:
    many = tuple(result(f"net.{n}", 0.1 + n) for n in range(SHOWN_ROWS + 2))

    text = sweep_html(replace(FOUND, results=many, planned=len(many)), Page())

    assert text.count("<tr data-find") == SHOWN_ROWS
    assert "and 2 more, in the JSON report" in text


def test_names_are_text() -> None:
    bad = "<script>alert(1)</script>\"'\x1b[31m"
    failed = TrialResult(SiteTrial(bad, bad, {bad: bad}), reason=bad, fix=bad)
    found = replace(
        FOUND, results=(replace(RESULTS[0], trial=SiteTrial(bad, "BRA", {"k": bad})), failed)
    )

    text = sweep_html(found, Page())

    assert "alert(1)" in parsed_page(text).text
    assert "<script>alert" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("sweep", "a.pt"), "All trials run again"),
        (("sweep", "a.pt", "--resume=k"), "are read from the file of --resume"),
        ((), ""),
    ],
)
def test_numbers_lead_to_the_command_that_prints_them_again(
    args: tuple[str, ...], said: str
) -> None:
    page = parsed_page(sweep_html(FOUND, Page(args=args)))

    assert said in page.text
    assert ("#again" in page.links) is bool(args)
    assert ("again" in page.ids) is bool(args)
    assert len(set(page.ids)) == len(page.ids)
