"""A fixture of pytest that checks a recipe: `modswap_check("swap.yaml")`.

pytest imports this file at every start where modswap is installed, so it imports nothing of modswap
before a test asks for a check.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from modswap.core.kept.outcome import Outcome


class Checking(Protocol):
    """The function that the fixture returns."""

    def __call__(
        self, recipe: str | Path, checkpoint: str | Path | None = None, *, thorough: bool = False
    ) -> "Outcome":
        """Check a swap as `modswap check` does, and fail the test if it does not hold.

        Args:
            recipe: A file, relative to the folder of the test, else to the working directory.
            checkpoint: The file to swap, found in the same way; None for the recipe's own.
            thorough: Whether examinations run without bounds on their time.
        """


@pytest.fixture
def modswap_check(request: pytest.FixtureRequest) -> Checking:
    """Return a function that asserts that a recipe's swap holds, and returns the outcome."""

    def check(
        recipe: str | Path, checkpoint: str | Path | None = None, *, thorough: bool = False
    ) -> "Outcome":
        from modswap.core.errors import ModswapError
        from modswap.core.words.printable import without_commands
        from modswap.ops.jobs.check import Request, job_of
        from modswap.ops.jobs.replace import check_file
        from modswap.report import REPORTS, Page

        folder = request.path.parent
        model = None if checkpoint is None else _near(folder, checkpoint)
        try:
            asked = Request(str(_near(folder, recipe)), model, thorough=thorough)
            outcome = check_file(job_of(asked))
        except ModswapError as error:
            said = without_commands(f"modswap check {recipe}\n{error}")
            raise pytest.fail.Exception(said, pytrace=False) from None
        if not outcome.ok:
            table = REPORTS["table"]([outcome], Page())
            pytest.fail(f"modswap check {recipe}\n{table}", pytrace=False)
        return outcome

    return check


def _near(folder: Path, name: str | Path) -> Path:
    near = folder / name
    return near if near.exists() else Path(name)
