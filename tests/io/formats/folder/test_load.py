"""Folders of weights: read, swapped, written whole, refused where something is wrong.

Covers: load, outline, rewrite, shards.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import modswap
from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.asked.renames import stripped
from modswap.core.errors import CheckpointError, ModswapError, UsageError
from modswap.core.kept.outcome import Outcome
from modswap.io.raw import atomic, litter
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.jobs.replace import check_file, replace_file
from modswap.ops.jobs.replace_as_data import replace_unbuilt
from modswap.ops.jobs.tree import read_tree
from tests.models import GatedNet
from tests.recipes import UNEXAMINED

FACTORY = "tests.models:build_gated"
RULES = "{match: space_attention, with: SEBlock}"
# the old gate's tensors lie in two files
SPLIT = {"stem": "1", "channel_attention": "1", "space_attention.0": "2", "space_attention.1": "3",
         "head": "3"}  # fmt: skip


def shard(name: str, kind: str) -> str:
    bare = name.removeprefix("backbone.")
    number = next(n for begin, n in SPLIT.items() if bare.startswith(begin))
    stem, end = ("model", "safetensors") if kind == "safetensors" else ("pytorch_model", "bin")
    return f"{stem}-0000{number}-of-00003.{end}"


def write_folder(folder: Path, kind: str, weights: dict[str, torch.Tensor]) -> None:
    folder.mkdir()
    places = {name: shard(name, kind) for name in weights}
    for file in set(places.values()):
        held = {name: weights[name] for name in weights if places[name] == file}
        if kind == "safetensors":
            save_file(held, folder / file, metadata={"format": "pt"})
        else:
            torch.save(held, folder / file)
    stem = "model.safetensors" if kind == "safetensors" else "pytorch_model.bin"
    index = {"metadata": {"total_size": 1, "by": "me"}, "weight_map": places}
    (folder / f"{stem}.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text('{"hidden": 16}')
    (folder / "tokens").mkdir()
    (folder / "tokens" / "vocab.txt").write_text("a b c")


def job(file: Path, out: Path | None, rules: str = RULES, *, force: bool = False) -> Job:
    head = f"version: 1\ninputs: [{{shape: [1, 3, 28, 28]}}]\n{UNEXAMINED}"
    text = f"{head}\nreplace: [{rules}]\n"
    return Job(Subject(file, Policy(), FACTORY), parse_recipe(text, "swap.yaml", "."), out, force)


def swap(file: Path, out: Path | None, rules: str = RULES, *, force: bool = False) -> Outcome:
    outcome = replace_file(job(file, out, rules, force=force))
    assert outcome.error is None, outcome.error
    return outcome


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_only_the_shards_that_change_are_rewritten(kind: str, tmp_path: Path) -> None:
    folder, out = tmp_path / "net", tmp_path / "out"
    weights = GatedNet().state_dict()
    write_folder(folder, kind, weights)

    outcome = swap(folder, out)

    assert outcome.ledger is not None
    assert outcome.ledger.proved
    assert outcome.ledger.kept.tensors == len(weights) - 7
    assert outcome.written is not None
    assert outcome.written.format == "folder"
    before, after = contents(folder), contents(out)
    stem = "model.safetensors" if kind == "safetensors" else "pytorch_model.bin"
    index = f"{stem}.index.json"
    changed = {shard("space_attention.0", kind), shard("space_attention.1", kind), index}
    assert {name for name in before if after[name] != before[name]} == changed
    assert set(after) - set(before) == {"modswap.json"}
    lines = "".join(f"{sha256(after[n]).hexdigest()}  {n}\n" for n in sorted(after))
    assert outcome.written.sha256 == sha256(lines.encode()).hexdigest()
    assert outcome.written.nbytes == sum(map(len, after.values()))
    listed = json.loads(after[index])
    loaded = modswap.load(out, FACTORY)
    assert set(listed["weight_map"]) == set(loaded.state_dict())
    assert set(listed["weight_map"].values()) == {shard(name, kind) for name in weights}
    assert listed["metadata"]["by"] == "me"
    assert listed["metadata"]["total_size"] == sum(t.nbytes for t in loaded.state_dict().values())
    assert type(loaded.get_submodule("space_attention")).__name__ == "SEBlock"
    for name, tensor in loaded.state_dict().items():
        if not name.startswith("space_attention"):
            assert torch.equal(tensor, weights[name])


def test_second_swap_and_check_of_a_swapped_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "net", "safetensors", GatedNet().state_dict())
    swap(tmp_path / "net", tmp_path / "once")
    rules = "{match: channel_attention, with: SEBlock}"

    checked = check_file(job(tmp_path / "once", None, rules))
    swap(tmp_path / "once", tmp_path / "twice", rules)

    assert checked.error is None
    loaded = modswap.load(tmp_path / "twice", FACTORY)
    for name in ("space_attention", "channel_attention"):
        assert type(loaded.get_submodule(name)).__name__ == "SEBlock"


@pytest.mark.parametrize("again", ["built", "unbuilt"])
def test_swapped_file_in_a_folder_reports_its_swap(again: str, tmp_path: Path) -> None:
    save_file(GatedNet().state_dict(), tmp_path / "net.safetensors")
    folder = tmp_path / "net"
    folder.mkdir()
    swap(tmp_path / "net.safetensors", folder / "model.safetensors")
    rules = "{match: channel_attention, with: SEBlock, layout: NCHW, args: {channel: 16}}"

    if again == "built":
        swap(folder, tmp_path / "twice", rules)
    else:
        text = f"version: 1\nreplace: [{rules}]\n"
        asked = parse_recipe(text, "swap.yaml", ".")
        assert replace_unbuilt(Job(Subject(folder), asked, tmp_path / "twice")).error is None

    loaded = modswap.load(tmp_path / "twice", FACTORY)
    for name in ("space_attention", "channel_attention"):
        assert type(loaded.get_submodule(name)).__name__ == "SEBlock"


def test_wrong_factory_for_the_working_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "net", "safetensors", GatedNet().state_dict())
    monkeypatch.chdir(tmp_path / "net")

    with pytest.raises(ModswapError, match="build the model that net was saved from"):
        modswap.load(".", "torch.nn:Identity")


def test_one_file_beside_a_config_is_a_folder_too(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    save_file(GatedNet().state_dict(), folder / "model.safetensors")
    torch.save(GatedNet().state_dict(), folder / "pytorch_model.bin")

    swap(folder, tmp_path / "out")

    assert sorted(contents(tmp_path / "out")) == [
        "model.safetensors",
        "modswap.json",
        "pytorch_model.bin",
    ]
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as opened:
        assert sum(name.startswith("space_attention.") for name in opened.keys()) == 2  # noqa: SIM118 - not a dict: no iteration


def test_folder_goes_over_to_one_file(tmp_path: Path) -> None:
    write_folder(tmp_path / "net", "safetensors", GatedNet().state_dict())

    outcome = swap(tmp_path / "net", tmp_path / "out.safetensors")

    assert outcome.ledger is not None
    assert outcome.ledger.proved
    loaded = modswap.load(tmp_path / "out.safetensors", FACTORY)
    assert type(loaded.get_submodule("space_attention")).__name__ == "SEBlock"


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_tree_of_a_folder_needs_no_torch(kind: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "net", kind, GatedNet().state_dict())
    whole = tmp_path / "net.safetensors"
    save_file(GatedNet().state_dict(), whole)
    program = (
        "import sys; from modswap.cli.app import run\n"
        "code = run(['tree', sys.argv[1], '--format', 'json'])\n"
        "assert 'torch' not in sys.modules; sys.exit(code)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "net")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    rows = {row.path: row.params for row in read_tree(Subject(whole)).rows}
    assert {r.path: r.params for r in read_tree(Subject(tmp_path / "net")).rows} == rows
    tree = json.loads(done.stdout)
    assert {row["path"]: row["params"] for row in tree["modules"]} == rows


def test_pickle_that_is_no_data_leaves_the_tree_to_torch(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    torch.save(GatedNet().state_dict(), tmp_path / "net" / "pytorch_model.bin", pickle_protocol=4)

    with pytest.raises(ModswapError):
        read_tree(Subject(tmp_path / "net"))


def test_factory_is_asked_for_where_no_config_names_a_class(tmp_path: Path) -> None:
    write_folder(tmp_path / "net", "safetensors", GatedNet().state_dict())

    with pytest.raises(UsageError, match="it holds weights without code"):
        modswap.load(tmp_path / "net")


Spoil = Callable[[Path, dict[str, Any]], object]
FIRST = "model-00001-of-00003.safetensors"


def write_index(folder: Path, index: object) -> None:
    text = index if isinstance(index, str) else json.dumps(index)
    (folder / "model.safetensors.index.json").write_text(text)


def moved(place: str) -> Spoil:
    return lambda folder, index: write_index(
        folder, {**index, "weight_map": {**index["weight_map"], "stem.weight": place}}
    )


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda folder, index: write_index(folder, "{"), "cannot be read"),
        (lambda folder, index: write_index(folder, [1]), "has no `weight_map`"),
        (lambda folder, index: write_index(folder, {"weight_map": {}}), "has no `weight_map`"),
        (lambda folder, index: write_index(folder, {"weight_map": {"a": 1}}), "has no"),
        (lambda folder, index: write_index(folder, {"weight_map": [1]}), "has no `weight_map`"),
        (moved("../net.safetensors"), "names a file outside the folder"),
        (moved(".."), "names a file outside the folder"),
        (moved("/etc/passwd"), "names a file outside the folder"),
        (moved("gone.safetensors"), "no such file"),
        (moved("config.json"), "'config.json' holds no weights that could be read"),
        (moved("model-00002-of-00003.safetensors"), "'stem.weight' is not in 'model-00002"),
        (lambda folder, index: (folder / FIRST).unlink(), "no such file"),
        (lambda folder, index: (folder / FIRST).write_bytes(b"x" * 9), "holds no weights"),
        (
            lambda folder, index: save_file(
                {**load_file(folder / FIRST), "head.weight": torch.ones(1)}, folder / FIRST
            ),
            "two of its files hold 'head.weight'",
        ),
    ],
)  # fmt: skip
def test_folder_that_is_not_what_its_index_says_is_refused(
    spoil: Spoil, what: str, tmp_path: Path
) -> None:
    folder = tmp_path / "net"
    write_folder(folder, "safetensors", GatedNet().state_dict())
    spoil(folder, json.loads((folder / "model.safetensors.index.json").read_text()))

    with pytest.raises(CheckpointError, match=what):
        replace_file(job(folder, tmp_path / "out"))

    assert not (tmp_path / "out").exists()


def test_index_of_too_many_tensors_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "net"
    write_folder(folder, "safetensors", GatedNet().state_dict())
    monkeypatch.setattr("modswap.io.formats.folder.shards.MAX_HEADER_ENTRIES", 2)

    with pytest.raises(CheckpointError, match="names over 2 tensors"):
        modswap.load(folder)


def test_index_of_unlikely_size_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    write_folder(folder, "safetensors", GatedNet().state_dict())
    with (folder / "model.safetensors.index.json").open("wb") as stream:
        stream.truncate(300 << 20)

    with pytest.raises(CheckpointError, match=r"its index '.*' is too large"):
        read_tree(Subject(folder))


def test_shard_with_more_than_tensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    torch.save({"model": GatedNet().state_dict()}, tmp_path / "net" / "pytorch_model.bin")

    with pytest.raises(CheckpointError, match="holds more than named tensors"):
        modswap.load(tmp_path / "net", FACTORY)


def test_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()

    with pytest.raises(CheckpointError, match="it is a folder, and none of its files is an index"):
        modswap.load(tmp_path / "net", FACTORY)


def test_folder_of_pickles_that_are_no_data_is_not_written_again(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    torch.save(GatedNet().state_dict(), tmp_path / "net" / "pytorch_model.bin", pickle_protocol=4)
    work = job(tmp_path / "net", tmp_path / "out")
    subject = Subject(work.subject.file, Policy(trust=True), FACTORY)

    outcome = replace_file(Job(subject, work.recipe, work.out))

    assert outcome.error is not None
    assert "its files cannot be read as data" in outcome.error.what
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["[1]", "{", '{"receipt": 3}'])
def test_damaged_records_of_ours_are_passed_over(text: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "net", "safetensors", GatedNet().state_dict())
    (tmp_path / "net" / "modswap.json").write_text(text)

    swap(tmp_path / "net", tmp_path / "out")

    assert json.loads((tmp_path / "out" / "modswap.json").read_text())["recipe"]


def test_target_has_to_be_another_place(tmp_path: Path) -> None:
    folder, out = tmp_path / "net", tmp_path / "v1.5"
    write_folder(folder, "safetensors", GatedNet().state_dict())
    swap(folder, out)  # a point in a folder's name is no ending

    for target, what in (
        (folder, "it is the input itself"),
        (folder / "inside", "it is inside the input"),
        (out, "it exists"),
    ):
        with pytest.raises(CheckpointError, match=what):
            replace_file(job(folder, target))
    (out / "mine.txt").write_text("mine")
    swap(folder, out, force=True)
    assert not (out / "mine.txt").exists()
    assert [p for p in tmp_path.iterdir() if p.name.startswith(".modswap-")] == []


def test_damage_found_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    write_folder(folder, "bin", GatedNet().state_dict())
    file = folder / shard("space_attention.1", "bin")
    content = bytearray(file.read_bytes())
    content[content.index(b"data/5") + 100] ^= 1
    file.write_bytes(content)

    outcome = replace_file(job(folder, tmp_path / "out"))

    assert outcome.error is not None
    assert "is damaged" in outcome.error.what
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net"]


def test_killed_writer_of_a_folder_leaves_litter_that_the_next_removes(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom modswap.io.raw.atomic import replacing\n"
        "with replacing(Path(sys.argv[1]), force=False, folder=True) as folder:\n"
        "    (folder / 'part').write_text('x')\n"
        "    print('there', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "out")], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    litter.remove_litter(tmp_path)
    (left,) = tmp_path.iterdir()  # it is alive
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    time.sleep(0.01)

    assert (left / "part").exists()
    with atomic.replacing(tmp_path / "next", force=False) as file:
        file.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == ["next"]


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_folder_is_swapped_without_its_models_code(kind: str, tmp_path: Path) -> None:
    weights = GatedNet().half().state_dict()
    write_folder(tmp_path / "in", kind, weights)
    rules = "{match: space_attention, with: SEBlock, layout: NCHW, args: {channel: 16}}"
    asked = parse_recipe(f"version: 1\nreplace: [{rules}]\n", "swap.yaml", ".")

    outcome = replace_unbuilt(Job(Subject(tmp_path / "in"), asked, tmp_path / "out"))

    assert outcome.error is None
    model = modswap.load(tmp_path / "out", model=FACTORY)
    kept = {name: tensor for name, tensor in weights.items() if "space_attention" not in name}
    for name, tensor in kept.items():
        assert torch.equal(model.state_dict()[name], tensor)
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float16}
    again = replace_unbuilt(Job(Subject(tmp_path / "out"), asked, tmp_path / "twice"))
    assert again.error is None


def test_index_of_a_folder_is_no_checkpoint_and_names_its_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", "safetensors", GatedNet().state_dict())

    with pytest.raises(CheckpointError) as caught:
        modswap.load(tmp_path / "in" / "model.safetensors.index.json", model=FACTORY)

    assert caught.value.fix == f"name its folder, {tmp_path / 'in'}"


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ('{"architectures": ["ViTModel"], "model_type": "vit"}', True),
        ('{"architectures": ["a b"], "model_type": "vit"}', False),
        ('{"architecture": "resnet18"}', False),
        ("{", False),
        ("", False),
    ],
)
def test_tree_of_a_folder_names_the_class_of_its_config(
    config: str, named: bool, tmp_path: Path
) -> None:
    write_folder(tmp_path / "net", "safetensors", GatedNet().state_dict())
    (tmp_path / "net" / "config.json").write_text(config)

    tree = read_tree(Subject(tmp_path / "net"))

    assert ("config.json names ViTModel" in tree.notes[-1]) == named


@pytest.mark.parametrize("kind", ["safetensors", "pickle"])
def test_new_tensors_of_other_names_are_in_the_file_of_the_old_ones(
    kind: str, tmp_path: Path
) -> None:
    weights = {f"backbone.{name}": tensor for name, tensor in GatedNet().state_dict().items()}
    write_folder(tmp_path / "net", kind, weights)
    work = job(tmp_path / "net", tmp_path / "out")
    renamed = replace(work.subject, renames=(stripped("backbone"),))

    outcome = replace_file(replace(work, subject=renamed))

    assert outcome.error is None, outcome.error
    (index,) = (tmp_path / "out").glob("*.index.json")
    places = json.loads(index.read_text())["weight_map"]
    assert all(name.startswith("backbone.") for name in places)
    assert places.keys() - weights.keys()
    modswap.load(tmp_path / "out", FACTORY, strip_prefix="backbone")
