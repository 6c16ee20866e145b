"""Paragraphs and tables to paste."""

from dataclasses import replace

import pytest

from modswap.core.decided.verdict import Verdict
from modswap.core.finding import Finding
from modswap.core.kept.outcome import Outcome
from modswap.report.web.paste import as_latex, as_markdown, latex, sentence
from tests.report import outcomes


def test_sentence_says_what_was_swapped_and_what_it_cost() -> None:
    text = sentence(outcomes.DONE)

    assert text.startswith(
        "In unetpp.pt, BiLevelRoutingAttention replaces 2 modules (Sequential); "
        "every check of the swap holds. Parameters 9,163,000 → 6,552,824"
    )
    assert "put in beside 5 modules" in sentence(outcomes.BESIDE)


def test_sentence_of_nothing_but_an_error_has_no_numbers() -> None:
    text = sentence(outcomes.EARLY)

    assert text.startswith("In net.pt, the swap does not hold (gate: what). Measured with")
    taken = replace(outcomes.site("a"), new_class="")
    assert "nothing replaces 1 module (" in sentence(replace(outcomes.DONE, sites=(taken,)))


def test_markdown_has_a_table_of_sites_and_one_of_numbers() -> None:
    lines = as_markdown(outcomes.DONE).splitlines()

    assert "| site | old → new | parameters |" in lines
    assert any("9,163,000 | 6,552,824" in line for line in lines)


@pytest.mark.parametrize("outcome", [outcomes.EARLY, outcomes.REFUSED])
def test_tables_without_rows_are_left_out(outcome: Outcome) -> None:
    assert "|" not in as_markdown(outcome)
    assert "tabular" not in as_latex(outcome)


def test_latex_has_balanced_tables_and_no_command_of_a_name() -> None:
    text = as_latex(replace(outcomes.DONE, checkpoint=r"\input{/etc/passwd}$_^~%&#.pt"))

    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert r"\input" not in text
    assert r"\textbackslash{}input\{/etc/passwd\}\$\_" in text
    assert latex("a → b") == r"a $\rightarrow$ b"


def test_number_without_a_value_before_is_said_by_itself() -> None:
    found = Finding("drift", "", "passed", data={"relative": 0.25})
    verdict = replace(outcomes.DONE.verdict or Verdict((), finite=None), findings=(found,))

    text = sentence(replace(outcomes.DONE, verdict=verdict))

    assert "Output drift, relative 0.25; parameters 9,163,000 →" in text
