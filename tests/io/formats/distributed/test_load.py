"""Distributed checkpoints: saved by several ranks, swapped, loaded by others; hostile ones.

Covers: load, metadata, optimizer_state, outline, rewrite.
"""

import errno
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

import modswap
from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.errors import CheckpointError, ModswapError, UnsafeError
from modswap.core.kept.outcome import Outcome
from modswap.io.formats.container import Container
from modswap.io.formats.distributed import DISTRIBUTED
from modswap.io.formats.distributed.metadata import read_distributed
from modswap.io.formats.outline import outline
from modswap.io.formats.reading import read
from modswap.io.formats.target import NO_FILE
from modswap.io.formats.writing import write
from modswap.io.raw.torch_zip_layout import Window, read_inner_archive
from modswap.io.recipe.reader import parse_recipe
from modswap.io.rewriting import Records
from modswap.ops.jobs.replace import check_file, replace_file
from modswap.ops.jobs.replace_as_data import replace_unbuilt
from modswap.ops.jobs.tree import read_tree
from tests.models import GatedNet
from tests.recipes import UNEXAMINED

dcp: Any = torch.distributed.checkpoint
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")

FACTORY = "tests.models:build_gated"
RECIPE = f"""version: 1
{UNEXAMINED}
model: {{factory: "tests.models:build_gated"}}
inputs: [{{shape: [2, 3, 28, 28]}}]
replace:
  - match: space_attention
    with: BiLevelRoutingAttention
    args: {{num_heads: 4, n_win: 7}}
"""
ROOT = Path(__file__).parents[4]
FORMS = ("nested", "flat")
SWAPPED = "space_attention."


def torchrun(ranks: int, *args: object) -> None:
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = ["--nproc-per-node", str(ranks), "-m", "tests.io.formats.ranks", *map(str, args)]
    done = subprocess.run(
        [*run, *script], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]


def job(folder: Path, out: Path | None, recipe: str = RECIPE) -> Job:
    return Job(Subject(folder), parse_recipe(recipe, "swap.yaml", "."), out)


def swap(folder: Path, out: Path) -> Outcome:
    outcome = replace_file(job(folder, out))
    assert outcome.error is None, outcome.error
    return outcome


