"""The ledger, and that it notices every change."""

import warnings

import pytest
import torch

from modswap.core.errors import CheckpointError
from modswap.core.kept.ledger import Changes
from modswap.core.kept.outcome import Amount
from modswap.ops.write.prove import same_bits, tensor_ledger

GATE = Changes(("gate.",))


def test_ledger_counts_kept_fresh_and_dropped() -> None:
    kept = torch.randn(3)
    before = {"a": kept, "b": kept, "gate.w": torch.zeros(5)}
    after = {"a": kept.clone(), "b": kept.clone(), "gate.q": torch.zeros(2), "gate.v": kept}

    found = tensor_ledger(before, after, GATE, where="out.pt", compare=True)

    assert found.kept == Amount(2, 12)
    assert found.dropped == Amount(1, 20)
    assert found.fresh == Amount(2, 20)
    assert found.proved


def test_ledger_counts_tensors_without_a_shape_and_without_memory() -> None:
    before = {"gate.n": nested(1.0), "gate.s": sparse(1.0), "gate.m": torch.zeros(2, device="meta")}

    found = tensor_ledger(before, {}, GATE, where="out.pt", compare=True)

    assert found.dropped == Amount(3, 20 + 16 + 8)


@pytest.mark.parametrize(
    ("after", "what"),
    [
        ({"a": torch.tensor([1.0, 2.5])}, "a changed"),
        ({"a": torch.tensor([1, 2])}, "a changed"),
        ({}, "a is missing"),
        ({"a": torch.tensor([1.0, 2.0]), "c": torch.zeros(1)}, "c is new"),
    ],
)
def test_change_outside_the_swap_is_refused(after: dict[str, torch.Tensor], what: str) -> None:
    before = {"a": torch.tensor([1.0, 2.0])}

    with pytest.raises(CheckpointError, match=rf"^out\.pt: 1 tensors outside.*: {what}; report"):
        tensor_ledger(before, after, GATE, where="out.pt", compare=True)


def sparse(value: float) -> torch.Tensor:
    indices = torch.tensor([[0, 2]])
    values = torch.tensor([value, 1.0])
    return torch.sparse_coo_tensor(indices, values, (4,), check_invariants=True)


def nested(value: float) -> torch.Tensor:
    with warnings.catch_warnings(action="ignore"):  # of torch: nested tensors may change
        return torch.nested.nested_tensor([torch.full((2,), value), torch.ones(3)])


def bits(pattern: int) -> torch.Tensor:
    return torch.tensor([pattern], dtype=torch.int32).view(torch.float32)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (bits(0x7FC00001), bits(0x7FC00001), True),
        (bits(0x7FC00001), bits(0x7FC00002), False),
        (torch.tensor(0.0), torch.tensor(-0.0), False),
        (torch.tensor(True), torch.tensor(True), True),
        (torch.zeros(0, 3), torch.zeros(0, 3), True),
        (torch.zeros(2, 3), torch.zeros(3, 2), False),
        (torch.eye(3)[:, :2], torch.eye(3)[:, :2].contiguous(), True),
        (torch.zeros(2, dtype=torch.complex64), torch.zeros(2, dtype=torch.complex64), True),
        (torch.zeros(2).to(torch.float8_e4m3fn), torch.ones(2).to(torch.float8_e4m3fn), False),
        (sparse(1.0), sparse(1.0), True),
        (sparse(1.0), sparse(2.0), False),
        (sparse(1.0), sparse(1.0).to_dense(), False),
        (nested(1.0), nested(1.0), True),
        (nested(1.0), nested(2.0), False),
        (nested(1.0), torch.ones(5), False),
        (torch.zeros(2, device="meta"), torch.zeros(2, device="meta"), True),
    ],
)
def test_bits_are_compared_and_not_values(a: torch.Tensor, b: torch.Tensor, same: bool) -> None:
    assert same_bits(a, b) is same
