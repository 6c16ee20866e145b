"""The site of the documentation: links of its pages, and a build that shows dead ones."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.repository_pages import ROOT, with_links_of_the_site, without_breaks


@pytest.mark.parametrize(
    ("place", "link", "expected"),
    [
        ("guide.md", "../configs/unetpp_bra.yaml", "project/configs/unetpp_bra.yaml"),
        ("guide.md", "recipe.md#patterns", "recipe.md#patterns"),
        ("index.md", "docs/guide.md", "guide.md"),
        ("index.md", "SECURITY.md", "project/SECURITY.md"),
        ("index.md", "README.zh-CN.md", "index.zh-CN.md"),
        ("project/CONTRIBUTING.md", "docs/security.md#7-fuzzing", "../security.md#7-fuzzing"),
        ("project/SECURITY.md", "#reports", "#reports"),
        ("guide.md", "https://example.org/a.md", "https://example.org/a.md"),
        ("guide.md", "../modswap/seeds.py", "../modswap/seeds.py"),
    ],
)
def test_links_lead_to_the_places_of_files_in_the_site(
    place: str, link: str, expected: str
) -> None:
    assert with_links_of_the_site(f"see [it]({link}).", place) == f"see [it]({expected})."


def test_pictures_in_html_follow_too() -> None:
    led = with_links_of_the_site('<img src="docs/pictures/page.png" width="720">', "index.md")

    assert led == '<img src="pictures/page.png" width="720">'


def test_lines_of_chinese_are_joined_without_a_space() -> None:
    text = "换成。\n例子是\n模块、\nmodswap\n\n- 一\n- 二\n"

    assert without_breaks(text) == "换成。例子是模块、\nmodswap\n\n- 一\n- 二\n"


def built(folder: Path, site: Path) -> tuple[int, list[str]]:
    """Build the site of a folder strictly; return the exit code and the warnings."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, re.findall(r"^WARNING +- +(.*)", done.stderr, re.MULTILINE)


@pytest.mark.slow
def test_site_is_built_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="MkDocs is not installed (extra: docs)")

    assert built(ROOT, tmp_path / "site") == (0, [])

    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert re.findall(r"src=\"(https?:[^\"]+)", text) == []
        assert re.findall(r"<link [^>]*href=\"(https?:[^\"]+)", text) == []


DEAD = ("[a](guide.md#nowhere)", "[a](missing.md)", "[a](../pyproject.toml)", "[a](/guide.md)")


@pytest.mark.slow
def test_dead_links_stop_the_build(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="MkDocs is not installed (extra: docs)")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    for file in (*ROOT.glob("*.md"), ROOT / "LICENSE", ROOT / "mkdocs.yml"):
        shutil.copy(file, tmp_path)
    with (tmp_path / "docs" / "ci.md").open("a", encoding="utf-8") as page:
        page.write("\n" + "\n".join(DEAD) + "\n")

    code, warnings = built(tmp_path, tmp_path / "site")

    assert code == 1
    assert [line for line in warnings if "'ci.md'" not in line] == []
    assert len(warnings) == len(DEAD), warnings
