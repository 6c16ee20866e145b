"""The exit code of a comparison."""

import pytest

from modswap.core.errors import CheckpointError, ModswapError, UnsafeError
from modswap.core.kept.comparison import Comparison, Unequal

ONE = Unequal("net.pt", "record", "data/0", "CRC-32", "1", "2")


@pytest.mark.parametrize(
    ("unequal", "error", "code"),
    [
        ((), None, 0),
        ((ONE,), None, 1),
        ((), CheckpointError("it is cut short"), 3),
        ((), UnsafeError("it would build os.system"), 4),
        ((ONE,), CheckpointError("it is of no known format"), 1),
    ],
)
def test_difference_counts_more_than_an_error(
    unequal: tuple[Unequal, ...], error: ModswapError | None, code: int
) -> None:
    found = Comparison("net.pt", unequal=unequal, error=error)

    assert (found.exit_code, found.ok) == (code, code == 0)
