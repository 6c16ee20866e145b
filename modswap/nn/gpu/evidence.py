"""The table of measured times that the choice between ways reads.

`measured.json` is written by `benchmarks/gpu.py --write` and has a row for each layer, size, type
and card that was measured. No row, no second way.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

TABLE = Path(__file__).with_name("measured.json")
KEYS = (
    "layer", "sizes", "batch", "dtype", "card_class", "windows", "fused", "card", "torch", "triton",
    "date",
)  # fmt: skip
Key = tuple[str, str, str, str]  # layer, sizes, type, class of card
TIMES = ("forward", "training")  # milliseconds of a pass without and with gradients
F = TypeVar("F", bound=Callable[..., Any])


class MeasuredCall(NamedTuple):
    """A call of a layer, by which rows of the table are found."""

    layer: str
    sizes: str  # all that its time depends on but the batch, such as "512@28x28 heads 8"
    batch: int
    dtype: str
    training: bool  # whether a backward pass follows


def read_rows(file: Path = TABLE) -> Mapping[Key, Sequence[Mapping[str, Any]]]:
    """Return the rows of a table, by all that picks them but the batch."""
    found: dict[Key, list[Mapping[str, Any]]] = {}
    for row in json.loads(file.read_text(encoding="utf-8"))["rows"]:
        key = (row["layer"], row["sizes"], row["dtype"], row["card_class"])
        found.setdefault(key, []).append(row)
    return found


ROWS = read_rows()


def constant_result(fn: F) -> F:
    """Mark a function that a compiled graph need not call again.

    `torch.compiler.assume_constant_result` sets the same mark, and imports the compiler for it:
    seconds, at every start of the command.
    """
    vars(fn)["_dynamo_marked_constant"] = True
    return fn


def faster(measured: MeasuredCall, card_class: str) -> bool:
    """Return whether the fused way was measured to be faster for such a call on such a card.

    The row that counts has the largest batch that is not above the call's.
    """
    layer, sizes, batch, dtype, training = measured
    found = False
    # in a compiled graph the batch may be a symbol, which a constant's function cannot take
    for least, better in _by_batch(layer, sizes, dtype, card_class, TIMES[training]):
        if least <= batch:
            found = better
    return found


@constant_result
def _by_batch(
    layer: str, sizes: str, dtype: str, card_class: str, kind: str
) -> tuple[tuple[int, bool], ...]:
    """Return the batches of the rows of a call, ascending, and whether fused was faster there."""
    rows = ROWS.get((layer, sizes, dtype, card_class), ())
    return tuple(
        (row["batch"], row["fused"][kind] < row["windows"][kind])
        for row in sorted(rows, key=lambda one: int(one["batch"]))
    )
