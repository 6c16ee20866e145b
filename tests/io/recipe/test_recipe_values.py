"""Values of a recipe: numbers are numbers, text is text, and what is written reads back."""

import json
import math
from typing import Any

import pytest
import yaml

from modswap.core.errors import RecipeError
from modswap.io.recipe.reader import parse_recipe, write_recipe

SMALL = "version: 1\nreplace:\n  - match: a\n    with: B\n"


def parse(text: str) -> Any:
    return parse_recipe(text, "swap.yaml", "/recipes")


def errors(text: str) -> list[str]:
    with pytest.raises(RecipeError) as raised:
        parse(text)
    return [error.line() for error in raised.value.all]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            'inputs: [{shape: ["1"]}]',
            "item 1 of 'shape' is '1', expected a whole number; take the q",
        ),
        (
            "inputs: [{shape: [true]}]",
            "item 1 of 'shape' is True, expected a whole number; correct",
        ),
        ("inputs: [{shape: [2.0]}]", "item 1 of 'shape' is 2.0, expected a whole number; write 2"),
        (
            "inputs: [{shape: [2.5]}]",
            "item 1 of 'shape' is 2.5, expected a whole number; correct it",
        ),
        (f"inputs: [{{shape: [{2**63}]}}]", "expected a number below 9223372036854775808; correct"),
        (
            "verify: {sizes: [[1.0, 2]]}",
            "item 1 of item 1 of 'sizes' is 1.0, expected a whole numb",
        ),
        (
            'verify: {sizes: [[1, "2"]]}',
            "item 2 of item 1 of 'sizes' is '2', expected a whole numb",
        ),
        ("    expect: true", "'expect' is True, expected a whole number"),
        ('    expect: "2"', "'expect' is '2', expected a whole number; take the quotes off"),
        ("    where: {width: true}", "'width' is True, expected a number, or a comparison"),
        ("    where: {width: -1}", "'width' is -1, expected a number, or a comparison"),
        ("    where: {width: 1.0}", "'width' is 1.0, expected a number, or a comparison"),
        ("inputs: [{shape: [1], fill: {integers: [0, true]}}]", "item 2 of 'integers' is True"),
        ("seed: false", "'seed' is False, expected a whole number"),
    ],
)
def test_whole_number_is_no_text_no_truth_value_and_no_fraction(line: str, message: str) -> None:
    (error,) = errors(f"{SMALL}{line}\n")

    assert message in error


@pytest.mark.parametrize("version", ["true", "1.0", "'1'"])
def test_version_is_a_whole_number(version: str) -> None:
    (error,) = errors(SMALL.replace("1", version, 1))

    assert error.startswith("swap.yaml:1:1: 'version' is ")
    assert "expected a whole number" in error


@pytest.mark.parametrize("key", ["with", "class"])
def test_name_that_a_key_has_in_python_is_no_key(key: str) -> None:
    text = f"{SMALL}    class: C\n".replace(key, f"{key}_")

    assert f"unknown key '{key}_'; did you mean '{key}'?" in "\n".join(errors(text))


@pytest.mark.parametrize(
    ("number", "wanted"),
    [
        ("1e-6", "1.0e-6"),
        ("1E5", "1.0e+5"),
        ("-2.5e3", "-2.5e+3"),
        ("3.e2", "3.e+2"),
        ("1_0e5", "1_0.0e+5"),
        ("&a 1e-6", "1.0e-6"),
    ],
)
def test_exponent_that_yaml_reads_as_text_is_refused_in_arguments(number: str, wanted: str) -> None:
    (error,) = errors(f"{SMALL}    args: {{deep: [{number}]}}\n")

    assert error.startswith("swap.yaml:5:19: YAML reads '")
    assert error.endswith(f" as text; write {wanted}, or quote it if text is meant")
    assert isinstance(yaml.safe_load(wanted), float)


@pytest.mark.parametrize("text", ["'1e-6'", '"1e-6"', "!!str 1e-6", "1e-6x", "e5", "0x1e5"])
def test_text_that_is_meant_stays_text(text: str) -> None:
    recipe = parse(f"{SMALL}    args: {{x: {text}}}\n")

    assert recipe.replace[0].args == {"x": yaml.safe_load(text)}


def test_file_may_be_named_like_a_number() -> None:
    assert parse(f"{SMALL}checkpoint: 1e6\n").checkpoint == "1e6"


def test_escapes_in_two_halves_are_one_character() -> None:
    assert parse(f'{SMALL}checkpoint: "\\ud83d\\ude00.pt"\n').checkpoint == "\U0001f600.pt"


def test_numbers_that_json_lacks_read_back_equal() -> None:
    text = SMALL + "    args: {a: .inf, b: [-.inf, {c: .nan}], d: 1.0e-6, e: 1.0e+30}\n"

    args = parse(write_recipe(parse(text))).replace[0].args

    assert args == {
        "a": math.inf, "b": [-math.inf, {"c": pytest.approx(math.nan, nan_ok=True)}],
        "d": 1e-6, "e": 1e30,
    }  # fmt: skip


@pytest.mark.parametrize(
    "character", ["\x85", "\u2028", "\u2029", "\ufeff", "\x00", "\x7f", "é", "1e-6"]
)
def test_text_of_odd_characters_reads_back_equal(character: str) -> None:
    text = f"{SMALL}    args: {{x: {json.dumps(character)}, {json.dumps(f'a{character} b')}: 1}}\n"

    args = parse(write_recipe(parse(text))).replace[0].args

    assert args == {"x": character, f"a{character} b": 1}


def test_mistake_is_reported_once() -> None:
    assert errors(SMALL + "seed: !!python/none x\n    \n") == [
        "swap.yaml:5:7: the tag 'tag:yaml.org,2002:python/none' is not read; take it out"
    ]
