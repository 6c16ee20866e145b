"""Options that a text of the package names, and those that the commands have."""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import modswap
from modswap.cli import app, outcomes
from modswap.cli.session import Session
from modswap.core.errors import ModswapError
from modswap.core.finding import Finding
from modswap.core.kept.outcome import Outcome

OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
_CALL = re.compile(r"`(?:modswap )?(\w+) (--[^`]*|[^`]* --[^`]*)`")


@cache
def options() -> dict[str, frozenset[str]]:
    """Return the options of each command."""
    group: Any = get_command(app.make_app())
    return {
        name: frozenset(one for parameter in command.params for one in parameter.opts)
        for name, command in group.commands.items()
    }


def foreign_options(text: str, command: str) -> list[str]:
    """Return the options in a text that its command, or the one that it names, does not have."""
    known = options()
    calls = [(found[1], found[2]) for found in _CALL.finditer(text) if found[1] in known]
    rest = _CALL.sub(lambda found: "" if found[1] in known else found[0], text)
    named = [(command, rest), *calls]
    return [
        f"{name} {option}"
        for name, part in named
        for option in OPTION.findall(part)
        if option not in known[name]
    ]


@cache
def texts() -> dict[str, str]:
    """Return the texts of the package that name an option, by their places; no docstrings."""
    root = Path(modswap.__file__).parent
    named = {file: file.read_text(encoding="utf-8") for file in sorted(root.rglob("*.py"))}
    found: dict[str, str] = {}
    for file, source in named.items():
        inside = file.relative_to(root)
        apart = inside.parts[0] == "cli" or inside.name == "python_spelling.py"
        if OPTION.search(source) and not apart:
            texts_of = _texts(ast.parse(source))
            found |= {f"{inside}:{line}": text for line, text in texts_of if OPTION.search(text)}
    return found


def _texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    apart: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):  # a docstring
            apart.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            apart |= {id(value) for value in node.values}
            yield (
                node.lineno,
                "".join(str(v.value) if isinstance(v, ast.Constant) else "x" for v in node.values),
            )
        elif isinstance(node, ast.Constant) and id(node) not in apart:
            yield node.lineno, str(node.value)


def refuse_foreign_options(patch: pytest.MonkeyPatch) -> None:
    """Let a run of the command fail whose advice names an option that it does not have."""
    complain, publish = Session.complain, outcomes.publish

    def complained(session: Session, error: ModswapError) -> None:
        _judge(session, error.all)
        complain(session, error)

    def published(session: Session, found: Sequence[Outcome]) -> None:
        for one in found:
            _judge(session, one.error.all if one.error else ())
            _judge(session, one.verdict.findings if one.verdict else ())
        publish(session, found)

    patch.setattr(Session, "complain", complained)
    for module in (outcomes, app):
        patch.setattr(module, "publish", published)


def _judge(session: Session, found: Iterable[ModswapError | Finding]) -> None:
    for one in found if session.command else ():
        wrong = foreign_options(one.fix, session.command)
        assert not wrong, f"{session.command} advises {wrong}: {one.fix}"
