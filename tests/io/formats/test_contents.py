"""Everything in checkpoints of each format, read as data.

Covers: contents, outline, torch.contents, safetensors.contents, folder.contents,
distributed.contents, exported.contents.
"""

import argparse
import json
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint
from safetensors.torch import save_file
from torch import nn

from modswap.core.errors import CheckpointError
from modswap.io.formats import FORMATS
from modswap.io.formats.contents import Contents, HeldTensor, row_major, span
from modswap.io.formats.distributed import contents as distributed
from modswap.io.formats.distributed.metadata import Chunk, read_distributed
from modswap.io.formats.exported import contents as exported
from modswap.io.formats.outline import contents
from modswap.io.formats.torch.contents import _layout as layout
from modswap.io.formats.torch.contents import _part as part
from modswap.io.pickled.data import Instance, Name, Storage, UnreadableError
from modswap.io.raw.byte_range import in_memory

dcp: Any = torch.distributed.checkpoint
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


class Net(nn.Module):
    """A small net with a buffer that is not persistent, and a frozen parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("grid", torch.zeros(2), persistent=False)
        self.norm.bias.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(self.stem(x))
        return y + self.get_buffer("grid").sum()


NAMES = {"stem.weight", "stem.bias", *(f"norm.{name}" for name in (
    "weight", "bias", "running_mean", "running_var", "num_batches_tracked"))}  # fmt: skip


@pytest.fixture(scope="module")
def net() -> Net:
    return Net().eval()


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Contents]:
    def save(payload: Any, name: str = "net.pt", **options: Any) -> Contents:
        torch.save(payload, tmp_path / name, **options)
        return contents(tmp_path / name)

    return save


def test_module_has_classes_settings_and_buffers(net: Net, saved: Callable[..., Contents]) -> None:
    found = saved(nn.Sequential(net.stem, net.norm))

    assert found.modules["0"] == "torch.nn.modules.conv.Conv2d"
    assert found.entries["0.kernel_size"].text == "(3, 3)"
    assert found.entries["1.bias.requires_grad"].text == "False"
    assert found.tensors["0.weight"].facts.words == "float32 (4, 3, 3, 3)"
    assert not any("hooks" in name for name in found.entries)


def test_buffers_that_are_not_persistent_are_marked(
    net: Net, saved: Callable[..., Contents]
) -> None:
    found = saved({"model": net, "epoch": 3})

    assert found.tensors["grid"].optional
    assert not found.tensors["stem.weight"].optional
    assert found.place == "under 'model'"
    assert found.entries["epoch"].text == "3"


def test_checkpoint_is_read_below_its_keys_and_the_state_by_parameters(
    net: Net, saved: Callable[..., Contents]
) -> None:
    optimizer = torch.optim.Adam(
        [{"params": net.stem.parameters()}, {"params": net.norm.parameters()}]
    )
    net.stem.weight.grad = torch.ones_like(net.stem.weight)
    optimizer.step()
    weights = {f"module.{name}": value for name, value in net.state_dict().items()}
    found = saved(
        {
            "args": argparse.Namespace(lr=0.1, shape=torch.Size((2, 3))),
            "state_dict": weights,
            "optimizer": optimizer.state_dict(),
            "ema": {"stem.weight": torch.ones(2)},
            "history": [{"loss": 1.0}, {"loss": 0.5}],
            "empty": OrderedDict(),
            "ordered": OrderedDict(a=1),
            "groups": {"state": {}, "param_groups": [{"params": [0, 0]}]},
        }
    )

    assert {n for n, t in found.tensors.items() if t.facts.kind == "weights"} == NAMES
    assert found.place == "under 'state_dict', every name after 'module.'"
    assert found.tensors["ema:stem.weight"].facts.kind == "other"
    assert found.tensors["optimizer:state.0.exp_avg"].facts.kind == "optimizer"
    assert found.entries["args"].text == "argparse.Namespace()"
    assert found.entries["args:lr"].text == "0.1"
    assert found.entries["history:1.loss"].text == "0.5"
    assert found.entries["empty"].text == "{}"
    assert found.entries["ordered:a"].text == "1"
    assert "groups:state.0" not in found.numbered
    named = found.by_parameter
    assert "optimizer:state.stem.weight.exp_avg" in named.tensors
    assert named.entries["optimizer:param_groups.1.params"].text == "norm.weight, norm.bias"
    assert {n for n, t in named.tensors.items() if t.facts.kind == "weights"} == NAMES


def test_versions_of_layers_stand_beside_a_state_dict(
    net: Net, saved: Callable[..., Contents]
) -> None:
    found = saved(net.state_dict())

    assert found.entries["norm.<version>"].text == "2"
    assert found.entries["norm.<version>"].kind == "version"
    assert found.place == ""


def test_views_strides_and_ties_are_known(saved: Callable[..., Contents]) -> None:
    whole = torch.arange(24.0).view(4, 6)
    part, turned = whole[1:3], whole.t()
    found = saved(
        {"whole": whole, "part": part, "turned": turned, "tie": whole, "none": torch.empty(0, 3),
         "wide": torch.ones(1).expand(5)}
    ).tensors  # fmt: skip

    assert found["part"].extents[0].start - found["whole"].extents[0].start == 24
    assert found["turned"].strides == (1, 6)
    assert found["turned"].dense
    assert not found["wide"].dense
    assert found["tie"].identity == found["whole"].identity != found["part"].identity
    assert (found["none"].extents, found["none"].dense) == ((), True)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_sparse_and_quantized_tensors_are_read_by_their_parts(
    saved: Callable[..., Contents],
) -> None:
    found = saved(
        {
            "sparse": torch.eye(3).to_sparse(),
            "quantized": torch.quantize_per_tensor(torch.ones(4), 0.5, 1, torch.qint8),
        }
    )

    assert sum(t.facts.dtype == "int64" for t in found.tensors.values()) == 1
    (name,) = (n for n, t in found.tensors.items() if t.facts.dtype == "qint8")
    assert any(
        entry.text == "0.5" or "0.5" in entry.text
        for n, entry in found.entries.items()
        if name in n
    )


class Odd(nn.Module):
    """A module that keeps tensors, modules and objects where torch does not look for them."""

    def __init__(self) -> None:
        super().__init__()
        self.child = nn.Linear(2, 2)
        self.again = self.child
        self.listed = [self.child.weight, torch.ones(3), self.child, nn.ReLU(), [1, 2]]
        self.dtype = torch.float32
        self.box = argparse.Namespace(a=1)
        self.boxes = [self.box, self.box, {1, 2}]
        self.names = ["x", torch.float16]


def test_attributes_of_modules_are_read_with_all_that_they_hold(
    saved: Callable[..., Contents],
) -> None:
    found = saved(Odd())

    texts = {name: entry.text for name, entry in found.entries.items()}
    assert texts["listed:0"] == "tensor child.weight"
    assert found.tensors["listed:1"].facts.shape == (3,)
    assert texts["listed:2"] == "module child"
    assert texts["listed:3"] == "torch.nn.modules.activation.ReLU"
    assert texts["listed:3.inplace"] == "False"
    assert texts["listed:4"] == "[1, 2]"
    assert texts["dtype"] == "torch.float32"
    assert texts["names"] == "['x', 'torch.float16']"
    assert texts["boxes:0"] == texts["boxes:1"] == "object box"
    assert found.modules["again"] == found.modules["child"]


def test_parameter_with_attributes_and_a_tensor_of_a_class_show_them(
    saved: Callable[..., Contents],
) -> None:
    weight = nn.Parameter(torch.ones(2))
    weight.note = "mine"  # type: ignore[attr-defined] # as users set it
    module = nn.Module()
    module.weight = weight
    found = saved(module)

    assert any("mine" in entry.text for entry in found.entries.values())


def test_tensor_with_attributes_shows_its_class_and_them(saved: Callable[..., Contents]) -> None:
    marked = torch.ones(2)
    marked.note = "mine"  # type: ignore[attr-defined] # as users set it

    found = saved({"w": marked})

    assert found.tensors["w"].facts.words == "float32 (2,)"
    assert found.entries["w.<class>"].text == "torch.Tensor"
    assert any("mine" in entry.text for entry in found.entries.values())


def test_storages_are_tensors_of_bytes(saved: Callable[..., Contents]) -> None:
    found = saved({"model": {"w": torch.ones(2)}, "raw": torch.ones(2).untyped_storage()})

    assert found.tensors["raw"].facts.words == "uint8 (8,)"


def test_module_without_operations_in_the_graph_has_no_class() -> None:
    assert list(exported._modules([{"metadata": {}}])) == []


def test_payload_without_a_model_is_read_all_the_same(saved: Callable[..., Contents]) -> None:
    mixed = saved({"w": torch.ones(2), "epoch": 1, "optim": {"m": torch.ones(1)}})
    assert mixed.tensors["optim:m"].facts.kind == "optimizer"
    assert (mixed.tensors["w"].facts.kind, mixed.entries["epoch"].text) == ("weights", "1")
    found = saved([torch.ones(2), {"a": (1, 2)}])

    assert found.tensors["payload:0"].facts.shape == (2,)
    assert found.entries["payload:1.a"].text == "(1, 2)"


def test_old_file_is_read_as_a_new_one(net: Net, saved: Callable[..., Contents]) -> None:
    found = saved(net.state_dict(), _use_new_zipfile_serialization=False)

    assert found.format == "torch (legacy)"
    assert found.tensors.keys() == NAMES


def test_tensor_beyond_its_storage_is_refused(
    tmp_path: Path, net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"w": torch.ones(4)}, tmp_path / "net.pt")
    module = "modswap.io.formats.torch.contents"
    monkeypatch.setattr(f"{module}._layout", lambda _: ((8,), (2,)))

    with pytest.raises(CheckpointError, match="reaches beyond its storage"):
        contents(tmp_path / "net.pt")
    with pytest.raises(UnreadableError, match="reaches beyond its storage"):
        part(in_memory(b"12345678"), Name("a", "b"), 1, 4)
    monkeypatch.setattr(f"{module}._layout", lambda _: ((2, 2), (1,)))
    with pytest.raises(CheckpointError, match="strides that do not fit its sizes"):
        contents(tmp_path / "net.pt")
    monkeypatch.setattr(f"{module}._layout", lambda _: None)
    with pytest.raises(CheckpointError, match="has no plain size"):
        contents(tmp_path / "net.pt")


def test_tensor_without_plain_strides_has_no_layout() -> None:
    storage = Storage(Name("torch", "FloatStorage"), "0", 2)

    assert layout(Instance("called", Name("torch", "x"), (storage, 0, (2,), None))) is None


def test_records_beside_the_pickle_are_compared(tmp_path: Path, net: Net) -> None:
    torch.save(net.state_dict(), tmp_path / "net.pt")
    with zipfile.ZipFile(tmp_path / "net.pt", "a") as archive:
        archive.writestr("net/modswap/recipe.yaml", "version: 1")
        archive.writestr("net/notes.txt", "mine")

    found = contents(tmp_path / "net.pt").entries
    assert found["modswap.recipe"].text == "version: 1"
    assert found["record notes.txt"].text.startswith("4 bytes, sha256 ")


def test_safetensors_have_ties_and_strings(tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    save_file(
        {"module.a": torch.ones(2), "module.none": torch.empty(0)},
        file,
        {"format": "pt", "author": "me", "module.b": "module.a"},
    )

    found = contents(file)

    assert found.tensors["b"].identity == found.tensors["a"].identity
    assert found.tensors["none"].identity is None
    assert found.place == "every name after 'module.'"
    assert {name: entry.kind for name, entry in found.entries.items()} == {
        "author": "metadata", "format": "container",
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, net: Net) -> Path:
    found = tmp_path / "model"
    found.mkdir()
    weights = net.state_dict()
    first = {name: weights[name] for name in ("stem.weight", "stem.bias")}
    rest = {name: value for name, value in weights.items() if name not in first}
    save_file(first, found / "a.safetensors", {"format": "pt"})
    torch.save(rest, found / "b.bin")
    places = {**dict.fromkeys(first, "a.safetensors"), **dict.fromkeys(rest, "b.bin")}
    index = {"metadata": {}, "weight_map": places}
    (found / "model.safetensors.index.json").write_text(json.dumps(index))
    (found / "config.json").write_text('{"hidden_size": 8, "layers": [1, 2]}')
    (found / "odd.json").write_text("{")
    (found / "vocab.txt").write_text("a b")
    return found


def test_folder_has_the_tensors_of_its_shards_and_its_other_files(folder: Path) -> None:
    found = contents(folder)

    assert found.tensors.keys() == NAMES
    assert found.entries["config.json:hidden_size"].text == "8"
    assert found.entries["config.json:layers"].text == "[1, 2]"
    assert found.entries["file vocab.txt"].text.startswith("3 bytes")
    assert found.entries["file odd.json"].kind == "container"


def test_folder_whose_shards_share_a_name_is_refused(folder: Path) -> None:
    torch.save({"stem.bias": torch.ones(4)}, folder / "b.bin")

    with pytest.raises(CheckpointError, match=r"two of its files hold 'stem\.bias'"):
        contents(folder)


def test_folder_links_are_read_once(folder: Path) -> None:
    (folder / "again.txt").symlink_to("vocab.txt")

    assert "file again.txt" not in contents(folder).entries


@pytest.fixture
def checkpoint(tmp_path: Path, net: Net) -> Path:
    found = tmp_path / "dcp"
    state = {
        "model": net.state_dict(),
        "optimizer": {"state": {"stem.weight": {"exp_avg": torch.ones(4)}}, "lr": 0.1},
        "steps": 7,
        "extra": torch.zeros(0, 2),
        "box": argparse.Namespace(a=1),
    }
    dcp.save(state, checkpoint_id=found)
    return found


def test_distributed_checkpoint_is_read_item_by_item(checkpoint: Path) -> None:
    found = contents(checkpoint)

    assert {n for n, t in found.tensors.items() if t.facts.kind == "weights"} == NAMES
    assert found.place == "under 'model'"
    assert found.tensors["optimizer:state.stem.weight.exp_avg"].facts.kind == "optimizer"
    assert found.tensors["extra"].facts.kind == "other"
    assert found.entries["steps"].text == "7"
    assert found.entries["optimizer:lr"].kind == "optimizer"
    assert "sha256" in found.entries["box"].text


def test_parts_that_are_not_whole_rows_are_tiles(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = read_distributed(checkpoint)
    item = source.items["model.stem.weight"]
    extent = distributed._extent(source, item, item.chunks[0])
    halves = [
        Chunk((0, at, 0, 0), (4, size, 3, 3), "", 0, 0, item.chunks[0].index)
        for at, size in ((1, 2), (0, 1))
    ]
    monkeypatch.setattr(distributed, "_extent", lambda *_: extent)
    split = type(item)(item.name, item.keys, item.dtype, item.shape, tuple(halves))

    held = distributed._held(source, split, "weights")

    assert [tile.offsets for tile in held.tiles] == [(0, 0, 0, 0), (0, 1, 0, 0)]
    assert not held.dense
    assert held.nbytes == 2 * extent.nbytes


def test_damaged_part_is_named(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "row_major", lambda *_: False)
    with pytest.raises(CheckpointError, match="elements are not one behind the other"):
        contents(checkpoint)
    monkeypatch.setattr(distributed, "read_pickle", lambda _: (None, ()))
    with pytest.raises(CheckpointError, match="it holds no plain tensor"):
        contents(checkpoint)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, net: Net) -> Path:
    file = tmp_path_factory.mktemp("exported") / "net.pt2"
    program = torch.export.export(net, (torch.ones(1, 3, 8, 8),))
    torch.export.save(program, file, extra_files={"modswap/recipe.yaml": "version: 1"})
    return file


def test_exported_archive_is_read_without_running_it(archive: Path) -> None:
    found = contents(archive)

    assert found.tensors.keys() == NAMES | {"grid"}
    assert found.tensors["grid"].optional
    assert found.modules["stem"] == "torch.nn.modules.conv.Conv2d"
    assert not found.complete
    assert found.entries["modswap.recipe"].text == "version: 1"
    assert " operations, sha256 " in found.entries["graph"].text


def rewritten(archive: Path, out: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """Write an archive again with other records in it."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return out


