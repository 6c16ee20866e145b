"""The choice between ways on a GPU follows a switch, or what was measured.

Covers: evidence.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from modswap.nn.gpu import evidence, gpu_way, way
from modswap.nn.gpu.evidence import KEYS, TABLE, TIMES, MeasuredCall, faster, read_rows

CALL = MeasuredCall("BiLevelRoutingAttention", "16@4x4", 8, "float32", training=False)
ROW = {
    "layer": CALL.layer, "sizes": CALL.sizes, "batch": 4, "dtype": CALL.dtype,
    "card_class": "sm_90", "windows": {"forward": 2.0, "training": 5.0},
    "fused": {"forward": 1.0, "training": 6.0}, "card": "a card", "torch": "2.13.0",
    "triton": "3.9.0", "date": "2026-11-29",
}  # fmt: skip


def asked(x: Any, call: MeasuredCall = CALL) -> bool:
    return way.wants_fused(x, lambda: call)


class OnCard:
    """A tensor on a GPU, as far as the choice asks."""

    is_cuda = True
    dtype = torch.float32
    device = torch.device("cuda:0")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> OnCard:
    monkeypatch.setattr(way, "_capability", lambda _: (9, 0))
    monkeypatch.setattr(way, "HAS_TRITON", True)
    monkeypatch.setattr(way, "_asked", "auto")
    return OnCard()


def write(rows: list[dict[str, Any]], file: Path, patch: pytest.MonkeyPatch) -> None:
    file.write_text(json.dumps({"schema": 1, "rows": rows}), encoding="utf-8")
    found = read_rows(file)
    patch.setattr(evidence, "ROWS", found)
    patch.setattr(way, "ROWS", found)


def test_nothing_that_was_not_measured_is_chosen(card: OnCard) -> None:
    assert [asked(card), asked(torch.zeros(1))] == [False, False]


def test_switch_chooses_on_cards_alone(card: OnCard) -> None:
    with gpu_way("fused"):
        assert [asked(card), asked(torch.zeros(1))] == [True, False]
        with gpu_way("windows"):
            assert not asked(card)
        assert asked(card)
    assert not asked(card)


@pytest.mark.parametrize(
    ("attribute", "value"), [("_capability", lambda _: (7, 5)), ("HAS_TRITON", False)]
)
def test_switch_does_not_choose_where_the_programs_cannot_run(
    attribute: str, value: Any, card: OnCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(way, attribute, value)

    with gpu_way("fused"):
        assert not asked(card)


@pytest.mark.parametrize(
    ("row", "call", "chosen"),
    [
        (ROW, CALL, True),
        (ROW, CALL._replace(training=True), False),
        (ROW, CALL._replace(batch=3), False),
        (ROW, CALL._replace(sizes="16@8x8"), False),
        (ROW, CALL._replace(dtype="bfloat16"), False),
        (ROW | {"card_class": "sm_80"}, CALL, False),
        (ROW | {"fused": {"forward": 2.0, "training": 6.0}}, CALL, False),
    ],
)
def test_fused_way_is_chosen_where_it_was_faster(
    row: dict[str, Any], call: MeasuredCall, chosen: bool, card: OnCard, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    write([row], tmp_path / "rows.json", monkeypatch)

    assert asked(card, call) is chosen


def test_row_of_the_nearest_smaller_batch_counts(
    card: OnCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = ROW | {"batch": 8, "windows": {"forward": 0.5, "training": 5.0}}
    write([slow, ROW], tmp_path / "rows.json", monkeypatch)

    assert [asked(card, CALL._replace(batch=n)) for n in (4, 7, 8, 9)] == [True, True, False, False]
    assert faster(CALL, "sm_90") is False


def test_table_of_the_package_has_every_key_of_its_rows() -> None:
    table = json.loads(TABLE.read_text(encoding="utf-8"))

    assert table["schema"] == 1
    assert all(set(row) == set(KEYS) for row in table["rows"])
    assert all(set(row[w]) == set(TIMES) for row in table["rows"] for w in ("windows", "fused"))
    assert set(ROW) == set(KEYS)


def test_mark_of_a_constant_result_is_that_of_torch() -> None:
    def ours() -> None: ...

    def of_torch() -> None: ...

    torch.compiler.assume_constant_result(of_torch)

    assert vars(evidence.constant_result(ours)) == vars(of_torch)


def test_unknown_way_is_refused_with_those_that_are_there(card: OnCard) -> None:
    with (
        pytest.raises(ValueError, match=r"^way must be one of auto, windows, fused, got 'fast'$"),
        gpu_way("fast"),
    ):
        pass


def test_unknown_way_of_the_environment_is_refused_at_first_use(
    card: OnCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(way, "_asked", "fast")

    assert not asked(torch.zeros(1))  # not on a card: nothing to choose
    with pytest.raises(ValueError, match=r"^MODSWAP_GPU_WAY must be one of auto, windows, fused"):
        asked(card)
