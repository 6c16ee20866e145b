"""What is read, what is refused, and that nothing is executed.

Covers: container, survey.
"""

import contextlib
import io
import os
import pickle
import struct
import sys
import tarfile
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.package.package_exporter import PackageExporter

from modswap.core.asked.job import Policy
from modswap.core.errors import CheckpointError, UnsafeError
from modswap.io.formats.container import Container, named_tensors
from modswap.io.formats.reading import read, tensors
from tests.io.corpus.raw import item, pickled
from tests.io.corpus.raw import tensor as tensor_code
from tests.io.corpus.tensor_kinds import HOSTILE
from tests.models import GatedNet

ALLOW = Policy(allow=("tests.models.*",))
PLAIN = Policy()


def saved(value: Any, folder: Path, name: str = "net.pt") -> Path:
    torch.save(value, folder / name)
    return folder / name


def keys_of(container: Container) -> list[tuple[tuple[str, ...], str, str]]:
    return [(slot.keys, slot.kind, slot.prefix) for slot in container.slots]


WEIGHTS = {"a.weight": torch.ones(2), "b.bias": torch.zeros(3)}


@pytest.mark.parametrize(
    ("payload", "slots"),
    [
        (WEIGHTS, [((), "weights", "")]),
        (OrderedDict(WEIGHTS), [((), "weights", "")]),
        ({"state_dict": WEIGHTS, "epoch": 3}, [(("state_dict",), "weights", "")]),
        ({"model_state_dict": WEIGHTS}, [(("model_state_dict",), "weights", "")]),
        ({"model": nn.Linear(2, 2)}, [(("model",), "module", "")]),
        ({"model": None, "ema": nn.Linear(2, 2)}, [(("ema",), "module", "")]),
        ({"model": {"state_dict": WEIGHTS}}, [(("model", "state_dict"), "weights", "")]),
        (
            {"model": WEIGHTS, "ema": dict(WEIGHTS)},
            [(("model",), "weights", ""), (("ema",), "weights", "")],
        ),
        ({"model": WEIGHTS, "ema": {"other": torch.ones(1)}}, [(("model",), "weights", "")]),
        ({"model": WEIGHTS, "ema": nn.Linear(2, 2)}, [(("model",), "weights", "")]),
        (
            {"model": nn.Linear(2, 2), "ema": nn.Linear(2, 2)},
            [(("model",), "module", ""), (("ema",), "module", "")],
        ),
        ({"model": nn.Linear(2, 2), "ema": nn.Bilinear(2, 2, 2)}, [(("model",), "module", "")]),
        ({f"module.{n}": t for n, t in WEIGHTS.items()}, [((), "weights", "module.")]),
        (
            {f"module._orig_mod.{n}": t for n, t in WEIGHTS.items()},
            [((), "weights", "module._orig_mod.")],
        ),
        (
            {"module.a": torch.ones(1), "b": torch.ones(1)},
            [((), "weights", "")],
        ),
        ({**WEIGHTS, "a._extra_state": {"scale": 3}}, [((), "weights", "")]),
        (nn.DataParallel(nn.Linear(2, 2)), [((), "module", "module.")]),
    ],
)
def test_model_is_found_where_it_sits(payload: Any, slots: Any, tmp_path: Path) -> None:
    assert keys_of(read(saved(payload, tmp_path), PLAIN)) == slots


def test_prefix_is_taken_off_the_names(tmp_path: Path) -> None:
    file = saved({f"module.{n}": t for n, t in WEIGHTS.items()}, tmp_path)

    assert list(read(file, PLAIN).slots[0].value) == list(WEIGHTS)


def test_every_tensor_has_a_name(tmp_path: Path) -> None:
    payload = {
        "model": nn.BatchNorm1d(2),
        "optimizer": {"state": {0: {"step": torch.ones(1)}}, "groups": [{"lr": 1}]},
        "best": [torch.ones(1), (torch.zeros(1),)],
    }

    names = set(tensors(read(saved(payload, tmp_path), PLAIN)))

    assert names == {
        "model.weight",
        "model.bias",
        "model.running_mean",
        "model.running_var",
        "model.num_batches_tracked",
        "optimizer.state.0.step",
        "best.0",
        "best.1.0",
    }


