"""Links in a folder: those that leave it are refused, those within it stay links."""

import json
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from modswap.cli.app import run
from modswap.core.errors import CheckpointError
from modswap.io.formats.folder.shards import read_shards
from modswap.io.recognise.look import look_at

RECIPE = "version: 1\nreplace: [{match: gate, with: SEBlock, layout: NCHW, args: {channel: 8}}]\n"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
WEIGHTS = {"gate.weight": torch.ones(8, 8, 1, 1), "stem.weight": torch.arange(9.0)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of weights in the working folder, with a secret beside it."""
    made = tmp_path / "in"
    (made / "sub" / "deep").mkdir(parents=True)
    save_file(WEIGHTS, made / SINGLE)
    (made / "sub" / "words.txt").write_text("words")
    (made / "config.json").write_text("{}")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_text("secret")
    (tmp_path / "swap.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return made


def replace(source: Path | str = "in", out: str = "out", *more: str) -> int:
    return run(["replace", str(source), "-c", "swap.yaml", "-o", out, "--no-forward", *more])


def shards(folder: Path, split: Sequence[str] = ("a.safetensors", "b.safetensors")) -> None:
    """Make the folder's one file into two with an index."""
    (folder / SINGLE).unlink()
    places = dict(zip(WEIGHTS, split, strict=True))
    for name, place in places.items():
        save_file({name: WEIGHTS[name]}, folder / place)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def moved(file: Path, place: Path) -> None:
    """Move a file, and leave a link to its new place."""
    place.parent.mkdir(parents=True, exist_ok=True)
    file.rename(place)
    file.symlink_to(os.path.relpath(place, file.parent))


Make = Callable[[Path], object]


def to(links: dict[str, str]) -> Make:
    """Return what makes links in a folder; `{}` in a target is the folder."""

    def make(folder: Path) -> None:
        for name, target in links.items():
            (folder / name).symlink_to(target.format(folder))

    return make


def out_of(name: str, *, index: bool = False) -> Make:
    """Return what moves a file of a folder to a place outside, behind a link."""

    def make(folder: Path) -> None:
        if index:
            shards(folder)
        moved(folder / name, folder.parent / "elsewhere" / name)

    return make


def pipe(name: str, **links: str) -> Make:
    def make(folder: Path) -> None:
        os.mkfifo(folder / name)
        to(links)(folder)

    return make


def there_and_back(folder: Path) -> None:
    (folder.parent / "back").symlink_to("in/config.json")
    (folder / "x").symlink_to("../back")


OUTWARD: dict[str, Make] = {
    "file": to({"x": "../secret"}),
    "absolute": to({"x": "{}/../secret"}),
    "folder": to({"x": "../secrets"}),
    "in a subfolder": to({"sub/deep/x": "../../../secret"}),
    "folder of a subfolder": to({"sub/x": "../../secrets"}),
    "parent": to({"x": ".."}),
    "root": to({"x": "/"}),
    "passwords": to({"x": "/etc/passwd"}),
    "process": to({"x": "/proc/self/environ"}),
    "device": to({"x": "/dev/zero"}),
    "dangling": to({"x": "../gone"}),
    "chain": to({"x": "y", "y": "../secret"}),
    "through a folder": to({"d": "..", "x": "d/secret"}),
    "and back": there_and_back,
    "circle": to({"x": "y", "y": "x"}),
    "to itself": to({"x": "x"}),
    "weights": out_of(SINGLE),
    "config": out_of("config.json"),
    "records": to({"modswap.json": "../secret"}),
    "records to nowhere": to({"modswap.json": "../gone"}),
    "index": out_of(INDEX, index=True),
    "shard": out_of("b.safetensors", index=True),
    "pipe": pipe("sub/x"),
    "link to a pipe": pipe("x", y="x"),
    "index that is a pipe": pipe(INDEX),
    "records that are a pipe": pipe("modswap.json"),
    "index of /dev/zero": to({INDEX: "/dev/zero"}),
    "index that is missing": to({INDEX: "gone"}),
    "like a cache": to({"x": "../../blobs/hash"}),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", OUTWARD)
def test_folder_with_a_link_that_leaves_it_or_no_file_is_not_copied(
    kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    OUTWARD[kind](folder)

    code = replace()
    said = " ".join("".join(capsys.readouterr()).split())

    assert code == 3, said
    words = ("leaves the folder", "in a circle", "is a pipe", "holds a pipe", "not there")
    assert any(word in said for word in words), said
    assert not Path("out").exists()
    assert not [p for p in Path().iterdir() if p.name.startswith(".modswap-")]


def test_socket_and_device_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("in/x")

    assert replace() == 3
    assert "it holds a socket, 'x'" in " ".join("".join(capsys.readouterr()).split())


WITHIN: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "file": ({"x": "config.json"}, {"x": "config.json"}),
    "absolute": ({"x": "{}/sub/words.txt"}, {"x": "sub/words.txt"}),
    "by its parent": ({"x": "../in/config.json"}, {"x": "config.json"}),
    "up": ({"sub/deep/x": "../../config.json"}, {"sub/deep/x": "../../config.json"}),
    "absolute and up": ({"sub/x": "{}/config.json"}, {"sub/x": "../config.json"}),
    "folder": ({"x": "sub"}, {"x": "sub"}),
    "itself": ({"sub/x": ".."}, {"sub/x": ".."}),
    "here": ({"x": "."}, {"x": "."}),
    "with a slash": ({"x": "sub/"}, {"x": "sub"}),
    "with dots": ({"x": "./sub/../config.json"}, {"x": "config.json"}),
    "chain": ({"x": "y", "y": "z", "z": "config.json"}, {"x": "y", "y": "z", "z": "config.json"}),
    "through a link": ({"d": "sub", "x": "d/words.txt"}, {"d": "sub", "x": "sub/words.txt"}),
    "dangling": ({"x": "gone/too"}, {"x": "gone/too"}),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", WITHIN)
def test_link_within_a_folder_stays_a_link(kind: str, folder: Path) -> None:
    links, expected = WITHIN[kind]
    for name, target in links.items():
        (folder / name).symlink_to(target.format(folder))

    assert replace() == 0

    assert {name: str(Path("out", name).readlink()) for name in expected} == expected
    copied = {str(p.relative_to("out")) for p in Path("out").rglob("*") if p.is_symlink()}
    assert copied == set(expected)
    assert Path("out/sub/words.txt").read_text() == "words"
    shutil.rmtree(folder)  # nothing in OUT leads back
    assert run(["tree", "out"]) == 0


def test_hard_link_is_copied_as_a_file(folder: Path) -> None:
    os.link(folder / "config.json", folder / "hard.json")

    assert replace() == 0

    assert Path("out/hard.json").stat().st_nlink == 1
    assert Path("out/hard.json").read_text() == "{}"


@pytest.mark.parametrize("split", [("a.safetensors", "b.safetensors"), ("a.safetensors",) * 2])
def test_weights_and_index_that_are_links_within_are_written_where_they_lead(
    split: tuple[str, str], folder: Path
) -> None:
    if split[0] != split[1]:
        shards(folder, split)
        moved(folder / "b.safetensors", folder / "sub" / "second")
        moved(folder / "a.safetensors", folder / "blobs" / "first")
        moved(folder / INDEX, folder / "blobs" / "index")
    else:
        moved(folder / SINGLE, folder / "blobs" / "only")

    assert replace() == 0

    links = {p.name: p.readlink() for p in Path("out").iterdir() if p.is_symlink()}
    assert links == {p.name: p.readlink() for p in folder.iterdir() if p.is_symlink()}
    found = read_shards(look_at(Path("out")))
    tensors = {n: t for name in found.looks for n, t in load_file(Path("out", name)).items()}
    assert {name.partition(".")[0] for name in tensors} == {"gate", "stem"}
    assert tensors["stem.weight"].equal(WEIGHTS["stem.weight"])
    assert "gate.weight" not in tensors
    assert load_file(folder / next(iter(links)), "cpu") if INDEX not in links else True
    assert run(["diff", "in", "out"]) in {0, 1, 2}


def test_records_that_are_a_link_within_are_written_as_a_file(folder: Path) -> None:
    (folder / "notes.json").write_text('{"recipe": "", "mine": 1}')
    (folder / "modswap.json").symlink_to("notes.json")

    assert replace() == 0

    assert not Path("out/modswap.json").is_symlink()
    assert json.loads(Path("out/modswap.json").read_text())["receipt"]
    assert json.loads(Path("out/notes.json").read_text())["mine"] == 1


@pytest.mark.parametrize("what", ["two shards", "weights and records", "index and records"])
def test_two_uses_of_one_file_are_refused(
    what: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if what == "weights and records":
        moved(folder / SINGLE, folder / "modswap.json")
    else:
        shards(folder)
    if what == "index and records":
        moved(folder / INDEX, folder / "modswap.json")
    if what == "two shards":
        (folder / "b.safetensors").unlink()
        (folder / "b.safetensors").symlink_to("a.safetensors")

    assert replace() == 3

    assert "are one file" in " ".join("".join(capsys.readouterr()).split())


@pytest.mark.each_once
@pytest.mark.parametrize("part", ["", "unet"])
@pytest.mark.parametrize("many", [True, False])
def test_snapshot_of_the_hub_is_read_and_copied_as_files(
    many: bool, part: str, folder: Path, tmp_path: Path
) -> None:
    if many:
        shards(folder)
    cached = tmp_path / "hub" / "models--a--net"
    snapshot = cached / "snapshots" / "0a1b" / part
    (snapshot / "sub").mkdir(parents=True)
    (cached / "blobs").mkdir()
    for number, file in enumerate(p for p in sorted(folder.rglob("*")) if p.is_file()):
        blob = cached / "blobs" / f"hash{number}"
        shutil.copy(file, blob)
        link = snapshot / file.relative_to(folder)
        link.symlink_to(os.path.relpath(blob, link.parent))
    Path("named").symlink_to(snapshot)

    assert replace("in", "plain") == 0
    assert run(["tree", str(snapshot)]) == 0
    assert replace(snapshot, "out") == 0
    assert replace("named", "again") == 0

    for out in (Path("out"), Path("again")):
        files = {str(p.relative_to(out)): p for p in out.rglob("*") if not p.is_dir()}
        assert not any(file.is_symlink() for file in files.values())
        same = {n: f.read_bytes() for n, f in files.items() if n != "modswap.json"}
        plain = {n: Path("plain", n).read_bytes() for n in same}
        assert same == plain


def test_link_of_a_snapshot_to_the_file_of_another_repository_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "hub" / "models--a" / "snapshots" / "1"
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    other = tmp_path / "hub" / "models--b" / "blobs"
    other.mkdir(parents=True)
    moved(snapshot / SINGLE, other / "hash")

    assert replace(snapshot) == 3
    assert run(["tree", str(snapshot)]) == 3


@pytest.mark.parametrize("command", ["tree", "check", "load"])
@pytest.mark.parametrize("kind", ["weights", "index", "shard", "index that is a pipe", "records"])
def test_no_command_reads_through_a_link_that_leaves(
    command: str, kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    OUTWARD[kind](folder)
    args = {"tree": ["tree", "in"], "check": ["check", "in", "-c", "swap.yaml", "--no-forward"]}

    if command == "load":
        import modswap

        with pytest.raises(CheckpointError):
            modswap.load("in", model="torch.nn:Identity")
    else:
        # a tree shows no records, and does not read them
        assert run(args[command]) in ({0} if (command, kind) == ("tree", "records") else {2, 3})
    assert "secret" not in "".join(capsys.readouterr()).replace("../secret", "").replace(
        "/secret", ""
    )


def test_folder_nested_too_deep_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "/".join("d" * 110)).mkdir(parents=True)

    assert replace() == 3
    assert "nested more than 100 deep" in " ".join("".join(capsys.readouterr()).split())


def test_folder_in_it_that_cannot_be_read_is_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = Path.iterdir

    def refuse(self: Path) -> Any:
        if self.name == "deep":
            raise PermissionError(13, "Permission denied")
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", refuse)  # tests may run as root, who may read all

    assert replace() == 3
    assert "it cannot be read: Permission denied" in " ".join("".join(capsys.readouterr()).split())


def test_sparse_file_beside_the_weights_is_not_filled(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "config.json").open("wb") as stream:
        stream.truncate(64 << 30)

    assert replace() == 3
    assert run(["check", "in", "-c", "swap.yaml"]) == 3
    said = " ".join("".join(capsys.readouterr()).split())
    assert "'config.json' of 68,719,476,736 bytes is a hole" in said
    assert "config.json: it is too large" in said
