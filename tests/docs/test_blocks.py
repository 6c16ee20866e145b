"""Every Python block and every command in the documents is run by a test.

`FOLLOWED` are the pages that a test runs from top to bottom, `WRITTEN` those that a script
writes, with what the commands print. Each command and block of another page is in `EXAMPLES`,
with the test that runs it, or one of its kind on a file of its own. All commands are parsed as
the program does.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import save_file

from modswap.cli.app import make_app
from modswap.io.recipe.reader import parse_recipe
from modswap.nn import BiLevelRoutingAttention
from tests.docs.console import blocks, commands

ROOT = Path(__file__).parents[2]
PAGES = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md")}
FOLLOWED = {
    "tutorial.md": "tests/docs/test_tutorial.py::test_outputs_are_those_of_the_commands",
    "tutorial.zh-CN.md": "tests/docs/test_tutorial.py::test_both_tutorials_have_the_same_commands",
    "libraries.md": "tests/hosts/test_how_to.py::test_section_leads_to_the_swapped_model",
}
WRITTEN = {
    "tree.md": "tests/cli/test_tree.py::test_page_has_what_the_command_prints",
    "code.md": "tests/ops/code/test_job.py::test_page_shows_what_the_command_prints",
    "explain.md": "tests/ops/explain/test_explain_page.py::test_page_shows_what_the_commands_print",
}
HERE = "tests/docs/test_blocks.py::test_python_of_the_pages_runs"
# by the page, the beginning of a command, or the first line of a block, and the test that runs it
EXAMPLES = {
    "ci.md": {
        "modswap check net.pt -c swap.yaml": "tests/cli/test_ci_formats.py",
        "def test_swap_still_fits": "tests/test_ci_parts.py",
    },
    "diff.md": {
        "modswap diff": "tests/cli/test_diff.py::test_page_shows_what_the_command_prints",
        "import modswap": HERE,
    },
    "gpu.md": {"from modswap.nn.gpu": HERE},
    "guide.md": {
        'modswap replace net.pt --match "**.attn"': "tests/cli/test_one_rule.py",
        "modswap replace yolov8n.pt --match": "tests/hosts/test_one_line.py",
        "modswap check weights.pth": "tests/hosts/test_one_line.py",
        "modswap replace modswap-demo/unetpp.pt": "tests/test_readme.py",
        "modswap heal out.pt": "tests/test_heal.py",
        "modswap replace net.pt --match conv1": "tests/test_heal.py",
        "import modswap": "tests/test_readme.py::test_python_of_the_guide_runs_as_it_is_written",
        "from modswap.nn": HERE,
    },
    "insertion.md": {"modswap replace net.pt --after": "tests/hosts/test_insertions.py"},
    "page.md": {
        "modswap replace net.pt": "tests/cli/test_pages.py",
        "modswap check net.pt": "tests/report/graph/test_model_explorer.py",
    },
    "sweep.md": {"modswap sweep net.pt": "tests/test_sweep.py"},
}  # fmt: skip
_INDENTED = re.compile(r"(?<=\n\n)    (modswap .*)$", re.MULTILINE)


def shown(page: str) -> Iterator[str]:
    """Yield the first line of each Python block of a page, and each command of modswap."""
    for kind, code in blocks(page):
        if kind == "python":
            yield code.partition("\n")[0]
        else:
            runs = code.replace("- run: ", "$ ")
            console = kind if kind in {"sh", "bash"} else "console"
            yield from (line for line in commands(console, runs) if line.startswith("modswap "))
    yield from _INDENTED.findall(page)


def test_every_block_is_run_by_a_test() -> None:
    others = {name: list(shown(page)) for name, page in PAGES.items()}
    for name in (*FOLLOWED, *WRITTEN):
        assert others.pop(name), name

    lost = [
        f"{name}: {line}"
        for name, lines in others.items()
        for line in lines
        if not any(line.startswith(known) for known in EXAMPLES.get(name, {}))
    ]

    assert lost == [], "run it in a test, and name that in EXAMPLES"


def test_every_example_is_in_its_page_and_every_test_there() -> None:
    named = [*FOLLOWED.values(), *WRITTEN.values()]
    for name, examples in EXAMPLES.items():
        lines = list(shown(PAGES[name]))
        named += examples.values()
        unused = [key for key in examples if not any(line.startswith(key) for line in lines)]
        assert unused == [], name
    for test in named:
        file, _, function = test.partition("::")
        assert f"def {function}" in (ROOT / file).read_text(encoding="utf-8"), test


def test_every_command_has_only_options_of_the_program() -> None:
    group = typer.main.get_command(make_app())
    readmes = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md",)]
    lines = [line for page in (*PAGES.values(), *readmes) for line in shown(page)]
    parsed = 0
    for line in lines:
        words = shlex.split(line.partition(">")[0]) if line.startswith("modswap ") else []
        if len(words) < 2 or "…" in words:
            continue
        command = group.commands[words[1]]  # type: ignore[attr-defined] # a group
        command.make_context(words[1], words[2:])  # raises at an option that it does not have
        parsed += 1
    assert parsed > 50


def test_every_recipe_of_the_pages_is_read() -> None:
    head = "version: 1\ninputs: [{shape: [1, 3, 8, 8]}]\n"
    recipes = [
        code if code.startswith("version") else head + code
        for page in PAGES.values()
        for kind, code in blocks(page)
        if kind == "yaml" and code.startswith(("version:", "replace:", "insert:"))
    ]

    assert len(recipes) > 3
    for text in recipes:
        recipe = parse_recipe(text, "swap.yaml", ".")
        assert recipe.replace or recipe.insert


@pytest.mark.parametrize(
    "place",
    [
        "diff.md import",
        "gpu.md from",
        pytest.param("guide.md from", marks=pytest.mark.slow),  # 512 channels take seconds
    ],
)
def test_python_of_the_pages_runs(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, _, start = place.partition(" ")
    (code,) = (c for kind, c in blocks(PAGES[name]) if kind == "python" and c.startswith(start))
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(2, 2)}, "before.pt")
    save_file({"weight": torch.ones(2, 2)}, "after.safetensors")
    layer = BiLevelRoutingAttention(dim=8, num_heads=2, n_win=2, topk=1)
    size = 14 if name == "guide.md" else 4
    names = {"layer": layer, "x": torch.randn(1, size, size, 512 if name == "guide.md" else 8)}

    exec(code, names)

    if name == "diff.md":
        assert "weight" in capsys.readouterr().out
    else:
        assert torch.is_tensor(names["y"])