@pytest.fixture(scope="session")  # workers come back to this file
def saved_by(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Return what gives a folder with two checkpoints that so many ranks wrote."""

    @cache
    def save(ranks: int) -> Path:
        folder = tmp_path_factory.mktemp("ranks")
        torchrun(ranks, "save", folder)
        return folder

    return save


@pytest.fixture
def saved(saved_by: Callable[[int], Path]) -> Path:
    """Return a folder with two checkpoints that two ranks wrote."""
    return saved_by(2)


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """Return a checkpoint that one process wrote: a model, and objects of other kinds."""
    torch.manual_seed(0)
    model = GatedNet()
    state = {"model": model.state_dict(), "epoch": 3, "names": ["a"], "empty": torch.zeros(0, 2)}
    dcp.save(state, checkpoint_id=tmp_path / "single", no_dist=True)
    return tmp_path / "single"


def loaded(folder: Path) -> dict[str, Any]:
    """Return everything that torch reads from a checkpoint in one process."""
    metadata = FileSystemReader(folder).read_metadata()
    state: dict[str, Any] = {
        name: torch.empty(held.size, dtype=held.properties.dtype)
        if isinstance(held, TensorStorageMetadata)
        else None
        for name, held in metadata.state_dict_metadata.items()
    }
    dcp.load(state, checkpoint_id=folder, no_dist=True)
    return state


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "writers"),
    [("flat", 2), ("flat", 4), ("nested", 2), ("nested", 4)],
)
def test_kept_items_are_equal_in_torchs_reader(
    saved_by: Callable[[int], Path], tmp_path: Path, form: str, writers: int
) -> None:
    saved = saved_by(writers)
    before = loaded(saved / form)

    outcome = swap(saved / form, tmp_path / "out")

    after = loaded(tmp_path / "out")
    kept = {name for name in before if SWAPPED not in name and "param_groups" not in name}
    assert {name for name in after if SWAPPED not in name and "param_groups" not in name} == kept
    for name in kept:
        old, new = before[name], after[name]
        same = torch.equal(old, new) if torch.is_tensor(old) else old == new
        assert same, name
    assert len([name for name in kept if torch.is_tensor(before[name])]) == (
        outcome.ledger.kept.tensors if outcome.ledger else 0
    )
    fresh = [name for name in after if SWAPPED in name and "param_groups" not in name]
    assert len(fresh) == (outcome.ledger.fresh.tensors if outcome.ledger else 0)
    assert all(not after[name].any() for name in fresh if "exp_avg" in name or "step" in name)
    assert any("start from zeros" in note for note in outcome.notes)


@pytest.mark.slow
@pytest.mark.parametrize(("writers", "ranks"), [(2, 2), (2, 4), (4, 2), (4, 4)])
def test_swapped_checkpoint_is_loaded_and_trained_on_by_other_ranks(
    saved_by: Callable[[int], Path], tmp_path: Path, writers: int, ranks: int
) -> None:
    saved = saved_by(writers)
    recipe = tmp_path / "swap.yaml"
    recipe.write_text(RECIPE)
    old = {}
    for form in FORMS:
        swap(saved / form, tmp_path / form)
        old[form] = loaded(saved / form)

    torchrun(ranks, "load", tmp_path, recipe, tmp_path / "seen.pt")

    seen = torch.load(tmp_path / "seen.pt", weights_only=True)  # noqa: TID251 - torch's own reader
    for form, place, moments in (
        ("nested", "app.model.", "app.optim."),
        ("flat", "", "optimizer."),
    ):
        found = seen[form]
        model = modswap.load(tmp_path / form, model=FACTORY)
        assert isinstance(model, nn.Module)
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, found["model"][name]), name
            if not name.startswith(SWAPPED):
                assert torch.equal(tensor, old[form][f"{place}{name}"]), name
        state = found["optim"]["state"]
        for name in dict(model.named_parameters()):
            key = f"{moments}state.{name}.exp_avg"
            expected = old[form].get(key) if not name.startswith(SWAPPED) else None
            got = state[name]["exp_avg"]
            assert torch.equal(got, expected if expected is not None else torch.zeros_like(got))
        assert found["train"] == {"step": 2, "names": ["a", "b"]}
        assert found["loss"] > 0


@pytest.mark.slow
def test_groups_take_new_parameters_by_kind(saved: Path, tmp_path: Path) -> None:
    swap(saved / "nested", tmp_path / "out")

    after = loaded(tmp_path / "out")
    decayed, others = (after[f"app.optim.param_groups.{n}.params"] for n in (0, 1))
    assert "space_attention.qkv.qkv.weight" in decayed
    assert "space_attention.qkv.qkv.bias" in others
    assert "stem.weight" in decayed
    assert "stem.bias" in others


@pytest.mark.slow
def test_check_reads_no_weights_and_agrees_with_replace(saved: Path, tmp_path: Path) -> None:
    blind = tmp_path / "blind"
    shutil.copytree(saved / "nested", blind)
    for file in blind.glob("*.distcp"):
        data = bytearray(file.read_bytes())
        for chunk in (c for i in read_distributed(blind).tensors for c in i.chunks):
            if chunk.file == file.name:
                data[chunk.start : chunk.start + chunk.nbytes] = bytes(chunk.nbytes)
        file.write_bytes(data)

    checked = check_file(job(blind, None))

    assert checked.error is None
    written = swap(saved / "nested", tmp_path / "out")
    assert checked.ledger is not None
    assert written.ledger is not None
    assert checked.ledger.kept == written.ledger.kept
    assert checked.ledger.fresh == written.ledger.fresh


@pytest.mark.slow
def test_tree_shows_the_models_modules(saved: Path, single: Path) -> None:
    paths = [row.path for row in read_tree(Subject(saved / "nested")).rows]
    assert [row.path for row in read_tree(Subject(saved / "flat")).rows] == paths
    assert set(paths) == {row.path for row in read_tree(Subject(single)).rows}
    assert {"", "stem", "space_attention.0", "head"} <= set(paths)


def test_swapped_checkpoint_is_swapped_again(single: Path, tmp_path: Path) -> None:
    swap(single, tmp_path / "once")
    again = RECIPE.replace("space_attention", "channel_attention")

    outcome = replace_file(job(tmp_path / "once", tmp_path / "twice", again))

    assert outcome.error is None
    model = modswap.load(tmp_path / "twice", model=FACTORY)
    kinds = {
        type(model.get_submodule(n)).__name__ for n in ("space_attention", "channel_attention")
    }
    assert kinds == {"BiLevelRoutingAttention"}
    own = sorted(file.name for file in (tmp_path / "twice").glob("__modswap*"))
    assert own == ["__modswap_0.distcp", "__modswap_1.distcp"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.pt", "out.safetensors"])
def test_weights_are_written_to_a_file(saved: Path, tmp_path: Path, name: str) -> None:
    outcome = swap(saved / "nested", tmp_path / name)

    assert "only the models' weights are written, not the folder's other contents" in outcome.notes
    model = modswap.load(tmp_path / name, model=FACTORY)
    weights = loaded(saved / "nested")
    assert torch.equal(model.get_parameter("stem.weight"), weights["app.model.stem.weight"])


def test_other_files_are_kept_and_files_without_a_kept_part_are_not(tmp_path: Path) -> None:
    model = GatedNet()
    state = {"model": model.state_dict()}
    folder = tmp_path / "ck"
    dcp.save(state, storage_writer=dcp.FileSystemWriter(folder, thread_count=30), no_dist=True)
    (folder / "config.toml").write_text("a = 1")
    (folder / "logs").mkdir()
    (folder / "logs" / "loss.txt").write_text("1 2 3")
    homes = {
        chunk.file
        for item in read_distributed(folder).items.values()
        for chunk in item.chunks
        if SWAPPED in item.name
    }
    kept = {
        chunk.file
        for item in read_distributed(folder).items.values()
        for chunk in item.chunks
        if SWAPPED not in item.name
    }
    assert homes - kept

    swap(folder, tmp_path / "out")

    assert (tmp_path / "out" / "config.toml").read_text() == "a = 1"
    assert (tmp_path / "out" / "logs" / "loss.txt").read_text() == "1 2 3"
    names = {file.name for file in (tmp_path / "out").glob("__0*") if file.stat().st_size}
    assert names == kept
    for name in kept - homes:
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()


def damaged_record(folder: Path) -> None:
    distributed = read_distributed(folder)
    chunk = distributed.items["model.stem.weight"].chunks[0]
    archive = read_inner_archive(folder / chunk.file, chunk.start, chunk.nbytes)
    extent = next(e for name, e in archive.records.items() if name.startswith("data/"))
    data = bytearray((folder / chunk.file).read_bytes())
    data[extent.start + 5] ^= 1
    (folder / chunk.file).write_bytes(data)


def test_flipped_bit_is_an_error(single: Path, tmp_path: Path) -> None:
    damaged_record(single)

    error = replace_file(job(single, tmp_path / "out")).error

    assert isinstance(error, CheckpointError)
    assert "checksum" in error.what
    assert sorted(file.name for file in tmp_path.iterdir()) == ["single"]
    trusting = Job(
        Subject(single, Policy(checksum=False)),
        parse_recipe(RECIPE, "swap.yaml", "."),
        tmp_path / "out",
    )
    assert replace_file(trusting).error is None


Change = Callable[[Metadata, Path], object]


def info(metadata: Metadata, name: str = "model.stem.weight") -> Any:
    return next(held for index, held in metadata.storage_data.items() if index.fqn == name)


def set_chunk(metadata: Metadata, **values: Any) -> None:
    held = metadata.state_dict_metadata["model.stem.weight"]
    assert isinstance(held, TensorStorageMetadata)
    for name, value in values.items():
        object.__setattr__(held.chunks[0], name, value)


def set_info(metadata: Metadata, name: str, value: Any) -> None:
    object.__setattr__(info(metadata), name, value)


def whole(metadata: Metadata) -> Any:
    return metadata.state_dict_metadata["model.stem.weight"]


def overlap(metadata: Metadata) -> None:
    set_chunk(metadata, sizes=torch.Size([8, 3, 3, 3]))
    whole(metadata).chunks.append(whole(metadata).chunks[0])


def folder_instead(folder: Path) -> None:
    (folder / ".metadata").unlink()
    (folder / ".metadata").mkdir()


def without_place(metadata: Metadata) -> None:
    index = next(i for i in metadata.storage_data if i.fqn == "model.stem.weight")
    del metadata.storage_data[index]


BAD: dict[str, tuple[Change, str]] = {
    "outside": (lambda m, _: set_info(m, "relative_path", "../x"), "outside the folder"),
    "no text": (lambda m, _: set_info(m, "relative_path", 7), "where a name belongs"),
    "absent": (lambda m, _: set_info(m, "relative_path", "__9_0.distcp"), "is not there"),
    "beyond": (lambda m, _: set_info(m, "length", 1 << 40), "beyond the end"),
    "negative": (lambda m, _: set_info(m, "offset", -5), "where a part"),
    "packed": (lambda m, _: set_info(m, "transform_descriptors", ["zstd"]), "compressed"),
    "hole": (lambda m, _: set_chunk(m, sizes=torch.Size([1, 3, 3, 3])), "do not make it up"),
    "outside the tensor": (
        lambda m, _: set_chunk(m, sizes=torch.Size([99, 3, 3, 3])), "do not make it up"
    ),
    "twice": (lambda m, _: whole(m).chunks.append(whole(m).chunks[0]), "do not make it up"),
    "overlap": (lambda m, _: overlap(m), "do not make it up"),
    "no dtype": (lambda m, _: setattr(whole(m).properties, "dtype", torch.quint8), "quint8"),
    "nothing for a dtype": (lambda m, _: setattr(whole(m).properties, "dtype", None), "no dtype"),
    "negative side": (lambda m, _: set_chunk(m, offsets=torch.Size([-1, 0, 0, 0])), "no shape"),
    "no place": (lambda m, _: without_place(m), "where a part of"),
    "no shape": (lambda m, _: setattr(whole(m), "size", [16, 3, 3, 3]), "no shape"),
    "huge": (lambda m, _: setattr(whole(m), "size", torch.Size([1 << 62] * 3)), "do not make"),
    "no chunks": (lambda m, _: setattr(whole(m), "chunks", None), "does not say where"),
    "no keys": (lambda m, _: m.planner_data.update({"model.stem.weight": "x"}), "where .* belongs"),
    "odd kind": (
        lambda m, _: vars(m)["state_dict_metadata"].update({"model.stem.weight": 3}),
        "where a Tensor",
    ),
    "no dictionary": (lambda m, _: setattr(m, "storage_data", 4), "a dictionary"),
    "nothing": (lambda m, _: delattr(m, "storage_data"), "has no 'storage_data'"),
    "cut": (lambda _, f: (f / ".metadata").write_bytes(b"\x80\x04\x95"), "cannot be read"),
    "folder": (lambda _, f: folder_instead(f), "no file of a size"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_metadata_that_are_wrong_are_refused_by_name(single: Path, name: str) -> None:
    change, message = BAD[name]
    metadata = FileSystemReader(single).read_metadata()
    before = (single / ".metadata").read_bytes()
    change(metadata, single)
    if (single / ".metadata").is_file() and (single / ".metadata").read_bytes() == before:
        (single / ".metadata").write_bytes(pickle.dumps(metadata, protocol=4))

    with pytest.raises((CheckpointError, UnsafeError), match=message):
        read_distributed(single)


class Runs:
    """What runs a command when its pickle is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


def hostile(folder: Path, canary: Path) -> Iterator[bytes]:
    metadata = FileSystemReader(folder).read_metadata()
    metadata.planner_data["x"] = Runs(canary)
    yield pickle.dumps(metadata, protocol=4)
    yield pickle.dumps(metadata, protocol=2)
    yield pickle.dumps(Runs(canary), protocol=4)
    yield b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR."


def test_hostile_metadata_are_not_executed(single: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for data in list(hostile(single, canary)):
        (single / ".metadata").write_bytes(data)
        for use in (read_distributed, modswap.load, lambda f: read_tree(Subject(f))):
            with pytest.raises(ModswapError) as caught:
                use(single)
            assert caught.value.code in {3, 4}
    assert not canary.exists()


def test_bomb_of_memory_is_refused(single: Path) -> None:
    # 2 GiB of text, announced and not there
    (single / ".metadata").write_bytes(b"\x80\x04\x8d" + (2 << 30).to_bytes(8, "little") + b"x.")

    with pytest.raises(CheckpointError, match="cannot be read"):
        read_distributed(single)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data, extent: data[: extent.start] + b"\x09" + data[extent.start + 1 :], "damaged"),
        (lambda data, extent: data.replace(b"PK\x01\x02", b"PK\x09\x02"), "damaged"),
        (lambda data, extent: data.replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_v9"), "plain"),
        (lambda data, extent: data.replace(b"K\x10K\x03K\x03K\x03", b"K\x03K\x10K\x03K\x03"), "is"),
    ],
)
def test_damaged_parts_are_errors_where_they_are_read(
    single: Path, change: Callable[[bytes, Any], bytes], message: str
) -> None:
    chunk = read_distributed(single).items["model.stem.weight"].chunks[0]
    file = single / chunk.file
    archive = read_inner_archive(file, chunk.start, chunk.nbytes)
    data = file.read_bytes()
    part = data[chunk.start : chunk.start + chunk.nbytes]
    new = data[: chunk.start]
    pickled = archive.records["data.pkl"]
    where = type(pickled)(pickled.nbytes, None, pickled.start - chunk.start)
    changed = change(part, where)
    assert changed != part
    file.write_bytes(new + changed + data[chunk.start + chunk.nbytes :])

    with pytest.raises(CheckpointError, match=message):
        modswap.load(single, model=FACTORY)