def test_exported_archive_of_another_form_is_refused(archive: Path, tmp_path: Path) -> None:
    def without_graph(name: str, data: bytes) -> bytes:
        return b"{}" if name.endswith("models/model.json") else data

    def short(name: str, data: bytes) -> bytes:
        return data[:4] if "/weights/weight_" in name else data

    for change, words in ((without_graph, "form that is known"), (short, "beyond its record")):
        with pytest.raises(CheckpointError, match=words):
            contents(rewritten(archive, tmp_path / "odd.pt2", change))


def test_weights_that_the_archive_pickled_are_bytes(archive: Path, tmp_path: Path) -> None:
    def pickled(name: str, data: bytes) -> bytes:
        old, new = b'"use_pickle": false', b'"use_pickle": true'
        return data.replace(old, new) if name.endswith("_config.json") else data

    found = contents(rewritten(archive, tmp_path / "odd.pt2", pickled)).tensors

    assert found["stem.bias"].facts.words == "pickled (16,)"


def test_tensor_without_elements_has_no_bytes_in_an_archive() -> None:
    one, zero = {"as_int": 1}, {"as_int": 0}
    meta = {"dtype": 7, "sizes": [zero], "strides": [one], "storage_offset": zero}

    held = exported._held({"tensor_meta": meta}, in_memory(b""), optional=False)

    assert (held.facts.words, held.extents, held.identity) == ("float32 (0,)", (), None)
    with pytest.raises(ValueError, match="a size below 0"):
        exported._sides([{"as_int": -1}])


