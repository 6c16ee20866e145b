"""The weights of a slot after a swap, with names of the file's own."""

import torch

from modswap.core.kept.ledger import Changes
from modswap.io.formats.format import FileNames
from modswap.ops.load.stored import Stored
from modswap.ops.write.slot_values import converted_values, named_values, plain_values

OLD = {"x.stem.w": torch.ones(1), "x.gate.w": torch.ones(2), "more": torch.ones(3)}
STATE = {"stem.w": torch.ones(1), "gate.new": torch.zeros(4, dtype=torch.float64)}
COVERED = Changes(("gate.",))
STORED = Stored(
    OLD,
    {"stem.w": OLD["x.stem.w"], "gate.w": OLD["x.gate.w"]},
    {"stem.w": ("x.stem.w",), "gate.w": ("x.gate.w",)},
    {"more": "more"},
)


def test_plain_names_leave_out_what_the_file_leaves_out() -> None:
    held = {"stem.w": torch.ones(1)}

    found = plain_values(held, STATE | {"counter": torch.ones(1)}, COVERED)

    assert list(found) == ["stem.w", "gate.new"]
    assert found["gate.new"].dtype == torch.float32


def test_own_names_are_kept_with_everything_else() -> None:
    names = FileNames(frozenset({"x.gate.w"}), {"gate.new": "x.gate.new"}, {"x.tied.w": "x.gate.w"})

    found = named_values(OLD, STORED, names, STATE, COVERED)

    assert list(found) == ["x.stem.w", "x.gate.new", "more", "x.tied.w"]
    assert found["x.tied.w"] is OLD["x.gate.w"]


def test_converted_names_are_those_of_the_model() -> None:
    found = converted_values(STORED, STATE, COVERED)

    assert list(found) == ["stem.w", "gate.new", "more"]
