"""The page of an outcome: sound, safe, and with all that the outcome says.

Covers: __init__, outcome, frame, sites, findings, costs, drawn, trees.
"""

import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256

import pytest

from modswap.core.decided.flow import Flow, Neighbour
from modswap.core.explained.routing import SiteRouting
from modswap.core.finding import Finding
from modswap.core.kept.found_input import FoundInput
from modswap.core.kept.model_view import ModelView
from modswap.core.kept.outcome import Amount, Ledger, Outcome
from modswap.core.seen.tree import TreeRow
from modswap.core.seen.values import TensorInfo
from modswap.report import REPORTS
from modswap.report.page import Page
from modswap.report.web.costs import costs
from modswap.report.web.drawn import drawn_curve, drawn_flow
from modswap.report.web.findings import MAX_EVIDENCE, finding_rows
from modswap.report.web.frame import short
from modswap.report.web.sites import site_entries
from modswap.report.web.trees import tree_items
from tests.core.explained.test_routing import FIRST
from tests.report import outcomes
from tests.report.outcomes import HEALING
from tests.report.web.pages import ParsedPage, parsed_page

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
    "refused": outcomes.REFUSED,
    "nasty": outcomes.NASTY,
}


def with_findings(outcome: Outcome, *findings: Finding) -> Outcome:
    assert outcome.verdict is not None
    return replace(outcome, verdict=replace(outcome.verdict, findings=findings))


def page_of(*shown: Outcome) -> ParsedPage:
    return parsed_page(REPORTS["html"](shown, Page()))


@pytest.mark.parametrize("name", CASES)
def test_page_is_sound_and_every_link_in_it_has_its_place(name: str) -> None:
    page = page_of(CASES[name])

    assert len(set(page.ids)) == len(page.ids)
    assert {link.removeprefix("#") for link in page.links} <= {*page.ids}
    assert page.count("h1") == 1
    assert page.count("main") == 1


def test_page_says_verdict_cost_change_and_next_step_first() -> None:
    text = " ".join(page_of(outcomes.DONE).text.split())

    assert "2 sites swapped in unetpp.pt; written to out.pt" in text
    questions = ("Did it hold?", "What does it cost?", "What changed?", "What to do next?")
    places = [text.index(question) for question in questions]
    assert places == sorted(places)
    assert max(places) < text.index("Print it again")
    assert re.search("parameters ?9,163,000 ?6,552,824 ?-28.5 %", text)
    assert "modswap heal out.pt --against unetpp.pt --data FOLDER -o HEALED" in text


def test_page_of_a_failure_says_no_with_its_reason_and_fix() -> None:
    text = " ".join(page_of(outcomes.FAILED).text.split())

    assert "The swap of 2 sites does not hold" in text
    assert "head: output was (1, 2, 224, 224), is now (1, 2, 112, 112)" in text
    assert "Fix: set `adapt: true`" in text


def test_page_of_several_outcomes_lists_them_and_repeats_no_name() -> None:
    page = page_of(outcomes.CHECKED, outcomes.FAILED)

    assert "1 of 2 hold" in page.text
    assert len(set(page.ids)) == len(page.ids)
    assert {"1-verdict", "2-verdict", "2-site=space_attention"} <= {*page.ids}


