"""Paths to write are judged by device and inode, under any name."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from modswap.core.asked.used_paths import INPUT, OUT, UsedPath
from modswap.core.errors import CheckpointError
from modswap.io.raw.places import identity, refuse_overlap


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, with files, folders, and links of all kinds."""
    monkeypatch.chdir(tmp_path)
    for name in ("A/B/inner", "elsewhere/deep", "blobs"):
        Path(name).mkdir(parents=True)
    for name in ("net.pt", "A/B/w.bin", "A/other.txt", "blobs/1", "elsewhere/x", "A/B/inner/v"):
        Path(name).write_text(name)
    Path("link.pt").symlink_to("net.pt")
    Path("twice.pt").symlink_to("link.pt")
    os.link("net.pt", "hard.pt")
    os.link("A/B/w.bin", "hard.bin")
    Path("A/B/linked").symlink_to("../../blobs/1")
    Path("A/B/new").symlink_to(tmp_path / "none.bin")  # its target does not exist
    Path("A/B/away").symlink_to("../../elsewhere")
    Path("to_a").symlink_to("A")
    return tmp_path


def relation(out: str, used: str) -> str:
    """Return why a path may not be written, or an empty text."""
    try:
        refuse_overlap(UsedPath(OUT, Path(out)), [UsedPath(INPUT, Path(used))])
    except CheckpointError as error:
        return error.what if error.where == str(Path(out)) else error.where
    return ""


LITTER = ".modswap-1-0123abcd.part"
SAME, INSIDE = "it is the input itself", "it is inside the input"
HOLDS, LINK = "the input is inside it", "the input has a link to it"


@pytest.mark.parametrize(
    ("out", "used", "what"),
    [
        ("net.pt", "net.pt", SAME),
        ("A/../net.pt", "net.pt", SAME),
        ("./A/B/../../net.pt", "link.pt", SAME),
        ("link.pt", "net.pt", SAME),
        ("net.pt", "twice.pt", SAME),
        ("hard.pt", "net.pt", SAME),
        ("to_a/B/w.bin", "A/B/w.bin", SAME),
        ("A/B", "to_a/B", SAME),
        ("A/B/", "A/B", SAME),
        ("A", "A/B", HOLDS),
        ("to_a", "A/B", HOLDS),
        (".", "net.pt", HOLDS),
        ("A/B/inner/../..", "A/B/w.bin", HOLDS),
        ("/", "A/B", HOLDS),
        ("A/B/w.bin", "A/B", INSIDE),
        ("A/B/inner/v", "A/B", INSIDE),
        ("A/B/none/yet", "A/B", INSIDE),
        ("to_a/B/none", "A/B", INSIDE),
        ("A/B/inner/none", "to_a", INSIDE),
        ("hard.bin", "A/B", INSIDE),
        ("blobs/1", "A/B", LINK),
        ("blobs", "A/B", LINK),
        ("none.bin", "A/B", LINK),
        ("elsewhere", "A/B", LINK),
        ("none/out.pt", "none/out.pt", SAME),
        ("none/../none/out.pt", "none/out.pt", SAME),
        ("other.pt", "net.pt", ""),
        ("A/other.txt", "A/B", ""),
        ("A/new", "A/B", ""),
        ("blobs/2", "A/B", ""),
        ("elsewhere/x", "net.pt", ""),
        ("elsewhere/new", "A/B", ""),
        ("none/out.pt", "none/in.pt", ""),
        ("a\0b", "net.pt", ""),
    ],
)
def test_paths_that_overlap_are_refused(folder: Path, out: str, used: str, what: str) -> None:
    assert relation(out, used) == what
    assert relation(out, str(folder / used)) == what


def test_error_names_both_and_the_way_out(folder: Path) -> None:
    report = UsedPath("the report", folder / "net.pt")

    with pytest.raises(
        CheckpointError, match=r"the report cannot be there: it is OUT itself"
    ) as of:
        refuse_overlap(report, [UsedPath(INPUT, folder / "A"), UsedPath(OUT, folder / "net.pt")])
    assert of.value.fix == "name another file"
    with pytest.raises(CheckpointError) as of:
        refuse_overlap(UsedPath(OUT, folder), [UsedPath("the recipe", folder / "net.pt")])
    assert of.value.fix == "name another place: the recipe is never overwritten"


@pytest.mark.parametrize("name", [LITTER, f"{LITTER}/net.pt", "link"])
def test_used_path_that_would_be_removed_as_litter_is_refused(folder: Path, name: str) -> None:
    place = folder / ("A" if name == LITTER else ".") / LITTER
    if "/" in name:
        place.mkdir()
        place /= "net.pt"
    place.write_text("precious")
    Path("link").symlink_to(LITTER)
    beside, elsewhere = ("A/out", "out") if name == LITTER else ("out", "A/out")
    used = Path("link") if name == "link" else place

    refuse_overlap(UsedPath(OUT, Path(elsewhere)), [UsedPath(INPUT, used)])
    with pytest.raises(CheckpointError, match="the input has the name of a temporary file"):
        refuse_overlap(UsedPath(OUT, Path(beside)), [UsedPath(INPUT, used)])


def test_path_without_any_folder_has_an_identity_of_its_own() -> None:
    assert identity(Path("a\0b")) == ("a\0b",)


@pytest.fixture
def mounted(folder: Path) -> Iterator[Path]:
    """Mount a folder of the input a second time; return the place."""
    place = folder / "mounted"
    place.mkdir()
    done = subprocess.run(["mount", "--bind", "A/B", str(place)], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("this user cannot mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize(
    ("out", "used", "what"),
    [
        ("mounted", "A/B", SAME),
        ("mounted/w.bin", "A/B/w.bin", SAME),
        ("mounted/none", "A/B", INSIDE),
        ("mounted/none", "A", INSIDE),  # a folder of it is mounted, and none above it
        ("A", "mounted/w.bin", HOLDS),
        ("A", "mounted", HOLDS),
    ],
)
def test_mounted_folders_are_seen_through(mounted: Path, out: str, used: str, what: str) -> None:
    del mounted

    assert relation(out, used) == what
