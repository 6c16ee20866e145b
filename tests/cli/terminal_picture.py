"""The recorded terminal session of the README: `python -m tests.cli.terminal_picture` writes it.

The program itself runs, in a terminal of its own, on the network of `modswap demo`.
"""

import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text

from modswap.ops.demo.network import build_network

FILE = Path(__file__).parents[2] / "docs/pictures/terminal.svg"
COMMAND = (
    'modswap replace unetpp.pt --match "**.{space,channel}_attention" '
    "--with BiLevelRoutingAttention --set n_win=7 -o out.pt"
)
WIDTH = 100


def recorded(folder: Path) -> str:
    """Run the command in a folder; return what a terminal shows, colours included."""
    torch.save(build_network(base_width=4).eval(), folder / "unetpp.pt")
    ours, its = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    size = {"COLUMNS": str(WIDTH), "TERM": "xterm", "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(
        [sys.executable, "-m", *shlex.split(COMMAND)],
        cwd=folder,
        env=environment | size,
        stdout=its,
        stderr=subprocess.DEVNULL,
    ) as command:
        os.close(its)
        shown = b""
        while part := _read(ours):
            shown += part
        assert command.wait() == 0, shown.decode()
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the program has ended
        return b""


def picture(shown: str) -> str:
    """Return a terminal session as SVG that needs no font of the network."""
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True)
    console.print(Text.assemble(("$ ", "bold green"), COMMAND))
    console.print(Text.from_ansi(shown))
    text = console.export_svg(title="modswap", unique_id="modswap")
    text = re.sub(r"@font-face \{.*?\}\s*", "", text, flags=re.DOTALL)
    return text.replace("Fira Code", "ui-monospace") + "\n"


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        FILE.write_text(picture(recorded(Path(folder))), encoding="utf-8")


if __name__ == "__main__":
    main()
