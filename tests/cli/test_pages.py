"""Pages by the real command: their numbers, and the commands on them that print these again."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from modswap.cli.app import run
from tests.commands import Command, Ran
from tests.models import GatedNet
from tests.recipes import UNEXAMINED
from tests.report.web.pages import ParsedPage, parsed_page

RECIPE = (
    "version: 1\nallow: ['tests.models.*']\ninputs: [{shape: [1, 3, 28, 28]}]\n"
    f"{UNEXAMINED}replace:\n  - match: space_attention\n    with: BiLevelRoutingAttention\n"
)
REPLACE = ("replace", "net.pt", "-c", "swap.yaml")


@pytest.fixture
def modswap(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(GatedNet().eval(), "net.pt")
    Path("swap.yaml").write_text(RECIPE)

    def call(*args: str) -> Ran:
        code = run(args)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


def page_at(file: str) -> ParsedPage:
    return parsed_page(Path(file).read_text(encoding="utf-8"))


def commands_of(page: ParsedPage) -> dict[str, list[str]]:
    """Return the words of each command that a page names, by the number's name; without jq."""
    lines = re.findall(r"modswap [^\n]*?--format json \| jq ('[^']*'|\S+)", page.text)
    found = re.findall(r"(modswap [^\n]*?--format json) \| jq ('[^']*'|\S+)", page.text)
    assert len(lines) == len(found)
    return {shlex.split(path)[0]: shlex.split(line)[1:] for line, path in found}


@pytest.mark.slow
@pytest.mark.ci
def test_commands_on_the_page_print_its_numbers_again_and_write_nothing(modswap: Command) -> None:
    assert modswap(*REPLACE, "-o", "out.pt", "--format", "html", "--report", "a.html").code == 0
    page, before = page_at("a.html"), sorted(Path.cwd().iterdir())

    commands = commands_of(page)

    assert len({tuple(words) for words in commands.values()}) == 1
    data: Any = json.loads(modswap(*commands[".params"]).out)
    assert f"{data['params']['before']:,}" in page.text
    assert f"{data['params']['after']:,}" in page.text
    assert f"{data['ledger']['kept']['tensors']:,} tensors" in page.text
    assert data["ok"] is True
    assert sorted(Path.cwd().iterdir()) == before
    assert "modswap verify out.pt" in page.text
    assert modswap("verify", "out.pt").code == 0


def test_page_of_one_rule_by_options_repeats_the_options(modswap: Command) -> None:
    rule = ("--match", "space_attention", "--with", "ECA", "--allow", "tests.models.*")

    ran = modswap("check", "net.pt", *rule, "--fast", "--format", "html")

    page = parsed_page(ran.out)
    assert ran.code == 0
    assert commands_of(page)[".sites"] == [
        "check", "net.pt", *rule, "--fast", "--format", "json",
    ]  # fmt: skip
    line = " ".join(("modswap replace net.pt", *map(shlex.quote, rule), "--fast -o OUT"))
    assert line in page.text
    assert "site=space_attention" in page.ids
    assert page.count("svg") == 1
    assert "no values were computed: `modswap replace` measures it" in page.text


def test_page_is_not_written_over_a_file_of_others_but_over_another_page(modswap: Command) -> None:
    Path("notes.html").write_text("<p>mine</p>")
    check = ("check", "net.pt", "-c", "swap.yaml", "--fast", "--format", "html", "--report")

    assert modswap(*check, "notes.html").code == 3
    assert modswap(*check, "page.html").code == 0
    assert modswap(*check, "page.html").code == 0
    assert Path("notes.html").read_text() == "<p>mine</p>"
    assert "Modules before and after" in page_at("page.html").text


def test_two_pages_of_one_check_are_equal(modswap: Command) -> None:
    check = ("check", "net.pt", "-c", "swap.yaml", "--fast", "--format", "html")

    assert modswap(*check).out == modswap(*check).out


@pytest.mark.slow
@pytest.mark.ci
def test_routing_is_drawn_over_a_picture_of_ones_own_and_over_one_of_the_data(
    modswap: Command,
) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (40, 30), "red").save("photo.png")
    numpy = pytest.importorskip("numpy")
    numpy.save("data.npy", torch.rand(40, 3, 28, 28).numpy())
    page = ("--format", "html", "--report")

    swap = (*REPLACE, "-o", "out.pt", "--image", "photo.png", *page, "a.html")
    assert modswap(*swap).code == 0
    allow = ("--allow", "tests.models.*")
    heal = ("heal", "out.pt", "--against", "net.pt", "--data", "data.npy", "--stages", "closed")
    assert modswap(*heal, *allow, "-o", "healed.pt", *page, "b.html").code == 0

    for file in ("a.html", "b.html"):
        drawn = page_at(file)
        assert drawn.count("image") == 1
        assert "PHOTO.jpg" not in drawn.text
    assert "--image" not in page_at("a.html").text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--image", "photo.png"), 2, "--image: it is drawn on a page alone"),
        (("--image", "none.png", "--format", "html"), 3, "none.png: no such file"),
        (("--image", "swap.yaml", "--format", "html"), 2, "swap.yaml: it is no picture"),
    ],
)
def test_picture_that_cannot_be_drawn_is_refused(
    modswap: Command, words: tuple[str, ...], code: int, said: str
) -> None:
    ran = modswap(*REPLACE, "--dry-run", *words)

    assert ran.code == code
    assert said in ran.err