def test_two_keys_that_give_one_name_both_count(tmp_path: Path) -> None:
    payload = {"model": WEIGHTS, "state": {0: torch.ones(1), "0": torch.zeros(2)}}

    found = tensors(read(saved(payload, tmp_path), PLAIN))

    assert found["state.0"].shape == (1,)
    assert found["state.0#2"].shape == (2,)


def test_another_model_in_the_file_is_reported(tmp_path: Path) -> None:
    payload = {"model": WEIGHTS, "ema": nn.Linear(2, 2), "epoch": 3}

    notes = read(saved(payload, tmp_path), PLAIN).notes

    assert notes == ("'ema' holds another model than 'model' and is left as it is",)


def test_format_is_recognised_by_content(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "net.pt")

    assert read(tmp_path / "net.pt", PLAIN).format == "safetensors"


def test_metadata_that_names_a_tensor_is_no_tie(tmp_path: Path) -> None:
    save_file({"pt": torch.ones(2)}, tmp_path / "a.safetensors", metadata={"format": "pt"})

    container = read(tmp_path / "a.safetensors", PLAIN)

    assert list(container.payload) == ["pt"]
    assert container.metadata == {"format": "pt"}


def test_reading_leaves_the_file_alone_when_a_tensor_changes(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "a.safetensors")
    for file in (saved(WEIGHTS, tmp_path), tmp_path / "a.safetensors"):
        before = file.read_bytes()
        for tensor in tensors(read(file, PLAIN)).values():
            tensor.fill_(7)
        assert file.read_bytes() == before


def test_legacy_state_dict_is_read(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "net.pt", _use_new_zipfile_serialization=False)

    container = read(tmp_path / "net.pt", PLAIN)

    assert container.format == "torch (legacy)"
    assert list(container.slots[0].value) == list(WEIGHTS)


def test_legacy_module_is_explained(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "net.pt", _use_new_zipfile_serialization=False)

    with pytest.raises(CheckpointError, match=r"whole module in the format of before torch 1\.6"):
        read(tmp_path / "net.pt", PLAIN)


def test_ties_of_safetensors_come_back(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", metadata={"b": "a", "by": "me"})

    container = read(tmp_path / "a.safetensors", PLAIN)

    weights = container.slots[0].value
    assert weights["a"] is weights["b"]
    assert container.metadata == {"by": "me"}


# -- what a file may build


def test_whole_module_of_torch_layers_needs_no_permission(tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.TransformerEncoderLayer(4, 2), nn.LSTM(4, 4), nn.ModuleDict()
    )

    assert isinstance(read(saved(model, tmp_path), PLAIN).slots[0].value, nn.Sequential)


def test_class_that_is_not_allowed_is_named_with_its_option(tmp_path: Path) -> None:
    file = saved({"model": GatedNet(), "head": nn.Sequential(GatedNet())}, tmp_path)

    with pytest.raises(UnsafeError) as raised:
        read(file, PLAIN)

    assert "tests.models.GatedNet" in raised.value.what
    assert "--allow tests.models.GatedNet" in raised.value.fix
    assert raised.value.code == 4


@pytest.mark.parametrize("pattern", ["tests.models.GatedNet", "tests.models.*", "tests.*"])
def test_allowed_class_is_built(pattern: str, tmp_path: Path) -> None:
    container = read(saved(GatedNet(), tmp_path), Policy(allow=(pattern,)))

    assert isinstance(container.slots[0].value, GatedNet)


def main_net(folder: Path) -> Path:
    """Write a module whose class was defined in a script."""
    cls = type("Net", (nn.Module,), {"__module__": "__main__"})
    main = sys.modules["__main__"]
    main.Net = cls  # type: ignore[attr-defined] # as a script would
    try:
        return saved(cls(), folder)
    finally:
        del main.Net


def test_class_of_a_script_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UnsafeError, match=r"add --alias __main__\.Net=yourmodule\.Net"):
        read(main_net(tmp_path), PLAIN)