def test_zip_inside_a_file_is_read_through_a_window(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    with (tmp_path / "x").open("rb") as stream:
        window = Window(stream, 2, 5)
        assert window.read() == b"23456"
        assert window.seek(-2, 2) == 3
        assert window.read(None) == b"56"
        assert window.tell() == 5
        assert window.seek(-9, 1) == 0


def trained(model: GatedNet, kind: str) -> torch.optim.Optimizer:
    """Return an optimizer of a form that training scripts use, after a step."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"params": matrices},
        {"params": vectors, "weight_decay": 0.0},
    ]
    makers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "adamw": lambda: torch.optim.AdamW(model.parameters()),
        "amsgrad": lambda: torch.optim.AdamW(model.parameters(), amsgrad=True),
        "groups": lambda: torch.optim.AdamW(groups),
        "names": lambda: torch.optim.AdamW(model.named_parameters()),
        "sgd": lambda: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    }
    optimizer = makers[kind]()
    model(torch.randn(2, 3, 28, 28)).sum().backward()
    optimizer.step()
    return optimizer


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", ["adamw", "amsgrad", "groups", "names", "sgd"])
def test_ordinary_optimizer_is_remapped_and_loaded(kind: str, tmp_path: Path) -> None:
    model = GatedNet()
    optimizer = trained(model, kind)
    state = {"model": model.state_dict(), "optim": optimizer.state_dict()}
    dcp.save(state, checkpoint_id=tmp_path / "ck", no_dist=True)

    outcome = swap(tmp_path / "ck", tmp_path / "out")

    assert any("'optim' was remapped by name" in note for note in outcome.notes)
    swapped = modswap.load(tmp_path / "out", FACTORY)
    fresh = trained(swapped, kind)  # type: ignore[arg-type] # of the same kind, with another gate
    target = {"model": swapped.state_dict(), "optim": fresh.state_dict()}
    dcp.load(target, checkpoint_id=tmp_path / "out", no_dist=True)
    fresh.load_state_dict(target["optim"])
    held = {name: fresh.state[p] for name, p in swapped.named_parameters()}
    for name, parameter in model.named_parameters():
        if not name.startswith(SWAPPED):
            for key, value in optimizer.state[parameter].items():
                assert torch.equal(held[name][key], value), (name, key)
    new = [held[name] for name in held if name.startswith(SWAPPED)]
    assert not any(value.any() for entries in new for value in entries.values())
    groups = target["optim"]["param_groups"]
    if kind == "names":
        assert groups[0]["param_names"] == [name for name, _ in swapped.named_parameters()]


def test_optimizer_of_unknown_parameters_is_left_out(tmp_path: Path) -> None:
    model = GatedNet()
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters[::-1], lr=0.1, momentum=0.9)
    model(torch.randn(2, 3, 28, 28)).sum().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optim": optimizer.state_dict()}
    dcp.save(state, checkpoint_id=tmp_path / "ck", no_dist=True)

    outcome = swap(tmp_path / "ck", tmp_path / "out")

    assert any("'optim' was left out" in note for note in outcome.notes)
    assert not any(name.startswith("optim") for name in read_distributed(tmp_path / "out").items)


NAMES = [name for name, _ in GatedNet().named_parameters()]


def named_state(form: str) -> dict[str, Any]:
    """Return an optimizer's state by name, in a form that some programs write."""
    torch.manual_seed(0)
    shapes = {name: tuple(p.shape) for name, p in GatedNet().named_parameters()}
    full = {f"module.{n}": s for n, s in shapes.items()} if form == "wrapped" else shapes
    state: dict[str, dict[str, Any]] = {
        name: {"step": 3, "momentum": torch.randn(shape)} for name, shape in full.items()
    }
    if form == "factored":
        state = {n: {"rows": torch.randn(s[:-1]), "step": 3} for n, s in full.items()}
    if form == "opaque":
        state = {n: {"momentum": torch.randn(s), "more": {"a"}} for n, s in full.items()}
    groups: Any = [{"params": list(full), "lr": 0.1}]
    if form == "whole":
        groups = (groups[0],)
    if form in {"unknown", "tensor"}:
        groups = [{"params": 3 if form == "unknown" else torch.zeros(3), "lr": 0.1}]
    return {"state": state, "param_groups": groups}


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("form", "note"),
    [
        ("plain", "start from zeros"),
        ("wrapped", "start from zeros"),
        ("factored", "new ones have none yet"),
        ("opaque", "new ones have none yet"),
        ("whole", "was left out"),
        ("unknown", "was left out"),
        ("tensor", "was left out"),
        ("damaged", "was left out"),
    ],
)
def test_optimizers_of_other_programs_are_kept_or_left_out(
    tmp_path: Path, form: str, note: str
) -> None:
    state = {"model": GatedNet().state_dict(), "optim": named_state(form)}
    dcp.save(state, checkpoint_id=tmp_path / "ck", no_dist=True)
    before = loaded(tmp_path / "ck")
    if form == "damaged":
        (chunk,) = read_distributed(tmp_path / "ck").items["optim.param_groups.0.params"].chunks
        data = bytearray((tmp_path / "ck" / chunk.file).read_bytes())
        data[chunk.start : chunk.start + chunk.nbytes] = bytes(chunk.nbytes)
        (tmp_path / "ck" / chunk.file).write_bytes(data)

    outcome = swap(tmp_path / "ck", tmp_path / "out")

    assert any(note in text for text in outcome.notes)
    after = loaded(tmp_path / "out")
    kept = [name for name in after if name.startswith("optim.state") and SWAPPED not in name]
    assert bool(kept) == (note != "was left out")
    for name in kept:
        old, new = before[name], after[name]
        assert torch.equal(old, new) if torch.is_tensor(old) else old == new
    fresh = [name for name in after if name.startswith("optim.state") and SWAPPED in name]
    # of a matrix' factors nothing follows; a vector's is a number
    vectors = form == "factored"
    assert bool(fresh) == (note == "start from zeros" or vectors)
    assert not vectors or all("bias" in name for name in fresh)
    for name in fresh:
        assert not (after[name].any() if torch.is_tensor(after[name]) else after[name])
    if note != "was left out":
        names = after["optim.param_groups.0.params"]
        begin = "module." if form == "wrapped" else ""
        assert {n for n in names if SWAPPED not in n} == {
            f"{begin}{n}" for n in NAMES if not n.startswith(SWAPPED)
        }
        assert f"{begin}space_attention.wo.weight" in names


