"""The outputs of the tutorial, in both languages; `make docs` writes them by following it."""

import os
import re
import tempfile
from functools import partial
from pathlib import Path

from modswap.ops.demo import run
from modswap.ops.demo.folder import write_scenes
from tests.docs.console import Reader, blocks, commands, followed

DOCS = Path(__file__).parents[2] / "docs"
PAGE, CHINESE = DOCS / "tutorial.md", DOCS / "tutorial.zh-CN.md"
_CONSOLE = re.compile(r"^```console\n[\s\S]*?^```$", re.MULTILINE)


def demonstrate(steps: int) -> None:
    """Leave in a folder what the demonstration does, without its swap and its healing."""
    made = run.make(Path("modswap-demo"), width=4, steps=steps, progress=lambda _: None)
    write_scenes(made.train.images[: run.HEAL_SCENES], made.file.parent)


def followed_tutorial(folder: Path, steps: int) -> str:
    """Return the tutorial with what its commands print for a network trained in some steps.

    Seconds, which are those of the machine, are left out.
    """
    stand_ins = {
        "modswap demo": partial(demonstrate, steps),
        "cd modswap-demo": partial(os.chdir, "modswap-demo"),
    }
    made = followed(PAGE, folder, Reader(stand_ins))
    return re.sub(r"\([\d.]+ s\)", "(… s)", made)


def with_outputs(page: str, made: str) -> str:
    """Return a page whose consoles are those of another page, in their order."""
    consoles = iter(_CONSOLE.findall(made))
    return _CONSOLE.sub(lambda _: next(consoles), page)


def followed_lines(page: str) -> list[str]:
    """Return the commands of a page without what they print, and its Python."""
    return [
        line
        for kind, code in blocks(page)
        for line in ([code] if kind == "python" else commands(kind, code))
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        written = followed_tutorial(Path(name), steps=360)
    PAGE.write_text(written, encoding="utf-8")
    CHINESE.write_text(with_outputs(CHINESE.read_text(encoding="utf-8"), written), encoding="utf-8")
