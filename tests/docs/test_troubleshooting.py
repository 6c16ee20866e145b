"""The messages that `docs/troubleshooting.md` explains are those of the program."""

import re
from pathlib import Path

import pytest

import modswap

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
HEADINGS = re.findall(r"^### `(.+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
OF_TORCH = ("Missing key(s) in state_dict",)
HOLE = "…"


def bare(text: str) -> str:
    """Return a text without marks of code and with one hole for neighbouring values."""
    return re.sub(rf"{HOLE}+", HOLE, text.replace("`", "").replace(f"'{HOLE}'", HOLE))


def joined(source: str) -> str:
    """Return a source file whose texts are in one piece each, with holes for the values in them."""
    return re.sub(r"\{[^{}\n]*\}", HOLE, re.sub(r"\"\s*\n\s*f?\"", "", source))


@pytest.fixture(scope="module")
def known() -> str:
    package = Path(modswap.__file__).parent
    return bare("\n".join(joined(file.read_text("utf-8")) for file in package.rglob("*.py")))


def test_page_explains_many_messages() -> None:
    assert len(HEADINGS) > 20
    assert len(set(HEADINGS)) == len(HEADINGS)


def test_every_message_is_one_of_the_program(known: str) -> None:
    own = [heading for heading in HEADINGS if heading not in OF_TORCH]

    assert [heading for heading in own if bare(heading) not in known] == []


@pytest.mark.parametrize("other", ["it holds weights without any code", "no module fits …"])
def test_a_message_of_another_text_is_found(other: str, known: str) -> None:
    assert bare(other) not in known