def test_huge_json_is_not_read(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported, "_MAX_JSON_BYTES", 10)
    with pytest.raises(CheckpointError, match="its JSON has"):
        contents(archive)


def test_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY" + struct.pack("<Q", 1))

    with pytest.raises(CheckpointError, match="NumPy"):
        contents(tmp_path / "x.npy")


def test_format_that_is_never_read_as_data_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "net.pt")
    row = replace(FORMATS[0], contents=None)
    monkeypatch.setattr("modswap.io.formats.outline.recognised", lambda _: row)

    with pytest.raises(CheckpointError, match=r"net\.pt: it is "):
        contents(tmp_path / "net.pt")


def test_pickle_that_cannot_be_read_as_data_is_an_error_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "net.pt")

    def refuse(_: object) -> None:
        raise UnreadableError("it is odd")

    monkeypatch.setattr("modswap.io.formats.torch.contents.open_torch", refuse)
    with pytest.raises(CheckpointError, match="cannot be read as data: it is odd"):
        contents(tmp_path / "net.pt")


def test_order_of_rows_follows_from_strides() -> None:
    assert row_major((2, 3), (3, 1))
    assert row_major((2, 1), (1, 7))
    assert not row_major((2, 3), (1, 2))
    assert span((2, 3), (10, 2)) == 15
    assert HeldTensor(contents_facts(), ()).nbytes == 0


def contents_facts() -> Any:
    from modswap.core.kept.difference import Facts

    return Facts("float32", (0,))


@pytest.mark.parametrize("strides", [(1,), (3, 1, 1), (3, -1), (3, "1")])
def test_strides_that_fit_no_sizes_are_refused(strides: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="strides that do not fit its sizes"):
        row_major((2, 3), strides)
