"""The ledger of a swap, from two files' names and contents."""

from operator import eq

import pytest

from modswap.core.errors import CheckpointError
from modswap.core.kept.ledger import Changes, ledger
from modswap.core.kept.outcome import Amount, Ledger

BEFORE = {"stem.w": "a", "gate.w": "b", "head.w": "c", "state.2": "d", "state.1": "e"}
AFTER = {"stem.w": "a", "gate.u": "x", "head.w": "c", "state.1": "d"}
CHANGES = Changes(("gate.",), renamed={"state.2": "state.1"}, gone={"state.1"})


def found(after: dict[str, str], changes: Changes = CHANGES) -> Ledger:
    return ledger(
        BEFORE,
        after,
        changes,
        same=lambda old, new: old == new,
        size=lambda text: (text, len(text)),
        where="out.pt",
    )


def test_tensors_are_kept_mapped_fresh_or_dropped() -> None:
    assert found(AFTER) == Ledger(
        kept=Amount(2, 2), mapped=Amount(1, 1), fresh=Amount(1, 1), dropped=Amount(2, 2)
    )


@pytest.mark.parametrize(
    ("after", "wrong"),
    [
        ({**AFTER, "head.w": "z"}, "head.w changed"),
        ({**AFTER, "state.1": "z"}, "state.2 changed"),
        ({**AFTER, "tail.w": "z"}, "tail.w is new"),
        ({name: text for name, text in AFTER.items() if name != "head.w"}, "head.w is missing"),
    ],
)
def test_tensor_outside_the_swap_that_did_not_survive_is_named(
    after: dict[str, str], wrong: str
) -> None:
    with pytest.raises(CheckpointError, match=f"1 tensors outside the swap .*: {wrong}") as error:
        found(after)

    assert error.value.where == "out.pt"


def test_bytes_under_two_names_count_once() -> None:
    assert found({**AFTER, "gate.v": "x"}).fresh == Amount(2, 1)


@pytest.mark.parametrize(
    ("renamed", "after", "mapped", "dropped"),
    [
        # the state of a swapped module's parameter goes, and later numbers move up
        ({"state.1": "state.0", "state.2": "state.1"}, {"state.0": "b", "state.1": "c"}, 2, 1),
        # a new module's parameter comes first, and the numbers move down
        (
            {"state.0": "state.1", "state.1": "state.2", "state.2": "state.3"},
            {"state.1": "a", "state.2": "b", "state.3": "c"},
            3,
            0,
        ),
        # parameters are grouped in another order
        ({"state.0": "state.1", "state.1": "state.0"}, {"state.0": "b", "state.1": "a"}, 2, 1),
    ],
)
def test_renumbered_parameters_of_an_optimizer_are_mapped_each_to_its_own(
    renamed: dict[str, str], after: dict[str, str], mapped: int, dropped: int
) -> None:
    before = {"state.0": "a", "state.1": "b", "state.2": "c"}
    gone = before.keys() - renamed.keys()
    changes = Changes(("gate.",), renamed, gone)

    def judged(after: dict[str, str]) -> Ledger:
        return ledger(before, after, changes, same=eq, size=lambda text: (text, 1), where="")

    assert judged(after) == Ledger(
        Amount(0, 0), Amount(mapped, mapped), Amount(0, 0), Amount(dropped, dropped)
    )
    old = {new: name for name, new in renamed.items()}
    for name in after:
        with pytest.raises(CheckpointError, match=f"1 tensors .*{old[name]} changed"):
            judged({**after, name: "other"})
