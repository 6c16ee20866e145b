"""The commands that print the numbers of a page again."""

from dataclasses import replace

from modswap.report.web.again import again, explained_again, swept_again, typed
from tests.report import outcomes
from tests.report.outcomes import HEALING

ARGS = (
    "check", "net.pt", "--match", "a b", "--with", "ECA", "--fix", "-j", "2", "--format", "html",
    "--report=x.html",
)  # fmt: skip


def test_commands_keep_the_words_that_were_typed_but_those_on_the_report() -> None:
    assert typed(outcomes.CHECKED, ARGS) == [
        "check", "net.pt", "--match", "a b", "--with", "ECA",
    ]  # fmt: skip
    first = again(outcomes.CHECKED, ARGS)[0]
    assert first.command == ("modswap check net.pt --match 'a b' --with ECA --format json | jq .ok")


def test_commands_of_a_caller_from_python_are_made_of_the_outcome() -> None:
    found = {one.key: one.command for one in again(outcomes.DONE, ())}

    assert found["params"] == (
        "modswap replace unetpp.pt -c configs/unetpp_bra.yaml --dry-run --format json | jq .params"
    )
    assert found["file"] == "modswap verify out.pt"
    assert found["diff"] == "modswap diff unetpp.pt out.pt"
    assert "healing" not in found
    assert typed(replace(outcomes.DONE, recipe=""), ()) == ["replace", "unetpp.pt"]


def test_numbers_of_a_healing_have_a_command() -> None:
    found = again(replace(outcomes.DRY, healing=HEALING), ("heal", "a.pt", "-o", "b.pt"))

    assert "healing" in [one.key for one in found]
    assert "-o" not in found[0].command


def test_words_that_cannot_be_seen_have_escapes() -> None:
    found = again(outcomes.DONE, ("replace", "a\u202eb\n.pt"))

    assert "\\u202e" in found[0].command
    assert all(one.command.isprintable() for one in found)


def test_command_of_a_sweep_keeps_the_file_of_its_results_and_draws_nothing() -> None:
    args = (
        "sweep", "net.pt", "--resume", "kept.json", "--plot", "a.svg", "--plot-cost=memory", "-q",
        "--heal-best", "2", "--format", "html",
    )  # fmt: skip

    assert swept_again(args) == (
        "modswap sweep net.pt --resume kept.json --heal-best 2 --format json"
    )
    assert swept_again(()) == ""


def test_command_of_an_explanation_draws_nothing() -> None:
    args = ("explain", "a.pt:b", "--routing", "o.svg", "--window", "1,2", "--format=html")

    assert explained_again(args) == "modswap explain a.pt:b --format json"
    assert explained_again(()) == ""