def test_policy_admits_the_style_and_the_script_of_the_page_alone() -> None:
    text = REPORTS["html"]([outcomes.NASTY], Page())
    page = parsed_page(text)

    policies = [a["content"] for tag, a in page.tags if a.get("http-equiv")]
    (policy,) = policies
    for tag in ("style", "script"):
        (inner,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = b64encode(sha256(inner.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    attributes = [name for _, given in page.tags for name in given]
    assert [name for name in attributes if name.startswith("on") or name == "style"] == []
    assert [link for link in page.links if not link.startswith("#")] == []
    assert {"src", "srcset", "action", "data"}.isdisjoint(attributes)


HOSTILE = (
    "<script>alert(1)</script>",
    "'\"><img src=x onerror=alert(1)>",
    "</style></script><!--",
    "{{ 7*7 }}{% raw %}",
    "javascript:alert(1)",
    "\u202egnp.\u2066right\u200b",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(name: str) -> None:
    plain = page_of(outcomes.EXAMINED)
    rows = [replace(one, path=name, what=name, fix=name) for one in outcomes.FINDINGS]
    site = replace(outcomes.site(name), new_class=name, args={name: name}, notes=(name,))
    shown = replace(
        with_findings(outcomes.EXAMINED, *rows), checkpoint=name, recipe=name, sites=(site,),
        notes=(name,), recipe_text=name, ledger=Ledger(fresh=Amount.of([(name, 1, 4)])),
    )  # fmt: skip

    page = page_of(shown)

    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in plain.tags} | {"tr", "ul", "li"}
    assert page.count("script") == 1
    assert not any(mark in page.text for mark in "\u202e\u2066\u200b")
    seen = name if name.isprintable() else "\\u202egnp.\\u2066right\\u200b"
    assert page.text.count(seen) >= 8
    assert {"src", "onerror"}.isdisjoint(key for _, given in page.tags for key in given)


def test_long_names_are_cut_in_their_middle() -> None:
    name = "a" * 5000 + "." + "b" * 5000

    text = REPORTS["html"]([replace(outcomes.DONE, sites=(outcomes.site(name),))], Page())

    assert short("a\u202e\nb") == "a\\u202e\\nb"
    assert short(name).startswith("aaa")
    assert short(name).endswith("bbb")
    assert len(short(name)) == 160
    assert len(text) < len(REPORTS["html"]([outcomes.DONE], Page())) + 12_000


def test_page_of_a_thousand_sites_is_under_a_megabyte() -> None:
    sites = tuple(outcomes.site(f"encoder.layers.{n}.attention.self") for n in range(1000))
    findings = tuple(outcomes.finding("reached", site.path, "passed") for site in sites)
    shown = replace(with_findings(outcomes.CHECKED, *findings), sites=sites)

    page = REPORTS["html"]([shown], Page())

    assert len(page.encode()) < 1_000_000
    assert "encoder.layers.0–999.attention.self ×1000" in page
    assert 'id="site=encoder.layers.999.attention.self"' in page


def test_sites_that_differ_in_their_paths_alone_share_an_entry() -> None:
    other = replace(outcomes.site("c"), new_params=1)

    entries = site_entries(replace(outcomes.DONE, sites=(*outcomes.DONE.sites, other)))

    assert [entry.paths for entry in entries] == [("channel_attention", "space_attention"), ("c",)]
    assert entries[0].old == "Sequential"
    assert entries[0].new == "BiLevelRoutingAttention"


def test_calls_of_many_shapes_are_cut() -> None:
    calls = tuple(
        replace(outcomes.DONE.sites[0].calls[0], output=TensorInfo((n,))) for n in range(9)
    )

    (entry,) = site_entries(
        replace(outcomes.DONE, sites=(replace(outcomes.site("a"), calls=calls),))
    )

    assert entry.calls[-1] == "… 5 other shapes"
    assert len(entry.calls) == 5


def test_findings_come_with_failures_first_and_say_the_same_of_several_places_once() -> None:
    advice = Finding("cost", "", "passed", "much", "use less")

    rows = finding_rows(with_findings(outcomes.EXAMINED, advice, *outcomes.FINDINGS))

    kinds = [row.kind for row in rows]
    assert kinds == sorted(kinds, key=["failed", "warning", "skipped", "holds"].index)
    assert [row.mark for row in rows][:3] == ["\N{BALLOT X}", "!", "\N{EN DASH}"]
    assert rows[2].where == ("channel_attention", "space_attention")


def test_evidence_of_a_finding_is_shown_and_bounded() -> None:
    data = {"cases": ["x" * 100] * 100}
    found = Finding("matrix", "", "passed", data=data)
    shown = with_findings(outcomes.HELD, found)

    row = next(row for row in finding_rows(shown) if row.evidence)

    assert row.evidence.startswith('{"cases": ["xxx')
    assert len(row.evidence) == MAX_EVIDENCE + 1


BEFORE = {"params": 9, "flops": 2_000_000, "peak_inference": 2048, "peak_training": 4096}
AFTER = BEFORE | {"flops": 1_000_000}
COST = Finding("cost", "", "passed", data={"before": BEFORE, "after": AFTER})


def test_costs_are_those_that_the_examinations_found() -> None:
    drift = Finding("drift", "", "passed", data={"relative": 0.26502, "rows": 0, "agreeing": 0})

    found = costs(with_findings(outcomes.DONE, COST, drift))
    rows = {row.name: (row.before, row.after, row.change) for row in found}

    assert rows["output drift, relative"] == ("", "0.27", "")
    assert rows["FLOPs"] == ("2.0 M", "1.0 M", "-50.0 %")
    assert rows["memory, inference"] == ("2.0 KiB", "2.0 KiB", "kept")


def test_costs_that_were_not_measured_say_why() -> None:
    infinite = Finding("drift", "", "passed", data={"relative": None})
    skipped = Finding("cost", "", "skipped", "no time")

    rows = {row.name: row for row in costs(with_findings(outcomes.DONE, infinite, skipped))}
    none = {row.name: row for row in costs(replace(outcomes.EARLY, params_after=0))}

    assert rows["output drift, relative"].after == "infinite"
    assert rows["FLOPs"].why == "no time"
    assert none["FLOPs"].why == "not measured"
    assert "parameters" not in none


def test_agreement_of_a_healing_is_the_first_number() -> None:
    first = costs(replace(outcomes.DONE, healing=HEALING))[0]

    assert first.name.startswith("agreement with the original, ")
    assert first.key == "healing"


def test_recipe_and_found_input_are_on_the_page() -> None:
    text = 'version: 1\nreplace:\n  - match: "<b>"\n'
    found = FoundInput("(1, 3, 8, 8)", "it fits")

    page = page_of(replace(outcomes.DONE, recipe_text=text, found_input=found))

    assert text in page.text
    assert "no input was given: took (1, 3, 8, 8), it fits" in page.text


def row(path: str, class_name: str = "torch.nn.Linear", params: int = 4) -> TreeRow:
    return TreeRow(path, class_name, params, 4 * params)


def layers(count: int, inner: str) -> tuple[TreeRow, ...]:
    """Return rows of a model of equal layers, each with one module of a class inside."""
    rows = [row("", "net.Net", 9), row("layers", "torch.nn.ModuleList")]
    for number in range(count):
        rows += [row(f"layers.{number}", "net.Layer"), row(f"layers.{number}.attn", inner)]
    return (*rows, row("head"))


def test_trees_show_equal_changes_on_one_line_and_open_them_alone() -> None:
    before, after = layers(12, "net.Attention"), layers(12, "net.New")
    view = ModelView(before, (*after, row("layers.0.attn.gate")))

    items = tree_items(view)

    shown = [(one.place, one.name, one.kind, one.open) for one in items if one.place != "end"]
    assert shown == [
        ("start", "(the model)", "same", True),
        ("start", "layers", "same", True),
        ("start", "0", "same", True),
        ("start", "attn", "changed", True),
        ("leaf", "gate", "added", False),
        ("start", "1–11 ×11", "same", True),
        ("leaf", "attn", "changed", False),
        ("leaf", "head", "same", False),
    ]
    assert sum(one.place == "end" for one in items) == sum(one.place == "start" for one in items)
    attention = items[3]
    assert (attention.before.name, attention.after.name) == ("Attention", "New")
    assert tree_items(ModelView()) == ()


def test_modules_that_differ_on_the_other_side_share_no_line() -> None:
    after = layers(2, "net.New")
    before = tuple(replace(one, params=7) if one.path == "layers.1.attn" else one for one in after)

    names = [one.name for one in tree_items(ModelView(before, after))]

    assert {"0", "1"} <= set(names)
    gone = tree_items(ModelView((*after, row("old")), after))
    assert [(one.name, one.kind) for one in gone if one.kind != "same"] == [("old", "removed")]


FLOW = Flow(
    "channel_attention",
    "(1, 512, 14, 14)",
    "(1, 512, 14, 14)",
    (Neighbour("encoder.4"), Neighbour("a" * 60)),
    (Neighbour("", inside=True, beside="up"), Neighbour("", inside=True), Neighbour("")),
)
VIEW = ModelView(
    layers(3, "net.Old"), layers(3, "net.New"), flows=(FLOW,), milliseconds=(20.0, 10.0)
)


def test_flow_around_a_site_is_drawn_with_its_shapes() -> None:
    drawn = drawn_flow(FLOW, outcomes.site("channel_attention"), {"": "Net", "encoder.4": "Block"})

    assert [(box.first, box.second, box.kind) for box in drawn.boxes] == [
        ("encoder.4", "Block", "other"),
        (f"…{'a' * 27}", "module", "other"),
        ("channel_attention", "Sequential → BiLevelRouting…", "site"),
        ("operations of Net", "before up", "around"),
        ("operations of Net", "in the model", "around"),
        ("the model", "Net", "other"),
    ]
    assert len(drawn.arrows) == 5
    assert {shape for _, _, shape in drawn.shapes} == {"(1, 512, 14, 14)"}
    assert drawn.words.startswith("encoder.4, aaa")
    beside = drawn_flow(FLOW, outcomes.beside("channel_attention", "after"), {})
    assert "BiLevelRoutingAttention, new" in beside.words
    assert drawn_flow(replace(FLOW, sources=FLOW.sources[:1], targets=FLOW.targets[:1]),
                      outcomes.site("a"), {}).height == 68  # fmt: skip


def test_page_with_a_view_has_trees_flow_and_latency() -> None:
    page = page_of(replace(outcomes.DONE, view=VIEW, receipt_text='{"modswap": "<0>"}'))

    assert page.count("svg") == 1
    assert "latency" in page.text
    assert "20 ms" in page.text
    assert '{"modswap": "<0>"}' in page.text
    assert {link.removeprefix("#") for link in page.links} <= {*page.ids}
    unread = replace(VIEW, milliseconds=None, untimed="weights were not read")
    assert "weights were not read" in page_of(replace(outcomes.DONE, view=unread)).text
    assert len(set(page.ids)) == len(page.ids)


def test_site_of_routed_windows_leads_to_its_routing_over_a_picture() -> None:
    line = "modswap explain out.pt:channel_attention --image PHOTO.jpg --format html"

    assert line in page_of(outcomes.DONE).text
    unwritten = page_of(replace(outcomes.DONE, written=None)).text
    assert "modswap explain OUT:channel_attention --image PHOTO.jpg" in unwritten
    assert "PHOTO.jpg" not in page_of(outcomes.FAILED).text
    others = tuple(replace(site, new_class="ECA") for site in outcomes.DONE.sites)
    assert "PHOTO.jpg" not in page_of(replace(outcomes.DONE, sites=others)).text


def test_routing_of_a_site_over_its_picture_is_in_the_place_of_the_command() -> None:
    routing = SiteRouting("channel_attention", FIRST, b"a picture")
    page = page_of(replace(outcomes.DONE, view=replace(VIEW, routings=(routing,))))

    assert "PHOTO.jpg" not in page.text
    assert "attend to which at channel_attention" in page.text
    assert page.count("image") == 1
    assert [one["type"] for tag, one in page.tags if tag == "input"] == ["search", "range"]
    assert len(set(page.ids)) == len(page.ids)


def test_healing_is_drawn_by_its_stages() -> None:
    curve = drawn_curve(HEALING)
    page = page_of(replace(outcomes.DONE, healing=HEALING))

    assert next(point.name for point in curve.points) == "swapped"
    assert [point.value for point in curve.points][-1] == "0.990"
    assert len(curve.line.split()) == sum(point.kept for point in curve.points)
    assert page.count("polyline") == 1
    for control in HEALING.controls:
        assert f"for comparison: {control.name}" in page.text


def test_page_of_a_healed_file_answers_whether_the_goal_is_reached() -> None:
    healed = replace(
        outcomes.DONE, command="heal", recipe="", verdict=None, healing=replace(HEALING, goal=0.9),
        sites=(replace(outcomes.site("a"), start="healed", mapped=(("w", "a.w"),), rule=""),),
    )  # fmt: skip

    text = page_of(healed).text
    short_of_it = page_of(replace(healed, healing=replace(HEALING, goal=0.999))).text

    assert "1 site healed in unetpp.pt: top-1 0.100 → 0.990; written to out.pt" in text
    assert "Is the goal reached?" in text
    assert "Not yet" not in text
    assert "Not yet" in short_of_it
    assert "not measured" not in text
    assert "a.w" not in text


def test_page_of_a_thousand_different_modules_is_under_a_megabyte() -> None:
    rows = tuple(row(f"part{n % 100}x.layer{n}y", f"net.Layer{n}") for n in range(1000))
    rows = (row("", "net.Net"), *(row(f"part{n}x", "net.Part") for n in range(100)), *rows)

    page = REPORTS["html"]([replace(outcomes.CHECKED, view=ModelView(rows, rows))], Page())

    assert len(page.encode()) < 1_000_000


UNTRAINED = "their weights are random"


@pytest.mark.parametrize(
    ("outcome", "said"),
    [(outcomes.DONE, True), (outcomes.HEALED, False), (outcomes.FAILED, False)],
    ids=["fresh", "healed", "failed"],
)
def test_yes_is_not_said_of_random_weights_alone(outcome: Outcome, *, said: bool) -> None:
    assert (UNTRAINED in page_of(outcome).text.partition("What does it cost?")[0]) is said
    kept = tuple(replace(site, start="preserve") for site in outcome.sites)
    assert UNTRAINED not in page_of(replace(outcome, sites=kept)).text.partition("What does")[0]
