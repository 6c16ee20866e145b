"""The page `docs/code.md`, with the command's own output; `make docs` writes it."""

import contextlib
import io
import os
import shlex
import sys
import tempfile
from pathlib import Path

import torch

from modswap.cli.app import run
from modswap.ops.demo import network

TEMPLATE = Path(__file__).with_suffix(".md")
PAGE = Path(__file__).parents[3] / "docs" / "code.md"
MODEL = '--model "net.py:build_network(base_width=4)"'
BRA = "--with BiLevelRoutingAttention --set n_win=7 --set topk=4 --set auto_pad=true"
EXAMPLES = {
    "separate": f'net.pth --match "{{space,channel}}_attention" {BRA} {MODEL}',
    "shared": f'net.pth --match "{{space,channel}}_attention" --with ACmix --share {MODEL}',
    "renamed": f'net.pth --match "{{space,channel}}_attention" --with ACmix --share '
    f"--rename channel_attention=attention --rename space_attention=attention {MODEL}",
    "line": f'net.pth --match "encoder.4.3" --with ACmix {MODEL}',
    "beside": f"net.pth --after head --with CBAM --start fresh {MODEL}",
}


def example(arguments: str) -> str:
    """Return a command and what it prints, as the page shows it."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(["code", *shlex.split(arguments)])
    assert code == 0, err.getvalue()
    last = err.getvalue().rstrip().splitlines()[-1]
    return f"```console\n$ modswap code {arguments}\n```\n```diff\n{out.getvalue()}```\n\n> {last}"


def page() -> str:
    """Return the page."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            source = Path(str(network.__file__)).read_text(encoding="utf-8")
            Path("net.py").write_text(source, encoding="utf-8")
            torch.manual_seed(0)
            torch.save(network.build_network(base_width=4).state_dict(), "net.pth")
            shown = {name: example(arguments) for name, arguments in EXAMPLES.items()}
        finally:
            os.chdir(before)
            for name in [n for n in sys.modules if n == "net" or n.startswith("modswap_file_")]:
                del sys.modules[name]  # other tests have files of that name
    return TEMPLATE.read_text(encoding="utf-8").format(**shown)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
