"""The examples of the README and of the guide run, and print what they say."""

import re
import subprocess
from pathlib import Path

import pytest
import torch

from modswap.cli.app import run
from modswap.core.asked.recipe import Limits
from modswap.core.version import __version__
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.demo.network import build_network
from tests.models import build_gated

ROOT = Path(__file__).parents[1]


def without_what_varies(text: str) -> str:
    """Return a report without digest, file size and seconds, which depend on the training."""
    text = re.sub(r"sha256 [0-9a-f]{12}", "sha256 ", text)
    text = re.sub(r"[\d.]+ KiB, torch", "… KiB, torch", text)
    text = re.sub(r"drift \S+", "drift …", text)
    return re.sub(r"\([\d.]+ s\)", "(… s)", text)


@pytest.mark.ci
@pytest.mark.slow
def test_example_prints_what_the_guide_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = re.search(
        r"```console\n\$ modswap (.*)\n([\s\S]*?)```", (ROOT / "docs/guide.md").read_text()
    )
    assert shown is not None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    Path("configs").symlink_to(ROOT / "configs")
    Path("modswap-demo").mkdir()
    torch.save(build_network(base_width=4).eval(), "modswap-demo/unetpp.pt")

    code = run(shown[1].split())

    printed = capsys.readouterr().out
    assert code == 0
    assert without_what_varies(printed) == without_what_varies(shown[2])


def test_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    named = set(re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert named == {"demo", "test"}
    assert named <= targets


def commands_of(text: str) -> list[str]:
    blocks = re.findall(r"```sh\n([\s\S]*?)```", text)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", re.sub(r"```[\s\S]*?```", "", text))


def links_of(text: str) -> list[str]:
    found = re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", text)
    return [one or other for one, other in found if not one.startswith("README")]


def test_both_readmes_have_the_same_commands_and_links_which_are_there() -> None:
    english, chinese = (
        (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")
    )

    assert commands_of(english) == commands_of(chinese)
    links = links_of(chinese)
    assert links_of(english) == [link.replace(".zh-CN", "") for link in links]
    assert len(links) > 12
    assert [link for link in (*links_of(english), *links) if not (ROOT / link).exists()] == []
    assert english.count("\n|") == chinese.count("\n|")  # rows of the table
    assert len(english.splitlines()) < 50  # one screen


def test_help_of_make_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)

    assert phony is not None
    assert re.findall(r"^  make ([a-z-]+)\t\S", shown, re.MULTILINE) == phony[1].split()


def test_changelog_has_a_section_for_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert re.search(rf"^## {re.escape(__version__)} - ", text, re.MULTILINE)


def test_links_of_the_documents_lead_somewhere() -> None:
    for page in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        *(ROOT / "docs").glob("*.md"),
    ):
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_recipe_of_the_page_on_verification_has_every_limit() -> None:
    page = (ROOT / "docs/verification.md").read_text(encoding="utf-8")
    (part,) = re.findall(r"```yaml\n([\s\S]*?)```", page)
    head = "version: 1\ninputs: [{shape: [1, 3, 8, 8]}]\nreplace: [{match: a, with: CBAM}]\n"

    limits = parse_recipe(head + part, "swap.yaml", ".").verify.limits

    assert limits.model_fields_set == set(Limits.model_fields)


def test_python_of_the_guide_runs_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs/guide.md").read_text(encoding="utf-8")
    shown = re.search(r"```python\n(import modswap[\s\S]*?)```", text)
    assert shown is not None
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("mynets").mkdir()
    Path("mynets/unet.py").write_text("from tests.models import build_gated as build\n")
    Path("swap.yaml").write_text(
        "version: 1\ninputs: [{shape: [1, 3, 28, 28]}]\n"
        "replace: [{match: space_attention, with: BiLevelRoutingAttention}]\n"
    )
    model = build_gated().eval()
    known = {"model": model}

    exec(shown[1], known)

    x = torch.randn(1, 3, 28, 28)
    assert known["model"] is not model
    torch.testing.assert_close(known["model"].eval()(x), model(x), rtol=0, atol=0)