def test_class_that_moved_is_found_by_its_alias(tmp_path: Path) -> None:
    policy = Policy(aliases=(("__main__.Net", "tests.models.Keep"),))

    container = read(main_net(tmp_path), policy)

    assert type(container.slots[0].value).__name__ == "Keep"


def test_allowed_class_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UnsafeError, match=r"'__main__.Net' is allowed but cannot be found"):
        read(main_net(tmp_path), Policy(allow=("__main__.Net",)))


def test_alias_that_is_no_dotted_name_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UnsafeError, match="a dotted name such as package"):
        read(main_net(tmp_path), Policy(aliases=(("__main__.Net", "Net"),)))


def test_allowed_package_that_is_not_installed_is_reported(tmp_path: Path) -> None:
    policy = Policy(aliases=(("__main__.Net", "nosuchpackage.nets.Net"),))

    with pytest.raises(UnsafeError, match="cannot be found: no module named 'nosuchpackage'"):
        read(main_net(tmp_path), policy)


def test_payload_that_holds_itself_ends() -> None:
    payload: dict[str, Any] = {"a": torch.ones(1)}
    payload["again"] = payload

    assert next(iter(dict(named_tensors(payload)))) == "a"


def test_hostile_legacy_file_is_refused_as_unsafe(tmp_path: Path) -> None:
    payload = {"model": WEIGHTS, "x": Hostile(os.system, "true")}
    torch.save(payload, tmp_path / "net.pt", _use_new_zipfile_serialization=False)

    with pytest.raises(UnsafeError, match=r"posix\.system would have to be called"):
        read(tmp_path / "net.pt", PLAIN)


