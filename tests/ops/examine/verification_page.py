"""The table of examinations in `docs/verification.md`; `make docs` writes it from their rows."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from modswap.ops.examine.table import EXAMINATIONS

PAGE = Path(__file__).parents[3] / "docs" / "verification.md"
_TABLE = re.compile(r"\| examination \|.*?(?=\n\n)", re.DOTALL)


def verification_page() -> str:
    """Return the page with its table made anew."""
    page = PAGE.read_text(encoding="utf-8")
    return _TABLE.sub(lambda _: "\n".join(_table()), page, count=1)


def _table() -> Iterator[str]:
    yield "| examination | what it does | it passes where |"
    yield "| --- | --- | --- |"
    for row in EXAMINATIONS:
        does = " ".join((inspect.getdoc(row.load()) or "").split())
        yield f"| `{row.name}` | {does} | {row.about} |"


if __name__ == "__main__":
    PAGE.write_text(verification_page(), encoding="utf-8")
