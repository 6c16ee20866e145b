"""Forms of the change of a model's source: a diff, and for CI the same as Markdown or JSON."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modswap.core.kept.code_change import CodeChange, StandaloneFile, WrittenFile
from modswap.core.version import __version__
from modswap.core.words.printable import tame_lines, without_commands
from modswap.report.code.diff import shown_path, summary, unified, unified_file, written_lines
from modswap.report.page import as_json

SCHEMA = 1


def diff_form(change: CodeChange, written: Sequence[WrittenFile], checkpoint: str) -> str:
    """Return the diff alone, as `git apply` takes it."""
    del written, checkpoint
    return unified(change)


def markdown_form(change: CodeChange, written: Sequence[WrittenFile], checkpoint: str) -> str:
    """Return the diff with its sites and its proof, as a comment on a pull request has them."""
    del checkpoint
    lines = (summary(change) + written_lines(written)).splitlines()
    listed = "".join(f"- {_fenced(line)}\n" for line in lines)
    return without_commands(f"{_block(unified(change), 'diff')}\n{listed}")


def lines_markdown(made: StandaloneFile, said: str) -> str:
    """Return the lines for a library, and what was proved of them, as Markdown."""
    return without_commands(f"{_block(made.text, 'python')}\n- {_fenced(said)}\n")


def _block(text: str, language: str) -> str:
    """Return a text as a block of code, between fences that it does not hold."""
    text = tame_lines(text.replace("\r\n", "\n"))
    fence = max(re.findall("`{3,}", text), key=len, default="``") + "`"
    return f"{fence}{language}\n{text}{fence}\n"


def _fenced(line: str) -> str:
    return f"`` {tame_lines(line)} ``" if "`" in line else f"`{tame_lines(line)}`"


def json_form(change: CodeChange, written: Sequence[WrittenFile], checkpoint: str) -> str:
    """Return the files with their diffs, the sites, and the proof, as JSON."""
    copies = {one.file: shown_path(one.copy) if one.copy else None for one in written}
    return as_json(
        _head(checkpoint)
        | {
            "files": [
                {
                    "file": shown_path(one.file),
                    "diff": unified_file(one),
                    "written": one.file in copies,
                    "old_text": copies.get(one.file),
                }
                for one in change.files
            ],
            "sites": [
                {
                    "path": site.path,
                    "file": shown_path(site.file),
                    "line": site.line,
                    "way": site.way,
                    "observed": list(site.literals),
                }
                for site in change.sites
            ],
            "proof": {
                "builder": change.builder,
                "modules": change.modules,
                "relative_difference": change.apart,
            },
            "notes": list(change.notes),
            "output": {"file": shown_path(change.written)} if change.written else None,
        }
    )


def file_json(made: StandaloneFile, checkpoint: str, file: str = "") -> str:
    """Return what is known of a standalone file, or of the lines for a library, as JSON."""
    return as_json(
        _head(checkpoint)
        | {
            "file": shown_path(file) if file else None,
            "text": made.text,
            "proof": {"relative_difference": made.apart},
            "notes": list(made.notes),
        }
    )


def _head(checkpoint: str) -> dict[str, Any]:
    named = {"modswap": __version__, "schema": SCHEMA, "command": "code"}
    return named | {"checkpoint": checkpoint, "ok": True}


FORMS: Mapping[str, Callable[[CodeChange, Sequence[WrittenFile], str], str]] = {
    "diff": diff_form,
    "markdown": markdown_form,
    "json": json_form,
}
