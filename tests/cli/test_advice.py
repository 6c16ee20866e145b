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
TEXTS = dict(texts())
ARGUMENT = re.compile(r"\b([a-z_]+)=(?=['\[`TF]|$)")


@pytest.mark.parametrize("place", TEXTS)
def test_option_in_a_text_exists_for_a_command(place: str) -> None:
    """The command that a text belongs to is not known here: one has to have them all."""
    text = TEXTS[place].replace("--x", "")  # an option with the name of a setting

    assert any(not foreign_options(text, command) for command in options())


@pytest.mark.parametrize("place", [place for place in TEXTS if not COMMAND_ALONE.match(place)])
def test_text_has_a_python_spelling_whose_arguments_exist(place: str) -> None:
    python = as_python(TEXTS[place]).removeprefix("--")  # a place, `--input`
    functions = (modswap.load, modswap.replace, modswap.save)
    known = {name for function in functions for name in signature(function).parameters}

    assert not OPTION.search(re.sub("`modswap [^`]*`", "", python))
    assert {*ARGUMENT.findall(re.sub('".*?"', "'text'", python))} <= known


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
