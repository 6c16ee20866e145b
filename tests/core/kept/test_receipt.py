"""Receipts are written, read again and refused where damaged."""

import pytest

from modswap.core.decided.blueprint import Adaptation, Blueprint
from modswap.core.errors import CheckpointError
from modswap.core.kept.receipt import Receipt, SiteRecord, read_receipt, record, with_digests

PLAIN = Blueprint("BiLevelRoutingAttention", {"dim": 8, "qk_scale": None}, "NCHW", "NCHW")
ADAPTED = Blueprint(
    "net.py:Mixer",
    {"dim": 8},
    "NLC",
    "NHWC",
    ("mask",),
    Adaptation(8, 16, (2, 2), "tuple", 2),
    keyword="x",
    repeats=("key", "value"),
)


@pytest.mark.parametrize("blueprint", [PLAIN, ADAPTED])
def test_blueprint_comes_back_from_a_receipt(blueprint: Blueprint) -> None:
    receipt = Receipt(modswap="1", torch="2", sites=(record(("a", "b"), blueprint),))

    (site,) = read_receipt(receipt.text(), "net.pt").sites

    assert site.paths == ("a", "b")
    assert site.blueprint() == blueprint


def test_receipt_of_a_later_version_is_read() -> None:
    receipt = read_receipt('{"modswap": "9", "torch": "3", "novel": [1]}', "net.pt")

    assert receipt.modswap == "9"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{", "its top"),
        ('{"modswap": 1, "torch": "2"}', "modswap"),
        (
            '{"modswap": "1", "torch": "2", "sites": [{"paths": [], "module": "ECA", "args": {}}]}',
            "sites.0.paths",
        ),
    ],
)
def test_damaged_receipt_names_the_file_and_the_place(text: str, place: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^net\.pt: the receipt inside.*'{place}'"):
        read_receipt(text, "net.pt")


def test_half_a_character_is_refused() -> None:
    receipt = Receipt(
        modswap="1", torch="2", sites=(SiteRecord(paths=("ga\ud800te",), module="ECA", args={}),)
    )

    with pytest.raises(CheckpointError, match=r"a name of a swapped module cannot be written"):
        receipt.text()


def test_digests_are_put_into_a_receipt() -> None:
    text = Receipt(modswap="1", torch="2", sites=(record(("a",), PLAIN),)).text()

    again = read_receipt(with_digests(text, {"a.weight": "0badcafe"}), "net.pt")

    assert again.digests == {"a.weight": "0badcafe"}
    assert again.sites == read_receipt(text, "net.pt").sites