def test_group_whose_parameters_all_go_leaves_new_ones_without_state(tmp_path: Path) -> None:
    gone = [name for name in NAMES if name.startswith(SWAPPED)]
    state = named_state("plain")
    state["state"] = {name: state["state"][name] for name in gone}
    saved = {"model": GatedNet().state_dict(), "optim": state}
    dcp.save(saved, checkpoint_id=tmp_path / "ck", no_dist=True)

    outcome = swap(tmp_path / "ck", tmp_path / "out")

    assert any("new ones have none yet" in note for note in outcome.notes)


def rewritten(folder: Path, change: Callable[[Metadata], object]) -> None:
    metadata = FileSystemReader(folder).read_metadata()
    change(metadata)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata, protocol=4))


def test_checkpoint_without_keys_is_read_by_its_names(tmp_path: Path) -> None:
    dcp.save(GatedNet().state_dict(), checkpoint_id=tmp_path / "ck", no_dist=True)
    rewritten(tmp_path / "ck", lambda metadata: setattr(metadata, "planner_data", None))

    swap(tmp_path / "ck", tmp_path / "out")

    assert FileSystemReader(tmp_path / "out").read_metadata().planner_data is None
    assert torch.equal(
        loaded(tmp_path / "out")["stem.weight"], loaded(tmp_path / "ck")["stem.weight"]
    )


