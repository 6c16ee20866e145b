"""JSON of a stranger is read within bounds, and refused in words beyond them."""

import json
from typing import Any

import pytest

from modswap.core.errors import CheckpointError
from modswap.io.recognise import json_text
from modswap.io.recognise.json_text import MAX_NESTING, MalformedError, parse_json


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -2.5, None, True, "x"], "b": {"a": {}}},
        [],
        "text",
        1e308,
        10**99,
        None,
    ],
)
def test_json_of_a_program_is_read_as_it_is(value: object) -> None:
    assert parse_json(json.dumps(value).encode(), "x") == value


def nested(depth: int) -> bytes:
    return b'{"a":[' * (depth // 2) + b"[]" + b"]}" * (depth // 2)


def test_nesting_is_read_up_to_its_bound() -> None:
    value: Any = parse_json(nested(MAX_NESTING - 1), "x")

    for _ in range((MAX_NESTING - 1) // 2):
        value = value["a"][0]
    assert value == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (nested(MAX_NESTING), "nested more than 100 deep"),
        (b"[" * 100_000, "nested more than 100 deep"),
        (b'{"a":' * 100_000, "nested more than 100 deep"),
        (b"[" * 90_000 + b"]" * 90_000, "nested more than 100 deep"),
        (b'{"a": 1, "b": 2, "a": 1}', "it names 'a' twice"),
        (b'[{"x": {"n": 1, "n": 2}}]', "it names 'n' twice"),
        (b'{"\\u0061": 1, "a": 2}', "it names 'a' twice"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "holds the number 10000000000000000000…, which is too"),
        (b"[-" + b"9" * 120 + b"]", "which is too large"),
        (b"1e999", "holds the number 1e999, which is too large"),
        (b"[-1.0E+400]", "which is too large"),
        (b"[" + b"[]," * 600_000 + b"0]", "it holds too many values"),
        (b"[" + b"0," * 4_000_001 + b"0]", "it holds too many values"),
    ],
)
def test_json_that_no_program_writes_is_refused(text: bytes, what: str) -> None:
    with pytest.raises(CheckpointError, match=what) as caught:
        parse_json(text, "config.json")

    assert caught.value.where == "config.json"
    assert len(str(caught.value)) < 400
    assert not isinstance(caught.value, MalformedError)


@pytest.mark.parametrize("text", [b"", b"{", b"{1: 2}", b"\xff\xfe\xff", b"nul", b"\0" * 40])
def test_text_that_is_no_json_has_an_error_of_its_own(text: bytes) -> None:
    with pytest.raises(MalformedError, match="x: it cannot be read: it is no JSON: "):
        parse_json(text, "x")


@pytest.mark.ci
@pytest.mark.slow
def test_bounds_leave_room_for_the_largest_index() -> None:
    tensors = 200_000
    text = json.dumps({"weight_map": {f"model.layers.{n}.w": "a" for n in range(tensors)}})

    assert len(parse_json(text.encode(), "x")["weight_map"]) == tensors
    assert tensors * 10 < json_text.MAX_VALUES
