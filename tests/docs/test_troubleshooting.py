"""The messages that `docs/troubleshooting.md` explains are those of the program."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import modswap
from tests.style import sources

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
HEADINGS = re.findall(r"^### `(.+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
OF_TORCH = ("Missing key(s) in state_dict",)
HOLE = "…"


def texts(tree: ast.AST) -> Iterator[str]:
    """Yield each text in a file; `…` is in place of the values in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else HOLE for part in node.values]
            yield "".join(map(str, parts))


def bare(text: str) -> str:
    """Return a text without marks of code and with one hole for neighbouring values."""
    return re.sub(rf"{HOLE}+", HOLE, text.replace("`", "").replace(f"{HOLE!r}", HOLE))


@pytest.fixture(scope="module")
def known() -> set[str]:
    package = Path(modswap.__file__).parent
    return {bare(text) for source in sources(package) for text in texts(source.tree)}


def test_page_explains_many_messages() -> None:
    assert len(HEADINGS) > 20
    assert len(set(HEADINGS)) == len(HEADINGS)


def test_every_message_is_one_of_the_program(known: set[str]) -> None:
    own = [heading for heading in HEADINGS if heading not in OF_TORCH]

    assert [one for one in own if not any(bare(one) in text for text in known)] == []


def test_a_message_that_was_changed_is_found(known: set[str]) -> None:
    assert not any("it holds weights without any code" in text for text in known)
