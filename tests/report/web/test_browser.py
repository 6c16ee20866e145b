"""The page in a real browser: Chromium, driven by Playwright; skipped where one is missing.

`.ci/run` installs both where it can, and axe-core, whose file `AXE` names.
"""

import os
import shutil
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modswap.core.explained.routing import SiteRouting
from modswap.core.explained.words import Words
from modswap.core.kept.difference import Lone
from modswap.core.kept.model_view import ModelView
from modswap.core.kept.outcome import Amount, Ledger, Outcome
from modswap.core.seen.tree import TreeRow
from modswap.core.swept.record import SiteTrial, TrialResult
from modswap.report import REPORTS
from modswap.report.difference.html import diff_html
from modswap.report.explained import FORMS
from modswap.report.explained.html import explained_html
from modswap.report.page import Page
from modswap.report.swept.html import sweep_html
from tests.core.explained.test_routing import FIRST
from tests.report import outcomes
from tests.report.explained.records import explained
from tests.report.outcomes import HEALING
from tests.report.swept.sweeps import ADDED, FOUND, NOTHING_HELD
from tests.report.swept.test_html import STAGED
from tests.report.test_diff import FULL
from tests.report.web.test_outcome import FLOW, HOSTILE, VIEW

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]
Open = Callable[..., Any]

SHOWN = replace(
    outcomes.EXAMINED,
    sites=(outcomes.site("channel_attention"), outcomes.site("layers.0.attn")),
    view=VIEW,
    healing=HEALING,
    recipe_text="version: 1\n",
    ledger=Ledger(Amount(3, 9), fresh=Amount.of([("gate.weight", 1, 4), ("proj.weight", 2, 4)])),
)

