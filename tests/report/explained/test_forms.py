"""The forms of an explained pass.

Covers: data, html, labels, layout, markdown, text.
"""

import json
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from modswap.report.explained import FORMS
from modswap.report.explained.labels import LABELS, short
from modswap.report.page import Page
from tests.report.explained.records import explained


def test_text_has_a_row_for_each_line_that_ran_and_folds_the_others() -> None:
    text = FORMS["text"](explained(), "en", Page())

    lines = [line.strip() for line in text.split("\n")]
    assert "… 2 statements did not run" in lines
    assert "… 1 statement did not run" in lines
    assert any(line.startswith("y = f('<script>") and "1.23M" in line for line in lines)
    assert "the <b>first</b> step" in lines
    assert "a = C; Σ b" in lines
    assert any("NaN!" in line for line in lines)
    assert any(line.startswith("2\N{MULTIPLICATION SIGN} z = fc(y)") for line in lines)
    assert any(line.startswith("⤷ Linear fc.0, fc.2 2\N{MULTIPLICATION SIGN}") for line in lines)
    assert "FLOP 1,000 = torch's own counter, + 500 in operators that it leaves out" in text
    assert "(aten::flash 500)" in text
    assert "bias      (not kept by the module)" in text
    assert "w = g(z)" in text
    assert "for module in self" not in text
    assert any(line.split()[:4] == ["the", "catalogue's", "formula", "8"] for line in lines)
    assert "; the catalogue's formula, 8*x: 8" in " ".join(text.split())
    assert "each window attends to 2 of 4 windows; 2 of them hold a part" in text
    assert "50% of their routes lead into padding" in text
    assert "padding" not in FORMS["text"](explained(timed=False), "en", Page())
    assert "100%" in text


def test_text_without_times_or_texts_leaves_them_out() -> None:
    text = FORMS["text"](explained(timed=False, lesson=False), "en", Page())

    assert "ms" not in text
    assert "%" not in text
    assert "bit for bit" not in text
    assert "FLOP 1,000 = torch's own counter\n" in text
    assert "a note" in text


def test_long_lines_go_on_further_to_the_right() -> None:
    found = explained(timed=False, lesson=False)
    line = replace(
        found.root.lines[2], source=("value = function(first_argument, second_argument)",)
    )
    root = replace(found.root, lines=(line,))

    text = FORMS["text"](replace(found, root=root), "en", Page(60))

    start = text.index("value = ")
    assert text[start:].split("\n")[1].rstrip() == "    second_argument)"


def test_text_is_chinese_on_request() -> None:
    text = FORMS["text"](explained(), "zh", Page())

    assert "第一步" in text
    assert "……有 2 条语句没有执行" in text
    assert "与 torch 自带计数器一致" in text
    assert "torch's own" not in text


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("timed", [True, False])
def test_hostile_names_do_no_harm(form: str, timed: bool) -> None:
    text = FORMS[form](explained(timed=timed, lesson=timed), "en", Page())

    assert "\x1b" not in text
    assert form != "html" or text.count("<script>") == 1  # the page's own


def test_markdown_has_a_table_of_lines_in_which_names_mark_up_nothing() -> None:
    text = FORMS["markdown"](explained(), "en", Page())

    rows = [line for line in text.split("\n") if line.startswith("| ")]
    (lines,) = (line for line in rows if "y = f(" in line)
    assert lines.startswith("| 4 | `` y = f('<script>\\|`\\x1b[31m') `` | y (N, C, 4), &lt;script>")
    assert "| the &lt;b>first&lt;/b> step | 1.23M | 617k | 4.94M | 2.00 | 100% |" in lines
    assert "| `bias` | not kept by the module |  |" in rows
    assert "```text\ny = f(x)\nz = y\n```" in text
    assert "|  | **the catalogue's formula** |  |  | 8 |  |  |  |  |" in rows
    # pipes that end a cell are those of the table alone
    assert {line.replace("\\|", "").count("|") for line in rows if "<br>" in line} == {10}


class Balance(HTMLParser):
    """Follow the elements that are open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names[tag] += 1
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_a_sound_page_with_a_table_for_each_function() -> None:
    page = FORMS["html"](explained(), "zh", Page())
    balance = Balance()

    balance.feed(page)

    assert balance.open == []
    assert balance.names["script"] == 1
    assert "style=" not in page
    assert balance.names["details"] == 3  # and the windows of the routing
    assert '<html lang="zh">' in page
    assert "y = f(\n    &#x27;&lt;script&gt;" in page
    assert '<div class="step">第一步</div>' in page
    assert '<span class="mark">NaN!</span>' in page
    assert page.count("NaN!") == 1
    assert '<tfoot><tr><td></td><th scope="row">合计</th><td class="n">1k</td>' in page
    assert '<th scope="row">目录中的公式</th><td class="n">8</td><td class="n"></td>' in page
    assert '<rect width="100" height="4"/>' in page
    assert "2\N{MULTIPLICATION SIGN} z = fc(y)" in page
    assert 'class="bar"' not in FORMS["html"](explained(timed=False), "zh", Page())


def test_json_holds_the_texts_of_one_language() -> None:
    told = json.loads(FORMS["json"](explained(), "zh", Page()))

    assert told["root"]["lines"][2]["words"] == "第一步"
    assert told["numbers"] == {"flops": 1000, "beyond": 500, "nbytes": 4000, "seconds": 0.002}
    assert told["text"]["symbols"] == {"y": "特征图"}


def test_every_label_is_in_both_languages() -> None:
    assert all(words.en and words.zh for words in LABELS.values())


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, ""), (7, "7"), (999, "999"), (1000, "1k"), (999_600, "1M"), (2 * 10**12, "2T")],
)
def test_numbers_are_short(count: int, expected: str) -> None:
    assert short(count) == expected
