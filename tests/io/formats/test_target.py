"""Places that are not written to: texts and folders of other programs stay as they are."""

from pathlib import Path

import pytest

from modswap.core.asked.own_texts import LOCK, REPORT, SUMMARY
from modswap.core.asked.used_paths import UsedPath
from modswap.core.errors import CheckpointError
from modswap.io.formats.target import refuse_foreign, refuse_target

OWN = "OK  the swap of 1 site holds\n"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return a folder of weights, with a file that no program of weights writes."""
    return filled(tmp_path / "in", ["model.safetensors", "notes of the input.txt"])


def filled(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"recipe": "as modswap writes it"}')
    return folder


@pytest.mark.parametrize(
    ("name", "kind", "text", "what"),
    [
        ("r.txt", REPORT, "my notes", "it exists, and is no report of modswap"),
        ("r.txt", LOCK, OWN, "it exists, and is no lock file of modswap"),
        ("r.md", SUMMARY, '{"a": 1}', "it exists, and is no summary of modswap"),
        ("in/README.md", SUMMARY, "# A model", "the file is in the folder of a checkpoint"),
    ],
)
def test_text_of_another_kind_is_not_overwritten(
    name: str, kind: str, text: str, what: str, checkpoint: Path
) -> None:
    file = checkpoint.parent / name
    file.write_text(text)

    with pytest.raises(CheckpointError) as caught:
        refuse_foreign(UsedPath("the text", file, kind))

    assert caught.value.what == f"the text cannot be there: {what}"
    assert caught.value.where == str(file)
    assert caught.value.fix == "name another file, or remove it first"


@pytest.mark.parametrize(
    ("kind", "text"), [(REPORT, OWN), (REPORT, ""), (SUMMARY, "# Of other programs"), ("", "mine")]
)
def test_text_of_its_own_kind_is_overwritten(kind: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "r").write_text(text)

    refuse_foreign(UsedPath("the text", tmp_path / "r", kind))
    refuse_foreign(UsedPath("the text", tmp_path / "none", kind))


@pytest.mark.parametrize(
    ("names", "other"),
    [
        (["precious.txt"], "precious.txt"),
        (["config.json"], "config.json"),
        (["model.safetensors", "sub/mine.py"], "sub/mine.py"),
    ],
)
def test_folder_that_holds_more_than_a_checkpoint_is_not_replaced(
    names: list[str], other: str, checkpoint: Path
) -> None:
    out = filled(checkpoint.parent / "out", names)

    with pytest.raises(CheckpointError) as caught:
        refuse_target(checkpoint, out, force=True)

    assert caught.value.what == f"it holds more than a checkpoint: {other!r}"
    assert caught.value.where == str(out)


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["model.safetensors", "config.json", "README.md", "notes of the input.txt"],
        ["modswap.json", "mine.txt"],
    ],
)
def test_folder_of_a_checkpoint_is_replaced(names: list[str], checkpoint: Path) -> None:
    out = filled(checkpoint.parent / "out", names)
    out.mkdir(exist_ok=True)

    refuse_target(checkpoint, out, force=True)
