"""Advice of errors: the options that it names exist, for the command and for callers from Python.

Each run of the command in a test is judged by `refuse_foreign_options` besides.
"""

import re
from inspect import signature

import pytest

import modswap
from modswap.core.words.python_spelling import as_python
from tests.advice import OPTION, foreign_options, options, texts

# of jobs that only the command has
COMMAND_ALONE = re.compile(
    "core/(decided/remedies|kept/lock|words/option_spelling)|io/lock|report/|ops/"
    "(build/fit_from_layers|code/|explain/(picture|routing|subject)|heal/|jobs/|measure/)"
)
ARGUMENT = re.compile(r"\b([a-z_]+)=(?=['\[`TF]|$)")


def test_options_in_a_text_exist_for_a_command() -> None:
    """The command that a text belongs to is not known here: one has to have them all."""
    # `--x`: an option with the name of a setting
    plain = {place: text.replace("--x", "") for place, text in texts().items()}

    assert len(plain) > 100
    assert [
        place
        for place, text in plain.items()
        if all(foreign_options(text, command) for command in options())
    ] == []


def test_texts_have_a_python_spelling_whose_arguments_exist() -> None:
    functions = (modswap.load, modswap.replace, modswap.save)
    known = {name for function in functions for name in signature(function).parameters}
    wrong: dict[str, list[str]] = {}
    for place, text in texts().items():
        python = as_python(text).removeprefix("--")  # a place, `--input`
        left = OPTION.findall(re.sub("`modswap [^`]*`", "", python))
        named = ARGUMENT.findall(re.sub('".*?"', "'text'", python))
        bad = [*left, *({*named} - known)]
        if bad and not COMMAND_ALONE.match(place):
            wrong[place] = bad

    assert wrong == {}


@pytest.mark.parametrize(
    ("text", "command", "foreign"),
    [
        ("add --force", "check", ["check --force"]),
        ("add --force", "replace", []),
        ("`replace --no-forward` swaps; `modswap check R --lock`", "tree", []),
        ("`modswap tree F --lock` or --allow a", "check", ["tree --lock"]),
    ],
)
def test_option_that_a_command_lacks_is_found(text: str, command: str, foreign: list[str]) -> None:
    assert foreign_options(text, command) == foreign
