"""Reports of `verify`, for people and for programs."""

import json

from modswap.core.errors import CheckpointError
from modswap.core.kept.comparison import Comparison, Unequal
from modswap.core.kept.outcome import Amount
from modswap.report.page import Page
from modswap.report.verify import SHOWN_DIFFERENCES, verify_json, verify_table

TENSOR = Unequal("net.safetensors", "tensor", "a\n::error::b", "CRC-32", "0000000a", "0000000b")
RECORD = Unequal("net.pt", "record", "net/data/0", "CRC-32", "0000000a", "0000000b", "x, y")
WIDE = Page(width=200)


def test_equal_file_has_two_lines() -> None:
    found = Comparison("net.safetensors", "safetensors", Amount(3, 2048))

    assert verify_table(found, WIDE) == (
        "compared  3 tensors, 2.0 KiB, by CRC-32\nOK  net.safetensors is equal\n"
    )


def test_differences_and_notes_are_listed() -> None:
    found = Comparison(
        "net.pt", "torch", Amount(1, 4), 2, Amount(1, 9), (RECORD,), ("no checksum",)
    )

    assert verify_table(found, WIDE).splitlines() == [
        "compared  1 file, 9 B, by SHA-256",
        "compared  1 record, 4 B, by CRC-32",
        "unknown   2 without a checksum",
        "differs   record 'net/data/0' (x, y) in net.pt: CRC-32 is 0000000b, expected 0000000a",
        "note      no checksum",
        "FAILED  net.pt differs in 1 place",
    ]


def test_names_from_a_file_stay_on_their_line() -> None:
    text = verify_table(Comparison("net", "safetensors", unequal=(TENSOR, TENSOR)), WIDE)

    assert not any(line.startswith("::") for line in text.splitlines())
    assert text.endswith("FAILED  net differs in 2 places\n")


def test_only_the_first_differences_are_listed_unless_the_page_is_verbose() -> None:
    found = Comparison("net.pt", unequal=(RECORD,) * (SHOWN_DIFFERENCES + 5))

    assert "and 5 more; -v lists all" in verify_table(found, WIDE)
    everything = verify_table(found, Page(width=200, verbose=True))
    assert everything.count("differs   ") == SHOWN_DIFFERENCES + 5


def test_file_that_was_not_compared_is_no_success() -> None:
    found = Comparison("net.pt", error=CheckpointError("no such file", "net.pt"))

    assert verify_table(found, WIDE) == "FAILED  net.pt was not compared\n"


def test_json_has_every_field() -> None:
    found = Comparison("net.pt", "torch", Amount(1, 4), 2, Amount(1, 9), (RECORD,), ("note",))

    data = json.loads(verify_json(found))

    assert data.pop("modswap")
    assert data == {
        "schema": 1,
        "command": "verify",
        "checkpoint": "net.pt",
        "format": "torch",
        "ok": False,
        "compared": {"tensors": 1, "bytes": 4},
        "unknown": 2,
        "digests": {"files": 1, "bytes": 9},
        "different": [
            {
                "file": "net.pt", "kind": "record", "name": "net/data/0", "algorithm": "CRC-32",
                "expected": "0000000a", "found": "0000000b", "tensors": "x, y",
            }
        ],
        "notes": ["note"],
        "seconds": 0.0,
        "error": None,
    }  # fmt: skip


def test_json_has_the_error() -> None:
    found = Comparison("net.pt", error=CheckpointError("no such file", "net.pt", "name it"))

    error = json.loads(verify_json(found))["error"]

    assert (error["code"], error["where"], error["what"]) == (3, "net.pt", "no such file")