OVER_PICTURE = replace(VIEW, routings=(SiteRouting("channel_attention", FIRST, b""),))
ROUTED = explained(timed=False)
# of 2 x 2 pixels
JPEG = b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAP////////////////////////////////////////////////////////"
    "//////////////////////////////wAALCAACAAIBAREA/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL"
    "/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJi"
    "coKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ip"
    "qrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/9oACAEBAAA/ACv/2Q=="
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Return a function that opens the page of an outcome; no console message may follow."""
    messages: list[str] = []
    contexts: list[Any] = []

    def open_page(shown: Outcome | str = SHOWN, place: str = "", **context: Any) -> Any:
        file = tmp_path / "page.html"
        text = shown if isinstance(shown, str) else REPORTS["html"]([shown], Page())
        file.write_text(text, encoding="utf-8")
        contexts.append(browser.new_context(**context))
        page = contexts[-1].new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: messages.extend(_foreign(request.url)))
        page.goto(f"{file.as_uri()}{place}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert messages == []


def _foreign(url: str) -> list[str]:
    return [] if url.startswith("file:") else [url]


@pytest.mark.ci
def test_search_hides_what_does_not_match_and_opens_what_does(opened: Open) -> None:
    page = opened()
    page.keyboard.press("/")
    page.keyboard.type("proj.weight")

    page.locator("output", has_text="1 of ").wait_for()  # each letter is searched for

    assert page.locator("output").inner_text().startswith("1 of ")
    assert page.get_by_text("proj.weight").is_visible()
    assert not page.locator("li", has_text="gate.weight").first.is_visible()
    page.keyboard.press("Escape")
    assert page.locator("output").inner_text() == ""
    assert page.locator("details.site").first.is_visible()


def test_tree_is_searched_by_the_whole_path(opened: Open) -> None:
    page = opened()
    page.locator("#search").fill("layers.0–2.attn")

    page.locator("output", has_text="match").wait_for()

    rows = page.locator(".tree .row:visible .name").all_inner_texts()
    assert rows == ["(the model)", "layers", "0–2 ×3", "attn"]


@pytest.mark.ci
def test_folds_open_and_close_by_mouse_and_keyboard(opened: Open) -> None:
    page = opened()
    site = page.locator("details.site").first
    summary = site.locator("summary").first

    summary.click()
    assert site.get_attribute("open") is None
    summary.press("Enter")
    assert site.get_attribute("open") is not None


def test_arrows_walk_through_the_trees(opened: Open) -> None:
    page = opened()
    first = page.locator(".tree summary").first
    first.focus()

    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent").strip().startswith("layers")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.parentElement.open") is False
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.parentElement.open") is True
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.textContent").strip().startswith("(the model)")


def test_link_to_a_site_opens_and_focuses_it(opened: Open) -> None:
    page = opened(place="#site=layers.0.attn")

    site = page.locator("[data-site='layers.0.attn']")
    assert site.is_visible()
    assert "hit" in (site.get_attribute("class") or "")
    assert page.evaluate("document.activeElement.dataset.site") == "layers.0.attn"


def test_number_leads_to_the_command_that_prints_it_again(opened: Open) -> None:
    page = opened()
    page.locator("a.number", has_text="6,552,824").click()

    assert page.url.endswith("#again-params")
    assert page.locator("#again-params").evaluate("node => node.classList.contains('hit')")


def test_keyboard_reaches_the_content_first(opened: Open) -> None:
    page = opened()
    page.keyboard.press("Tab")

    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_colours_follow_the_system(opened: Open, scheme: str, *, dark: bool) -> None:
    page = opened(color_scheme=scheme)

    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert (sum(map(int, colour[4:-1].split(","))) < 200) is dark


@pytest.mark.ci
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(opened: Open, width: int) -> None:
    page = opened(viewport={"width": width, "height": 800})

    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.ci
def test_print_unfolds_the_page_and_hides_its_controls(opened: Open) -> None:
    page = opened()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")

    assert page.locator("section details:not([open])").evaluate_all(
        "nodes => nodes.filter((node) => !node.closest('.tree')).length"
    ) == 0  # fmt: skip
    assert not page.locator("#search").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("section details:not([open])").count() > 0


@pytest.mark.ci
def test_hostile_names_run_nothing(opened: Open) -> None:
    names = (*HOSTILE, "x" * 10_000)
    sites = tuple(
        replace(outcomes.site(name), notes=(name,), new_params=number)
        for number, name in enumerate(names)
    )
    rows = tuple(TreeRow(name.replace(".", ""), name, 1, 4) for name in names)
    view = ModelView((TreeRow("", "Net", 1, 4), *rows), (TreeRow("", "Net", 1, 4),), flows=(FLOW,))
    page = opened(
        replace(SHOWN, checkpoint=names[0], sites=sites, view=view), place=f"#site={names[1]}"
    )

    assert page.locator("script").count() == 1
    assert page.locator("img").count() == 0
    assert page.get_by_text("<script>alert(1)</script>").count() > 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def _hostile_pages() -> dict[str, str]:
    name = "".join(HOSTILE) + "x" * 10_000
    trial = SiteTrial(name, name, {name: name})
    swept = replace(FOUND, checkpoint=name, notes=(name,), results=(
        TrialResult(trial, ADDED, 0.1), TrialResult(trial, reason=name, fix=name)))  # fmt: skip
    lone = (Lone(name, name),)
    differs = replace(FULL, headline=name, notes=(name,), removed=lone, added=lone, gone=lone)
    shown = replace(ROUTED, title=name, notes=(Words(name, name),))
    return {
        "sweep": sweep_html(swept, Page(args=("sweep", name))),
        "diff": diff_html(differs, Page()),
        "explain": explained_html(shown, "en", Page(args=("explain", name)), JPEG),
    }


@pytest.mark.parametrize("name", ["sweep", "diff", "explain"])
def test_hostile_names_are_text_on_pages_of_other_commands(opened: Open, name: str) -> None:
    page = opened(_hostile_pages()[name])
    page.emulate_media(media="print")

    assert page.locator("script").count() == 1
    assert page.locator("img:not(.plots img)").count() == 0
    assert page.get_by_text("<script>alert(1)</script>").count() > 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert len(page.content()) < 1_000_000


# milliseconds until the matches of a word are shown
SEARCHED = """async (word) => {
    const input = document.querySelector("#search");
    const started = performance.now();
    input.value = word;
    input.dispatchEvent(new Event("input"));
    while (!document.querySelector("output").textContent) await new Promise(requestAnimationFrame);
    return performance.now() - started;
}"""


@pytest.mark.parametrize("count", [1_000, 10_000])
def test_large_models_open_in_two_seconds(opened: Open, count: int) -> None:
    classes = [f"net.Layer{n % 97}" for n in range(count)]
    parts = [TreeRow("", "net.Net", count, count)]
    parts += [TreeRow(f"part{n}", "net.Part", 9, 36) for n in range(count // 50)]
    rows = [TreeRow(f"part{n // 50}.layer{n % 50}", name, n, n) for n, name in enumerate(classes)]
    view = ModelView((*parts, *rows), (*parts, *rows[:-1]))

    page = opened(replace(SHOWN, view=view))
    times = []
    for _ in range(3):  # a busy moment of the machine does not count
        page.reload()
        loaded = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        times.append((loaded, page.evaluate(SEARCHED, "layer49")))

    loaded, searched = map(min, zip(*times, strict=True))
    assert loaded < 2000
    assert searched < 2000
    assert page.locator("output", has_text="match").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_slider_chooses_the_window_whose_routes_are_shown(opened: Open, scheme: str) -> None:
    page = opened(explained_html(ROUTED, "en", Page(), JPEG), color_scheme=scheme)
    slider = page.get_by_role("slider", name="Window")
    said = page.locator("output")

    assert page.locator("svg image").count() == 1
    loaded = """address => new Promise((done) => {
        const one = new Image();
        one.onload = () => done(one.width);
        one.onerror = () => done(0);
        one.src = address;
    })"""
    address = page.locator("svg image").get_attribute("href")
    assert page.evaluate(loaded, address) == 2  # the policy admits it
    assert said.inner_text() == "Window 0,0 (row, column) attends to 0,0 (100%)"
    slider.press("End")
    assert said.inner_text() == "Window 1,1 (row, column) attends to 0,0 (100%)"
    assert slider.get_attribute("aria-valuetext") == "row 1, column 1"
    slider.press("PageUp")
    assert slider.get_attribute("aria-valuetext") == "row 0, column 1"
    page.locator(".routing svg g").nth(2).click()
    assert slider.input_value() == "2"
    chosen = page.locator(".routing svg g.source")
    assert chosen.count() == 1
    filled = page.locator(".routing rect").evaluate_all(
        "all => all.map((one) => one.getAttribute('fill-opacity'))"
    )
    assert filled == ["0.62", "0", "0", "0"]
    assert page.locator(".routing svg text").first.inner_html() == "1"


SHOWN_PAGES: dict[str, Outcome | str] = {
    "holds": SHOWN,
    "holds, routing": replace(SHOWN, view=OVER_PICTURE),
    "fails": outcomes.FAILED,
    "diff": diff_html(FULL, Page()),
    "sweep": sweep_html(FOUND, Page(args=("sweep", "net.pt"))),
    "sweep, healed": sweep_html(replace(FOUND, results=(STAGED,)), Page(args=("sweep", "a"))),
    "sweep, fails": sweep_html(NOTHING_HELD, Page()),
    "explain": FORMS["html"](explained(), "en", Page()),
    "explain, routing": explained_html(ROUTED, "zh", Page(args=("explain", "BRA")), JPEG),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.ci] * (n == "holds")) for n in SHOWN_PAGES]
)
def test_axe_finds_nothing_serious(opened: Open, scheme: str, name: str) -> None:
    axe = os.environ.get("AXE", "")
    if not Path(axe).is_file():
        pytest.skip("AXE names no file: set it to the axe.min.js of axe-core")
    page = opened(SHOWN_PAGES[name], color_scheme=scheme, bypass_csp=True)
    page.add_script_tag(content=Path(axe).read_text(encoding="utf-8"))

    found = page.evaluate("axe.run()")

    serious = [
        (one["id"], one["nodes"][0]["html"], one["nodes"][0]["failureSummary"])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.mark.parametrize("name", SHOWN_PAGES)
def test_no_page_is_wider_than_a_telephone(opened: Open, name: str) -> None:
    page = opened(SHOWN_PAGES[name], viewport={"width": 390, "height": 844})

    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_each_routing_of_a_page_has_a_slider_of_its_own(opened: Open) -> None:
    both = tuple(SiteRouting(path, FIRST, JPEG) for path in ("channel_attention", "layers.0.attn"))
    page = opened(replace(SHOWN, view=replace(VIEW, routings=both)))
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    first, second = page.get_by_role("slider", name="Window").all()

    first.press("End")

    said = page.locator(".routing output").all_inner_texts()
    assert said[0].startswith("Window 1,1 ")
    assert said[1].startswith("Window 0,0 ")
    assert second.input_value() == "0"
