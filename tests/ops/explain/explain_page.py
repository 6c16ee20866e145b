"""The outputs in `docs/explain.md`; `make docs` writes them by running the commands."""

import os
import re
import shlex
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from unittest import mock

from modswap.cli.app import run

PAGE = Path(__file__).parents[3] / "docs" / "explain.md"
_OUTPUT = re.compile(r"```console\n\$ modswap (.*)\n[\s\S]*?```")


def explain_page() -> str:
    """Return the page with its outputs made anew."""
    return _OUTPUT.sub(_shown, PAGE.read_text(encoding="utf-8"))


def without_what_varies(page: str) -> str:
    """Return a page without what the processor decides: how far two forms are apart."""
    return re.sub(r"\d+(\.\d+)?(e-\d+)?(?=\s+of\s+their\s+size)|(?<=大小的)\s*[\d.e-]+", "…", page)


def _shown(found: re.Match[str]) -> str:
    out = StringIO()
    with mock.patch.dict(os.environ, {"COLUMNS": "100"}), redirect_stdout(out):
        code = run(shlex.split(found[1]))
    assert code == 0, found[1]
    return f"```console\n$ modswap {found[1]}\n{out.getvalue()}```"


if __name__ == "__main__":
    PAGE.write_text(explain_page(), encoding="utf-8")
