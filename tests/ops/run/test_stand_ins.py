"""Stand-ins that serve pass after pass."""

import torch
from torch import nn

from modswap.ops.run.stand_ins import KeptStandIns


class Resizing(nn.Module):
    """Gives its buffer another shape in a pass, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.table: torch.Tensor
        self.register_buffer("table", torch.zeros(3))
        self.head = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the table, longer by one."""
        found: torch.Tensor = self.table.resize_(len(self.table) + 1)
        return found + x


def test_stand_ins_serve_again_until_a_pass_changes_their_form() -> None:
    model, kept = Resizing(), KeptStandIns()
    seen: list[dict[str, torch.Tensor]] = []

    for resizes in (False, False, True, False):
        with kept(model, torch.float64) as (named, moved):
            seen.append(named)
            assert {(one.device.type, one.dtype) for one in named.values()} == {
                ("meta", torch.float64)
            }
            assert named["table"].shape == (3,)
            if resizes:
                torch.func.functional_call(model, named, (moved(torch.ones(1)),))

    assert seen[0] is seen[1] is seen[2]
    assert seen[3] is not seen[2]