def test_of_weights_over_a_limit_only_the_shapes_are_read(single: Path) -> None:
    weights = GatedNet().state_dict()
    nbytes = sum(tensor.nbytes for tensor in weights.values())

    for most, whole in ((nbytes - 1, False), (nbytes, True)):
        (slot,) = read(single, Policy(most=most)).slots
        shapes = {name: tensor.shape for name, tensor in slot.value.items()}
        assert shapes == {name: tensor.shape for name, tensor in weights.items()}
        assert bool(slot.value["stem.weight"].any()) is whole


def test_weights_beside_an_optimizer_are_the_model(tmp_path: Path) -> None:
    state = {"a.weight": torch.ones(2), "optimizer": {"state.a.weight.avg": torch.zeros(2)}}
    dcp.save(state, checkpoint_id=tmp_path / "ck", no_dist=True)

    (slot,) = read(tmp_path / "ck", Policy()).slots

    assert (slot.keys, [*slot.value]) == ((), ["a.weight"])


def test_tensor_without_elements_is_read(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("none", torch.zeros(0, 3))
    dcp.save(model.state_dict(), checkpoint_id=tmp_path / "ck", no_dist=True)
    (tmp_path / "nets.py").write_text(
        "import torch\nfrom torch import nn\n\ndef build():\n    net = nn.Linear(2, 2)\n"
        "    net.register_buffer('none', torch.zeros(0, 3))\n    return net\n"
    )

    found = modswap.load(tmp_path / "ck", model=f"{tmp_path}/nets.py:build")

    assert found.get_buffer("none").shape == (0, 3)
    assert torch.equal(found.get_parameter("weight"), model.weight)


def test_two_names_for_one_place_stay_that(single: Path, tmp_path: Path) -> None:
    def tie(metadata: Metadata) -> None:
        held = metadata.state_dict_metadata["model.stem.bias"]
        metadata.state_dict_metadata["ema.stem.bias"] = held
        metadata.planner_data["ema.stem.bias"] = ("ema", "stem.bias")
        index = next(i for i in metadata.storage_data if i.fqn == "model.stem.bias")
        twin = type(index)("ema.stem.bias", index.offset, index.index)
        metadata.storage_data[twin] = metadata.storage_data[index]

    rewritten(single, tie)
    swap(single, tmp_path / "out")

    after = loaded(tmp_path / "out")
    assert torch.equal(after["ema.stem.bias"], after["model.stem.bias"])
    items = read_distributed(tmp_path / "out").items
    assert items["ema.stem.bias"].chunks[0].start == items["model.stem.bias"].chunks[0].start


def test_parts_that_overlap_are_copied_with_their_file(single: Path, tmp_path: Path) -> None:
    (single / "__7_0.distcp").write_bytes(bytes(range(100)))

    def cross(metadata: Metadata) -> None:
        for name, start in (("epoch", 10), ("names", 20)):
            place = info(metadata, name)
            for field, value in (("relative_path", "__7_0.distcp"), ("offset", start)):
                object.__setattr__(place, field, value)
            place.length = 50

    rewritten(single, cross)
    swap(single, tmp_path / "out")

    assert (tmp_path / "out" / "__7_0.distcp").read_bytes() == bytes(range(100))
    items = read_distributed(tmp_path / "out").items
    assert [items[name].chunks[0].start for name in ("epoch", "names")] == [10, 20]


def test_swap_that_adds_no_tensor_writes_no_further_file(single: Path, tmp_path: Path) -> None:
    recipe = RECIPE.replace("BiLevelRoutingAttention", "torch.nn:Identity")
    recipe = recipe.replace("\n    args: {num_heads: 4, n_win: 7}", "")

    assert replace_file(job(single, tmp_path / "out", recipe)).error is None

    assert not list((tmp_path / "out").glob("__modswap*"))


def test_extra_state_of_a_new_module_is_written(single: Path, tmp_path: Path) -> None:
    recipe = RECIPE.replace("BiLevelRoutingAttention", "tests.models:Counting")
    recipe = recipe.replace("\n    args: {num_heads: 4, n_win: 7}", "")

    assert replace_file(job(single, tmp_path / "out", recipe)).error is None

    assert loaded(tmp_path / "out")["model.space_attention._extra_state"] == {"seen": 0}


def test_folder_is_never_written_from_nothing(tmp_path: Path) -> None:
    out = tmp_path / "x"

    with pytest.raises(CheckpointError, match="only made from another"):
        write(Container(DISTRIBUTED.name, NO_FILE, {}, ()), [], out, records=Records(), force=False)


def test_objects_that_are_no_zip_are_copied(single: Path, tmp_path: Path) -> None:
    chunk = read_distributed(single).items["epoch"].chunks[0]
    file = single / chunk.file
    data = bytearray(file.read_bytes())
    data[chunk.start : chunk.start + chunk.nbytes] = (
        bytes(range(256)) * 5 + bytes(chunk.nbytes - 1280)
        if chunk.nbytes >= 1280
        else bytes(chunk.nbytes)
    )
    file.write_bytes(data)

    swap(single, tmp_path / "out")

    found = read_distributed(tmp_path / "out").items["epoch"].chunks[0]
    copied = (tmp_path / "out" / found.file).read_bytes()[found.start : found.start + found.nbytes]
    assert copied == bytes(data[chunk.start : chunk.start + chunk.nbytes])


def test_model_in_no_known_place_is_an_error(tmp_path: Path) -> None:
    state = {"things": {"a": {"weight": torch.ones(3)}}}
    dcp.save(state, checkpoint_id=tmp_path / "ck", no_dist=True)

    with pytest.raises(CheckpointError, match="no model under its keys"):
        modswap.load(tmp_path / "ck", model=FACTORY)


def test_names_that_lie_in_one_another_do_not_hide_the_model(single: Path) -> None:
    def clash(metadata: Metadata) -> None:
        metadata.planner_data["epoch"] = ("names_of", "x")
        metadata.planner_data["empty"] = ("names_of", "x", "y")

    rewritten(single, clash)

    assert isinstance(modswap.load(single, model=FACTORY), GatedNet)


def test_tensor_in_very_many_parts_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "ck"
    dcp.save({"model": {"emb.weight": torch.zeros(600, 2)}}, checkpoint_id=folder, no_dist=True)
    metadata = FileSystemReader(folder).read_metadata()
    held = metadata.state_dict_metadata["model.emb.weight"]
    assert isinstance(held, TensorStorageMetadata)
    (index,) = metadata.storage_data
    place = metadata.storage_data.pop(index)
    first = held.chunks[0]
    held.chunks = [type(first)(torch.Size([row, 0]), torch.Size([1, 2])) for row in range(600)]
    for row in range(600):
        twin = type(index)(index.fqn, torch.Size([row, 0]), row)
        metadata.storage_data[twin] = place
    (folder / ".metadata").write_bytes(pickle.dumps(metadata, protocol=4))

    assert len(read_distributed(folder).items["model.emb.weight"].chunks) == 600
    held.chunks[5] = held.chunks[6]
    (folder / ".metadata").write_bytes(pickle.dumps(metadata, protocol=4))
    with pytest.raises(CheckpointError, match="do not make it up"):
        read_distributed(folder)


def test_unreadable_metadata_are_reported(single: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: Path, flags: int) -> int:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(os, "open", refuse)  # tests may run as root, who may read all
    with pytest.raises(CheckpointError, match="Permission denied"):
        read_distributed(single)


@pytest.mark.slow
@pytest.mark.ci
def test_checkpoint_is_swapped_without_its_models_code(saved: Path, tmp_path: Path) -> None:
    rules = "{match: space_attention, with: SEBlock, layout: NCHW, args: {channel: 16}}"
    asked = parse_recipe(f"version: 1\nreplace: [{rules}]\n", "swap.yaml", ".")

    outcome = replace_unbuilt(Job(Subject(saved / "nested"), asked, tmp_path / "out"))

    assert outcome.error is None
    model = modswap.load(tmp_path / "out", model=FACTORY)
    assert torch.equal(
        model.state_dict()["stem.weight"], loaded(saved / "nested")["app.model.stem.weight"]
    )


def test_checkpoint_without_a_model_is_reported_without_a_pass(tmp_path: Path) -> None:
    dcp.save({"things": {"a": torch.ones(3)}}, checkpoint_id=tmp_path / "ck", no_dist=True)
    asked = parse_recipe("version: 1\nreplace: [{match: a, with: SEBlock}]\n", "swap.yaml", ".")

    with pytest.raises(CheckpointError, match="no model or weights"):
        replace_unbuilt(Job(Subject(tmp_path / "ck"), asked, None))


def test_names_that_are_too_long_are_refused(single: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modswap.core.budget.MAX_NAME_CHARACTERS", 3)

    with pytest.raises(CheckpointError, match="a name in it has"):
        outline(single)


def test_metadata_that_the_system_cannot_read_are_refused(
    single: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("modswap.io.formats.distributed.metadata._parsed", fail)

    with pytest.raises(CheckpointError, match="cannot be read: Input/output error"):
        outline(single)