def test_file_does_not_get_a_module_imported(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "canary_module.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = types.ModuleType("canary_module")
    module.Net = type("Net", (nn.Module,), {"__module__": "canary_module"})  # type: ignore[attr-defined] # set at run time
    sys.modules["canary_module"] = module
    file = saved(module.Net(), tmp_path)
    del sys.modules["canary_module"]

    with pytest.raises(UnsafeError, match=r"canary_module\.Net"):
        read(file, PLAIN)


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.reduced = (function, args)

    def __reduce__(self) -> Any:
        return self.reduced


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("policy", [PLAIN, Policy(allow=("posix.system", "os.system"))])
def test_hostile_file_runs_nothing(legacy: bool, policy: Policy, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    payload = {"model": WEIGHTS, "x": Hostile(os.system, f"touch {canary}")}
    torch.save(payload, tmp_path / "net.pt", _use_new_zipfile_serialization=not legacy)

    with pytest.raises((UnsafeError, CheckpointError)):
        read(tmp_path / "net.pt", policy)

    assert not canary.exists()


def test_name_that_runs_code_is_not_offered_for_permission(tmp_path: Path) -> None:
    file = saved({"model": WEIGHTS, "x": Hostile(eval, "1")}, tmp_path)

    with pytest.raises(UnsafeError) as raised:
        read(file, PLAIN)

    assert "--allow" not in raised.value.fix
    assert "can run any code" in raised.value.fix


@pytest.mark.parametrize(
    "name", ["torch.nn.modules.module.warnings", "torch.nn.functional.boolean"]
)
def test_name_inside_torch_that_is_no_layer_is_refused(name: str, tmp_path: Path) -> None:
    from modswap.io.formats.torch.allow import resolve

    with pytest.raises(UnsafeError, match=name):
        resolve([name], PLAIN, tmp_path)


def test_our_own_layers_need_no_permission(tmp_path: Path) -> None:
    from modswap.nn import BiLevelRoutingAttention

    container = read(saved(BiLevelRoutingAttention(8, 2, 2), tmp_path), PLAIN)

    assert isinstance(container.slots[0].value, BiLevelRoutingAttention)


def test_our_own_package_has_other_things_that_stay_refused(tmp_path: Path) -> None:
    from modswap.io.formats.torch.allow import resolve

    with pytest.raises(UnsafeError, match=r"modswap\.nn\.construct\.construct"):
        resolve(["modswap.nn.construct.construct"], PLAIN, tmp_path)


def test_trust_loads_anything_and_says_so(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    payload = {"model": WEIGHTS, "x": Hostile(os.mkdir, str(canary))}

    container = read(saved(payload, tmp_path), Policy(trust=True))

    assert canary.exists()
    assert "any code in the file was run" in container.notes[0]


def test_missing_code_of_a_trusted_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="it needs code that is not here"):
        read(main_net(tmp_path), Policy(trust=True))


@pytest.mark.parametrize("code", [HOSTILE["scales that are texts"], tensor_code(stored=b"N")])
def test_other_value_in_place_of_a_tensor_is_no_missing_code(code: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(pickled(item(code)))

    with pytest.raises(CheckpointError, match="it is damaged or cut short: AttributeError: '"):
        read(tmp_path / "net.pt", Policy())


# -- what is no checkpoint


def zipped(**entries: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), data)
    return stream.getvalue()


def torch_bytes() -> bytes:
    stream = io.BytesIO()
    torch.save(WEIGHTS, stream)
    return stream.getvalue()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return stream.getvalue()


def twice() -> bytes:
    stream = io.BytesIO(torch_bytes())
    with zipfile.ZipFile(stream, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.namelist()[0], b"other")
    return stream.getvalue()


def deflated() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(torch_bytes())) as old, zipfile.ZipFile(stream, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry), compress_type=zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def header(text: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    ("content", "what", "fix"),
    [
        (b"", "it is empty", "save or download it again"),
        (b"hello, world\n", "it is a text file that begins 'hello, world'", "name the checkpoint"),
        ("ü".encode() * 800, "it is a text file that begins", "name the checkpoint"),
        (b"x" + "ü".encode() * 800, "it is a text file that begins", "name the checkpoint"),
        (b"<!DOCTYPE html><html>", "it is a web page", "download the file itself"),
        (b"\n <html lang='en'>", "it is a web page", "download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git-LFS pointer", "git lfs pull"),
        (b"GGUF\x03\0\0\0", "it is a GGUF file", "original model"),
        (b"\x89HDF\r\n\x1a\n\0\0", "HDF5 file (Keras)", "PyTorch models"),
        (b"model_checkpoint_path: 'x'\n", "belongs to a TensorFlow model", "PyTorch models"),
        (b"\0" * 40 + bytes.fromhex("57fb808b247547db"), "TensorFlow", "PyTorch models"),
        (b"\x1c\0\0\0TFL3\0\0", "belongs to a TensorFlow model", "PyTorch models"),
        (b"\x28\xb5\x2f\xfd\0", "it is compressed (zstd)", "unpack it first"),
        (b"<?xml version='1.0'?><net/>", "it is an XML file", "PyTorch models"),
        (b"\x1c\0\0\0ET12\0\0", "it is an ExecuTorch program (.pte)", "export it again"),
        (zipped(net___dot_data__extern_modules=b""), "torch.package archive", "torch.save"),
        (b"\x93NUMPY\1\0", "it is a NumPy array", "save a state dict"),
        (b"\x1f\x8b\x08\0", "it is compressed (gzip)", "unpack it first"),
        (tarred(), "it is a tar archive", "current torch"),
        (pickle.dumps({"a": 1}), "a pickle (protocol 4) that torch.save did not write", "torch.s"),
        (b"\x08\x07\x12\x07pytorch\x1a\x00\xff", "it is an ONNX model", "PyTorch model"),
        (b"\xff\xfe\xfd\x00" * 9, "of no known format (it begins ff fe fd 00", "safetensors"),
        (zipped(net__constants_dot_pkl=b"", net__data_dot_pkl=b""), "TorchScript", "eager model"),
        (zipped(net__archive_format=b"pt2"), "torch.export archive", "eager model"),
        (zipped(a_dot_npy=b""), "it is a NumPy archive", "state dict"),
        (zipped(config_dot_json=b"{}"), "it is a Keras archive", "PyTorch models"),
        (zipped(readme=b""), "none that torch.save wrote", "unpack it"),
        (torch_bytes()[:-200], "damaged or cut short: no readable zip directory", "again"),
        (torch_bytes()[:60], "damaged or cut short: no readable zip directory", "again"),
        (twice(), "two entries of its zip have one name: 'archive/data.pkl'", "do not use it"),
        (deflated(), "its tensors are compressed inside the zip", "save it again"),
        (zipped(a__data_dot_pkl=b"\x80\x02."), "it is damaged or cut short", "again"),
        (zipped(a__data_dot_pkl=b"garbage", a__version=b"3"), "refuses its pickle", "state dict"),
        (header(b'{"a":'), "its header is damaged", "again"),
        (header(b"{}" + b" " * 30)[:20], "cut short: its header takes 32 bytes", "again"),
        (header(b"{}      "), "it holds no tensors", "again"),
        (
            header(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}', b"\0" * 4),
            "it is damaged or cut short",
            "again",
        ),
        (header(b'{"a":1,"a":2}'), "its header names 'a' twice", "do not use it"),
    ],
)
def test_what_is_no_checkpoint_is_reported(
    content: bytes, what: str, fix: str, tmp_path: Path
) -> None:
    file = tmp_path / "net.pt"
    file.write_bytes(content)

    with pytest.raises(CheckpointError) as raised:
        read(file, PLAIN)

    assert raised.value.where == str(file)
    assert what in raised.value.what
    assert fix in raised.value.fix


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:TypedStorage:UserWarning")
@pytest.mark.parametrize("kind", ["scripted", "traced", "mobile", "package"])
def test_archive_of_torch_with_code_is_named(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    if kind == "package":
        with PackageExporter(file) as exporter:
            exporter.extern("torch.**")
            exporter.save_pickle("model", "model.pkl", net)
    elif kind == "mobile":
        torch.jit.script(net)._save_for_lite_interpreter(str(file))
    else:
        made = torch.jit.script(net) if kind == "scripted" else None
        (made or torch.jit.trace(net, torch.ones(1, 3, 8, 8))).save(str(file))

    with pytest.raises(CheckpointError) as caught:
        read(file, PLAIN)

    expected = "torch.package" if kind == "package" else "TorchScript"
    assert caught.value.what == f"it is a {expected} archive"


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    saved(WEIGHTS, tmp_path, "unetpp.pt")

    with pytest.raises(CheckpointError, match=r"no such file; did you mean 'unetpp\.pt'\?"):
        read(tmp_path / "unetp.pt", PLAIN)
    with pytest.raises(CheckpointError, match="no such file; check the name"):
        read(tmp_path / "none" / "x.pt", PLAIN)


def test_folder_pipe_and_device_are_refused_without_hanging(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(CheckpointError, match="it is a folder, and none of its files is an index"):
        read(tmp_path, PLAIN)
    with pytest.raises(CheckpointError, match="it is a pipe, expected a checkpoint file"):
        read(tmp_path / "pipe", PLAIN)
    with pytest.raises(CheckpointError, match="it is a device"):
        read(Path("/dev/null"), PLAIN)


def test_name_that_is_too_long_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="it cannot be read: File name too long"):
        read(tmp_path / ("x" * 300), PLAIN)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission_is_reported(tmp_path: Path) -> None:
    file = saved(WEIGHTS, tmp_path)
    file.chmod(0)

    with pytest.raises(CheckpointError, match="it cannot be read: Permission denied"):
        read(file, PLAIN)


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        ([1, 2], "it holds list, expected a model or its weights"),
        ({"epoch": 3, "loss": 0.1}, "no model under its keys ('epoch', 'loss'); looked for model"),
        ({}, "no model under its keys (nothing)"),
        ({"g": WEIGHTS, "d": WEIGHTS, "epoch": 3}, "it holds models under 'g' and 'd', and none"),
        (
            {"g": WEIGHTS},
            "it holds a model under 'g', and none under a key of a model's: model, st",
        ),
    ],
)
def test_checkpoint_without_a_model_is_reported(payload: Any, what: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as raised:
        read(saved(payload, tmp_path), PLAIN)

    assert what in raised.value.what


def test_model_under_another_key_is_saved_alone_as_the_fix_says(tmp_path: Path) -> None:
    file = saved({"g": WEIGHTS, "d": {"a": torch.zeros(3)}}, tmp_path)
    with pytest.raises(CheckpointError) as raised:
        read(file, PLAIN)

    _, line, _ = raised.value.fix.split("`")
    with contextlib.chdir(tmp_path):
        exec(line, {"torch": torch})

    assert read(tmp_path / f"alone{file.suffix}", PLAIN).slots[0].value.keys() == WEIGHTS.keys()


def with_record(name: str, data: bytes, file: Path) -> Path:
    with zipfile.ZipFile(io.BytesIO(torch_bytes())) as old, zipfile.ZipFile(file, "w") as new:
        for entry in old.infolist():
            found = entry.filename == f"archive/{name}"
            new.writestr(entry, data if found else old.read(entry))
    return file


def test_file_of_a_newer_torch_is_reported(tmp_path: Path) -> None:
    file = with_record("version", b"99\n", tmp_path / "net.pt")

    with pytest.raises(CheckpointError, match=r"newer torch: file version 99, this torch reads up"):
        read(file, PLAIN)


def test_module_behind_a_persistent_name_is_reported(tmp_path: Path) -> None:
    reference = b"\x80\x02(X\x06\0\0\0moduleq\0ccollections\nOrderedDict\nq\1tQ."
    file = with_record("data.pkl", reference, tmp_path / "net.pt")

    with pytest.raises(CheckpointError, match="it is a whole module in the format of before"):
        read(file, PLAIN)


@pytest.mark.parametrize("protocol", [4, 5])
def test_pickle_of_a_later_protocol_is_reported(protocol: int, tmp_path: Path) -> None:
    torch.save({"model": WEIGHTS}, tmp_path / "net.pt", pickle_protocol=protocol)
    torch.save(
        {"model": WEIGHTS},
        tmp_path / "old.pt",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=False,
    )

    for name in ("net.pt", "old.pt"):
        with pytest.raises(CheckpointError, match=f"it was saved with pickle protocol {protocol}"):
            read(tmp_path / name, PLAIN)


def test_file_whose_name_torch_cannot_take_is_reported(tmp_path: Path) -> None:
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/net\xff.pt"))
    torch.save({"model": WEIGHTS}, tmp_path / "net.pt")
    (tmp_path / "net.pt").rename(file)

    with pytest.raises(CheckpointError, match="torch cannot open a file of this name"):
        read(file, PLAIN)


def test_pickle_of_protocol_3_is_read_without_a_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    torch.save({"model": WEIGHTS}, tmp_path / "net.pt", pickle_protocol=3)

    assert read(tmp_path / "net.pt", PLAIN).slots[0].keys == ("model",)
    assert not list(recwarn)


def test_number_beyond_the_safe_reader_is_reported(tmp_path: Path) -> None:
    torch.save({"model": WEIGHTS, "big": 1 << 4000}, tmp_path / "net.pt")
    torch.save(
        {"model": WEIGHTS, "big": 1 << 4000},
        tmp_path / "old.pt",
        _use_new_zipfile_serialization=False,
    )
    for name in ("net.pt", "old.pt"):
        with pytest.raises(CheckpointError, match="the safe loader refuses its pickle"):
            read(tmp_path / name, PLAIN)


def test_place_that_is_none_is_reported() -> None:
    with pytest.raises(CheckpointError, match="it cannot be read: embedded null byte"):
        read(Path("a\0b"), PLAIN)


def test_pickle_of_an_old_protocol_is_reported(tmp_path: Path) -> None:
    torch.save({"a": WEIGHTS, "b": 2}, tmp_path / "net.pt", pickle_protocol=0)

    with pytest.raises(CheckpointError, match="the safe loader refuses its pickle"):
        read(tmp_path / "net.pt", PLAIN)
