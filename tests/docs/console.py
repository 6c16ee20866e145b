"""Run the blocks of a page in their order, and fill in what its commands print.

A `console` block holds commands (`$ …`) and what they print; a `sh` block holds commands alone. A
`python` block runs in names that all such blocks share; it is saved where its first line is a
file's name (`# net.py`). Commands are those of modswap, `cat` and `python FILE`.
"""

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

from modswap.cli.app import run

WIDTH = 92
_BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<code>[\s\S]*?)^```$", re.MULTILINE)
_FILE = re.compile(r"# (?P<name>\w+\.py)\n")


@dataclass
class Reader:
    """A user who follows a page in the current folder.

    Args:
        stand_ins: What is done in place of a command that takes long, by the command.
    """

    stand_ins: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__page__"})

    def follow(self, page: str) -> str:
        """Run every block; return the page with the outputs of its commands."""
        return _BLOCK.sub(self._block, page)

    def _block(self, found: re.Match[str]) -> str:
        kind, code = found["kind"], found["code"]
        if kind == "console":
            code = "".join(f"$ {line}\n{self._printed(line)}" for line in commands(kind, code))
        elif kind == "sh":
            for line in commands(kind, code):
                text = self._printed(line)
                assert "exit code" not in text, f"{line}\n{text}"
        elif kind == "python":
            self._python(code)
        return f"```{kind}\n{code}```"

    def _python(self, code: str) -> None:
        if file := _FILE.match(code):
            Path(file["name"]).write_text(code, encoding="utf-8")
        else:
            exec(code, self.names)

    def _printed(self, line: str) -> str:
        """Return what a command prints, and its exit code where that is not 0."""
        if line in self.stand_ins:
            self.stand_ins[line]()
            return ""
        program, *args = shlex.split(line)
        args, out = _parted(args)
        shown = StringIO()
        kept = StringIO() if out else shown
        with _terminal(kept, shown):
            code = _carried_out(program, args)
        if out:
            Path(out).write_text(kept.getvalue(), encoding="utf-8")
        text = "\n".join(each.rstrip() for each in shown.getvalue().splitlines())
        ending = [f"exit code {code}"] if code else []
        return "".join(f"{each}\n" for each in [*([text] if text else []), *ending])


def commands(kind: str, code: str) -> list[str]:
    """Return the commands of a block without comments; a line may go on behind a backslash."""
    lines = code.replace("\\\n", " ").splitlines()
    if kind == "console":
        return [line[2:] for line in lines if line.startswith("$ ")]
    bare = (re.sub(r"\s+#.*", "", f" {line}").strip() for line in lines)
    return [line for line in bare if line]


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Yield each block of a page: its kind and its text."""
    for found in _BLOCK.finditer(page):
        yield found["kind"], found["code"]


@contextmanager
def _terminal(out: StringIO, err: StringIO) -> Iterator[None]:
    settings = {"COLUMNS": str(WIDTH), "NO_COLOR": "1"}
    with mock.patch.dict(os.environ, settings), redirect_stdout(out), redirect_stderr(err):
        yield


def _parted(args: list[str]) -> tuple[list[str], str]:
    """Return arguments, and the file to which what is printed goes."""
    if ">" not in args:
        return args, ""
    place = args.index(">")
    return args[:place], args[place + 1]


def _carried_out(program: str, args: list[str]) -> int:
    if program == "cat":
        print(Path(args[0]).read_text(encoding="utf-8"), end="")  # noqa: T201 - a stand-in for cat
    elif program == "python":
        exec(Path(args[0]).read_text(encoding="utf-8"), {"__name__": "__main__"})
    elif program == "modswap":
        return run(args)
    elif program != "pip":
        raise ValueError(program)
    return 0


def followed(page: Path, folder: Path, reader: Reader) -> str:
    """Return a page whose blocks were run in a folder."""
    with chdir(folder):
        return reader.follow(page.read_text(encoding="utf-8"))
