"""Values of checkpoints as text to compare."""

from modswap.core.seen.entries import (
    MAX_TEXT,
    PlainEntry,
    file_text,
    flat,
    in_short,
    is_optimizer,
    name_of,
    text_of,
)


def test_short_values_are_their_texts() -> None:
    assert text_of({"a": [1, 2.5]}) == "{'a': [1, 2.5]}"
    assert text_of(float("nan")) == "nan"
    assert in_short("a\nb") == "a\\nb"


def test_long_values_that_differ_at_the_end_differ_as_texts() -> None:
    one, other = text_of([0] * 999), text_of([0] * 998 + [1])

    assert one != other
    assert one.startswith("[0, 0")
    assert "(2,997 characters, sha256 " in one
    assert len(one) < 2 * MAX_TEXT
    assert in_short("x" * 999) != in_short("x" * 998 + "y")
    assert in_short("version: 1\n" * 99).startswith("version: 1… (1,089 characters, sha256 ")


def test_json_is_flattened_to_its_plain_values() -> None:
    data = {"a": 1, "b": {"c": [1, 2], "d": [{"e": None}]}, "f": {}}

    assert dict(flat("config.json:", data)) == {
        "config.json:a": PlainEntry("1"),
        "config.json:b.c": PlainEntry("[1, 2]"),
        "config.json:b.d.0.e": PlainEntry("None"),
        "config.json:f": PlainEntry("{}"),
    }


def test_names_begin_with_the_first_key() -> None:
    assert name_of(["ema", "stem", 0]) == "ema:stem.0"
    assert name_of(["epoch"]) == "epoch"


def test_keys_of_optimizers_are_known_by_their_beginning() -> None:
    known = [key for key in ("optim", "optimizer_states", "ema", 0) if is_optimizer(key)]

    assert known == ["optim", "optimizer_states"]


def test_files_are_named_by_size_and_digest() -> None:
    assert file_text(1234, "ab" * 32) == "1,234 bytes, sha256 abababababab…"
