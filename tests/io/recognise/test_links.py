"""Links of a folder stay inside it, but for those of the hub's cache."""

import os
from pathlib import Path

import pytest

from modswap.core.errors import CheckpointError
from modswap.io.recognise.links import blobs_of, hop_of, place_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    (made / "sub").mkdir(parents=True)
    (made / "a").write_text("a")
    (made / "sub" / "b").write_text("b")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "in2").mkdir()
    (tmp_path / "in2" / "c").write_text("c")
    return made


@pytest.mark.parametrize(
    ("links", "place"),
    [
        ({"x": "a"}, "a"),
        ({"x": "sub/b"}, "sub/b"),
        ({"sub/x": "../a"}, "a"),
        ({"x": "../in/a"}, "a"),
        ({"x": "{}/sub/b"}, "sub/b"),
        ({"x": "y", "y": "z", "z": "sub/b"}, "sub/b"),
        ({"d": "sub", "x": "d/b"}, "sub/b"),
        ({"x": "gone"}, "gone"),
        ({"sub/up": "..", "x": "sub/up/a"}, "a"),
    ],
)
def test_link_within_a_folder_leads_to_its_place(
    links: dict[str, str], place: str, folder: Path
) -> None:
    for name, target in links.items():
        (folder / name).symlink_to(target.format(folder))
    last = next(name for name in links if name.endswith("x"))

    assert place_of(folder / last, folder) == folder.resolve() / place


@pytest.mark.parametrize(
    "links",
    [
        {"x": "../secret"},
        {"x": "{}/../secret"},
        {"x": "/dev/zero"},
        {"x": "/proc/self/environ"},
        {"x": "../in2/c"},
        {"x": "../gone"},
        {"x": "y", "y": "../secret"},
        {"d": "..", "x": "d/secret"},
        {"sub/x": "../../secret"},
        {"sub/x": "../sub/../../secret"},
        {"x": ".."},
        {"x": "/"},
    ],
)
def test_link_that_leaves_a_folder_is_refused(links: dict[str, str], folder: Path) -> None:
    for name, target in links.items():
        (folder / name).symlink_to(target.format(folder))
    last = next(name for name in links if name.endswith("x"))

    with pytest.raises(CheckpointError, match=f"its file '{last}' is a link that leaves") as caught:
        place_of(folder / last, folder)

    assert caught.value.where == str(folder)


def test_link_that_leaves_a_folder_and_comes_back_has_no_next_place_in_it(folder: Path) -> None:
    (folder.parent / "back").symlink_to("in/a")
    (folder / "x").symlink_to("../back")

    with pytest.raises(CheckpointError, match="its file 'x' is a link that leaves the folder"):
        hop_of(folder / "x", folder)


def test_link_of_a_circle_is_refused(folder: Path) -> None:
    (folder / "x").symlink_to("y")
    (folder / "y").symlink_to("x")

    with pytest.raises(CheckpointError, match="its file 'x' is a link that leads in a circle"):
        place_of(folder / "x", folder)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_name_that_no_file_can_have_is_refused(name: str, folder: Path) -> None:
    with pytest.raises(CheckpointError, match="no file can have the name"):
        place_of(folder / name, folder)


@pytest.mark.parametrize("part", ["", "unet"])
def test_link_of_a_snapshot_of_the_hub_leads_into_its_blobs(part: str, tmp_path: Path) -> None:
    cached = tmp_path / "models--a--b"
    folder = cached / "snapshots" / "0a1b" / part
    folder.mkdir(parents=True)
    (cached / "blobs").mkdir()
    (cached / "blobs" / "hash").write_text("x")
    (folder / "x").symlink_to(os.path.relpath(cached / "blobs" / "hash", folder))
    (tmp_path / "named").symlink_to(folder)

    for named in (folder, tmp_path / "named"):
        assert place_of(named / "x", named) == cached.resolve() / "blobs" / "hash"
    assert blobs_of(folder) == cached / "blobs"


@pytest.mark.parametrize(
    "target",
    [
        "../../blobs/out",  # itself a link that leaves
        "../../blobs/pipe",
        "../../blobs/folder",
        "../../blobs/folder/deep",
        "../../blobs/gone",
        "../../refs/main",
        "../other/x",
        "../../../models--c/blobs/hash",
    ],
)
def test_link_of_a_snapshot_to_other_places_is_refused(target: str, tmp_path: Path) -> None:
    cached = tmp_path / "models--a"
    for made in ("models--a/snapshots/1", "models--a/snapshots/other", "models--a/refs",
                 "models--a/blobs/folder", "models--c/blobs"):  # fmt: skip
        (tmp_path / made).mkdir(parents=True)
    for file in ("refs/main", "snapshots/other/x", "blobs/folder/deep", "../models--c/blobs/hash"):
        (cached / file).write_text("x")
    (tmp_path / "secret").write_text("secret")
    (cached / "blobs" / "out").symlink_to("../../secret")
    os.mkfifo(cached / "blobs" / "pipe")
    folder = cached / "snapshots" / "1"
    (folder / "x").symlink_to(target)

    with pytest.raises(CheckpointError, match="is a link that leaves the folder"):
        place_of(folder / "x", folder)


@pytest.mark.parametrize("name", ["datasets--a/snapshots/1", "models--a/shots/1", "snapshots/1"])
def test_folder_of_another_kind_has_no_blobs(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir(parents=True)
    (folder.parent.parent / "blobs").mkdir()
    (folder.parent.parent / "blobs" / "hash").write_text("x")
    (folder / "x").symlink_to("../../blobs/hash")

    with pytest.raises(CheckpointError, match="is a link that leaves the folder"):
        place_of(folder / "x", folder)
