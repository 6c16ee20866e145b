"""The files that a run reads."""

from pathlib import Path

import pytest

from modswap.core.asked.job import Subject
from modswap.core.asked.source import Source
from modswap.core.asked.used_paths import (
    DATA,
    ORIGINAL,
    UsedPath,
    code_files,
    healing_files,
    imported_as,
    paths_read,
    recipe_files,
    resume_file,
)
from modswap.io.recipe.reader import parse_recipe


@pytest.mark.parametrize(
    ("reference", "files"),
    [
        ("nets.py:build", ["nets.py"]),
        ("sub/nets.py:Nets.build", ["sub/nets.py"]),
        ("/abs/nets.py:build", ["/abs/nets.py"]),
        ("nets:build", ["nets.py", "nets/__init__.py"]),
        ("pack.nets:build", ["pack/nets.py", "pack/nets/__init__.py"]),
        ("SEBlock", []),
    ],
)
def test_code_is_looked_for_where_an_import_finds_it(reference: str, files: list[str]) -> None:
    folder = Path("here")

    assert [one.file for one in code_files(reference, folder)] == [folder / f for f in files]


def test_request_and_recipe_name_all_that_is_read() -> None:
    text = (
        "{version: 1, model: {factory: 'nets.py:build'}, replace: [{match: a, with: 'b.py:B'}, "
        "{match: c, with: ECA}]}"
    )
    recipe = parse_recipe(text, "sub/swap.yaml", "sub")

    found = paths_read(Subject(Path("net.pt"), factory="own.py:build"), recipe)

    assert {str(one.file): one.name for one in found} == {
        "net.pt": "the input",
        str(Path.cwd() / "own.py"): "the code of 'own.py:build'",
        "sub/swap.yaml": "the recipe",
        "sub/nets.py": "the code of 'nets.py:build'",
        "sub/b.py": "the code of 'b.py:B'",
    }
    assert [one.file for one in paths_read(Subject(Path("net.pt")))] == [Path("net.pt")]


def test_imported_files_are_found_by_any_path(tmp_path: Path) -> None:
    (tmp_path / "link.py").symlink_to(__file__)
    (tmp_path / "mine.py").write_text("")

    assert f"the code of {__name__!r}" in [one.name for one in imported_as(tmp_path / "link.py")]
    for name in ("mine.py", "none.py", "zero\0byte.py"):
        assert list(imported_as(tmp_path / name)) == []


def test_donor_and_what_a_healing_reads_are_known(tmp_path: Path) -> None:
    rule = "{match: a, with: ECA, start: donor, donor: {file: other.pt, path: eca}}"
    recipe = parse_recipe(f"{{version: 1, replace: [{rule}]}}", "sub/swap.yaml", "sub")

    assert UsedPath("the donor", Path("sub/other.pt")) in [*recipe_files(recipe)]
    found = healing_files("photos", Path("net.pt"), "judge.py:dice")
    assert [(one.name, one.file.name) for one in found] == [
        ("the original", "net.pt"),
        ("the code of 'judge.py:dice'", "judge.py"),
        ("the data", "photos"),
    ]
    assert [one.file.name for one in healing_files("batches.py:give")] == ["batches.py"]
    assert [*healing_files("none")] == []
    by_options = recipe.read_from(Source("options", options={("replace", 0, "match"): "--match"}))
    assert UsedPath("the recipe", Path("options")) not in [*recipe_files(by_options)]
    assert resume_file(tmp_path / "o.pt") == tmp_path / "o.pt.resume"


def test_what_a_run_cannot_begin_without_comes_first() -> None:
    found = {used.name: used.comes_first for used in healing_files("pictures", Path("old.pt"))}

    assert found == {ORIGINAL: True, DATA: True}
    assert not UsedPath("the recipe", Path("swap.yaml")).comes_first
