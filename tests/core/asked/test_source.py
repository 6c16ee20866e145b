"""Errors name the line of a recipe's key, or the option that gave it."""

from hashlib import sha256

from modswap.core.asked.source import COMMAND_LINE, Source

LINES = {(): (1, 1), ("replace",): (2, 1), ("replace", 0, "match"): (3, 5)}


def test_place_is_that_of_the_key_or_of_the_nearest_key_around_it() -> None:
    source = Source("swap.yaml", "text", LINES)

    assert source.at("replace", 0, "match") == "swap.yaml:3:5"
    assert source.at("replace", 0, "with") == "swap.yaml:2:1"
    assert source.line("inputs") == (1, 1)


def test_recipe_without_lines_is_named_alone() -> None:
    assert Source("swap.yaml").at("replace") == "swap.yaml"
    assert Source("swap.yaml").line("replace") == (0, 0)


def test_option_takes_the_place_of_a_line() -> None:
    options = {("replace", 0): "--match", ("replace", 0, "args", "k"): "--set k"}
    source = Source(COMMAND_LINE, "text", LINES, options=options)

    assert source.at("replace", 0, "args", "k", 1) == "--set k"
    assert source.at("replace", 0, "where") == "--match"
    assert source.at("inputs") == ""


def test_digest_is_the_sha256_of_the_text() -> None:
    assert Source(text="é").digest == sha256("é".encode()).hexdigest()
