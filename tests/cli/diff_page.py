"""The example on the page about `modswap diff`, as the command prints it; `make docs` writes it."""

import contextlib
import io
import os
import re
import tempfile
from pathlib import Path
from unittest import mock

import torch

from modswap.cli.app import run
from modswap.ops.demo.network import build_network

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "diff.md"
RECIPE = ROOT / "configs" / "unetpp_bra.yaml"
COMMAND = "modswap diff unetpp.pt unetpp-bra.pt"
WIDTH = 100
_BLOCK = re.compile(rf"^```text\n\$ {COMMAND}\n[\s\S]*?^```$", re.MULTILINE)


def printed() -> str:
    """Return what the command prints of the network of `modswap demo`, before and after a swap."""
    stream = io.StringIO()
    wide = {"COLUMNS": str(WIDTH), "NO_COLOR": "1"}
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, wide),
    ):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            torch.save(build_network(base_width=4).eval(), "unetpp.pt")
        swap = ["replace", "unetpp.pt", "-c", str(RECIPE), "-o", "unetpp-bra.pt", "--fast", "-q"]
        if run(swap):
            raise RuntimeError(swap)
        with contextlib.redirect_stdout(stream):
            run(COMMAND.split()[1:])
    return stream.getvalue()


def page(text: str) -> str:
    """Return the page with the output of its command."""
    block = f"```text\n$ {COMMAND}\n{printed()}```"
    return _BLOCK.sub(lambda _: block, text)


def without_what_varies(text: str) -> str:
    """Return a text without the size and digest of the receipt, which has versions in it."""
    return re.sub(r"\(\d,\d{3} characters, sha256 \w+…\)", "(…)", text)


if __name__ == "__main__":
    shown = PAGE.read_text(encoding="utf-8")
    made = page(shown)
    if without_what_varies(made) != without_what_varies(shown):
        PAGE.write_text(made, encoding="utf-8")
