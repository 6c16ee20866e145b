"""Drift since a check was locked."""

import math

import pytest

from modswap.core.decided.blueprint import Choice
from modswap.core.kept.lock import Entry, Fingerprint, Lock, SiteLock, drifts, entry_of
from modswap.core.kept.outcome import Outcome, SiteOutcome

MARK = Fingerprint(name="net.pt", nbytes=1000, kind="sha256", digest="ab" * 32)
SITE = SiteLock(old="a.Gate", new="b.BRA", layout="NCHW", args={"dim": 512}, chosen={"topk": 4})
ENTRY = Entry(
    recipe="12" * 32, checkpoint=MARK, versions={"torch": "2.10"}, sites={"space_attention": SITE}
)


def said(now: Entry, then: Entry = ENTRY) -> list[str]:
    return [error.what for error in drifts(then, now, "swap.yaml")]


def sites(**update: object) -> dict[str, object]:
    return {"sites": {"space_attention": SITE.model_copy(update=update)}}


def test_what_is_as_it_was_has_not_drifted() -> None:
    assert drifts(ENTRY, Entry.model_validate_json(ENTRY.model_dump_json()), "swap.yaml") == ()


@pytest.mark.parametrize(
    ("update", "what"),
    [
        ({"recipe": "34" * 32}, ["recipe was 121212121212, is 343434343434"]),
        (
            {"checkpoint": MARK.model_copy(update={"digest": "cd" * 32})},
            [
                (
                    f"checkpoint was net.pt (1,000 bytes, sha256 {'ab' * 6}), is net.pt"
                    f" (1,000 bytes, sha256 {'cd' * 6})"
                )
            ],
        ),
        ({"versions": {"torch": "2.11"}}, ["torch version was 2.10, is 2.11"]),
        (sites(args={"dim": 256}), ["dim of space_attention was 512, is 256"]),
        (sites(args={}), ["dim of space_attention was 512, is not set"]),
        (sites(args={"dim": 512.0}), ["dim of space_attention was 512, is 512.0"]),
        (sites(chosen={"topk": None}), ["topk of space_attention was 4, is null"]),
        (sites(layout="NHWC"), ["site layout of space_attention was NCHW, is NHWC"]),
        (sites(old="c.Gate"), ["class of space_attention was a.Gate, is c.Gate"]),
        (
            {"sites": {"head": SITE}},
            ["space_attention was swapped, is not any more", "head was not swapped, is now"],
        ),
        ({"sites": {}}, []),  # the check ended before
    ],
)
def test_drift_is_reported_with_both_sides(update: dict[str, object], what: list[str]) -> None:
    assert said(ENTRY.model_copy(update=update)) == what


def test_renamed_checkpoint_has_not_drifted() -> None:
    moved = MARK.model_copy(update={"name": "other.pt"})

    assert said(ENTRY.model_copy(update={"checkpoint": moved})) == []


def test_drift_ends_with_one_and_says_how_to_accept_it() -> None:
    (error,) = drifts(ENTRY, ENTRY.model_copy(update={"versions": {}}), "swap.yaml")

    assert error.code == 1
    assert error.line() == (
        "swap.yaml: torch version was 2.10, is not set; "
        "if that is meant, lock it anew: `modswap check swap.yaml --lock`"
    )


def test_entry_holds_what_was_decided_and_reads_back_equal() -> None:
    site = SiteOutcome(
        "gate", (), "swap.yaml:3:5", "a.Gate", 1, "b.BRA", 2,
        {"size": (1, 2), "eps": math.inf, "by": math.nan}, (), "NHWC",
        choices=(Choice("topk", 4, "because"),),
    )  # fmt: skip
    outcome = Outcome("check", "net.pt", "swap.yaml", sites=(site,))

    entry = entry_of(outcome, "12", MARK, {"python": "3.12"})
    lock = Lock(recipes={"swap.yaml": entry})
    read = Lock.model_validate_json(lock.text())

    assert entry.sites["gate"].args["size"] == [1, 2]
    assert entry.sites["gate"].chosen == {"topk": 4}
    assert read.text() == lock.text()
    assert drifts(entry, read.recipes["swap.yaml"], "swap.yaml") == ()
