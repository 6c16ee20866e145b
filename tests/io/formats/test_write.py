"""Files are written with all that was read, and an existing file is never damaged.

Covers: writing, target, choice, torch.load, torch.save, safetensors.load, safetensors.save.
"""

import errno
import json
import os
import re
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from modswap.core.asked.job import Policy
from modswap.core.errors import CheckpointError
from modswap.io.formats.choice import ending_note, refuse_ending
from modswap.io.formats.container import Container
from modswap.io.formats.format import Swap, Swaps
from modswap.io.formats.reading import read, tensors
from modswap.io.formats.safetensors.save import save as save_safetensors
from modswap.io.formats.target import refuse_target
from modswap.io.formats.torch.save import save as save_torch
from modswap.io.formats.writing import blank, left_out, prepare_copy, prepare_rewriting, write
from modswap.io.pickled.optimizers import Parameters
from modswap.io.raw import atomic
from modswap.io.rewriting import Records

PLAIN = Policy()


def bits(pattern: int) -> torch.Tensor:
    return torch.tensor([pattern], dtype=torch.int32).view(torch.float32)


ODD = {
    "nan": bits(0x7FC00123),
    "empty": torch.zeros(0, 3),
    "scalar": torch.tensor(2.5),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "eight": torch.ones(4).to(torch.float8_e4m3fn),
    "flag": torch.tensor([True, False]),
    "long": torch.arange(5),
}


def saved(payload: Any, file: Path) -> Path:
    torch.save(payload, file)
    return file


def rewritten(payload: Any, folder: Path, name: str = "net.pt", out: str = "out.pt") -> Path:
    torch.save(payload, folder / name)
    container = read(folder / name, PLAIN)
    values = [slot.value for slot in container.slots]
    write(container, values, folder / out, records=Records("r: 1", "{}"), force=False)
    return folder / out


@pytest.mark.parametrize("out", ["out.pt", "out.pth", "out.safetensors", "out"])
def test_odd_tensors_come_back_bit_for_bit(out: str, tmp_path: Path) -> None:
    found = tensors(read(rewritten(ODD, tmp_path, out=out), PLAIN))

    assert found.keys() == ODD.keys()
    for name, tensor in ODD.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        same = found[name].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8)
        assert torch.equal(*same), name


def test_ordered_dictionary_stays_one_with_its_versions(tmp_path: Path) -> None:
    state = nn.Sequential(nn.BatchNorm1d(2)).state_dict()

    written = torch.load(rewritten(state, tmp_path), weights_only=True)  # noqa: TID251 - torch itself reads the file

    assert type(written) is OrderedDict
    assert vars(written)["_metadata"]["0"] == {"version": 2}


def test_training_dictionary_keeps_its_kind_and_order(tmp_path: Path) -> None:
    payload = OrderedDict(epoch=3, state_dict={"module.a": torch.ones(1)}, note="x")

    written = torch.load(rewritten(payload, tmp_path), weights_only=True)  # noqa: TID251 - torch itself reads the file

    assert type(written) is OrderedDict
    assert list(written) == ["epoch", "state_dict", "note", "modswap"]
    assert list(written["state_dict"]) == ["module.a"]
    assert written["modswap"] == {"recipe": "r: 1", "receipt": "{}"}


def test_training_state_is_kept_bit_for_bit(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    payload = {"model": model, "optimizer": optimizer.state_dict(), "epoch": 3, "odd": ODD}
    before = tensors(read(saved(payload, tmp_path / "in.pt"), PLAIN))

    out = rewritten(payload, tmp_path)

    after = tensors(read(out, PLAIN))
    assert list(after) == list(before)
    assert {"optimizer.state.0.exp_avg", "optimizer.state.1.step"} <= after.keys()
    for name, tensor in before.items():
        same = tensor.reshape(-1).view(torch.uint8), after[name].reshape(-1).view(torch.uint8)
        assert torch.equal(*same), name
    groups = read(out, PLAIN).payload["optimizer"]["param_groups"]
    assert groups == payload["optimizer"]["param_groups"]  # type: ignore[index] # a dictionary


def test_wrapped_module_stays_wrapped(tmp_path: Path) -> None:
    written = read(rewritten(nn.DataParallel(nn.Linear(2, 2)), tmp_path), PLAIN)

    assert type(written.payload) is nn.DataParallel


def test_shared_module_is_stored_once_and_stays_shared(tmp_path: Path) -> None:
    layer = nn.Linear(200, 200)

    out = rewritten(nn.Sequential(layer, nn.ReLU(), layer), tmp_path)

    model = read(out, PLAIN).payload
    assert model[0] is model[2]
    assert out.stat().st_size < 2 * 200 * 200 * 4


def test_loaded_payload_is_not_changed_by_writing(tmp_path: Path) -> None:
    container = read(saved({"model": {"a": torch.ones(1)}, "epoch": 1}, tmp_path / "in.pt"), PLAIN)

    write(
        container, [{"b": torch.ones(2)}], tmp_path / "o.pt", records=Records("r", ""), force=False
    )

    assert list(container.payload) == ["model", "epoch"]
    assert list(container.payload["model"]) == ["a"]
    assert list(read(tmp_path / "o.pt", PLAIN).payload["model"]) == ["b"]


@pytest.mark.parametrize("name", ["1.pt", "1.safetensors"])
def test_same_swap_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    weights = {**ODD, **{f"tie{index}": ODD["long"] for index in range(9)}}
    first = rewritten(weights, tmp_path, out=name)
    (tmp_path / "sub").mkdir()

    second = rewritten(weights, tmp_path / "sub", out=f"other{name}")

    assert second.read_bytes() == first.read_bytes()


def test_sorted_metadata_says_what_it_said(tmp_path: Path) -> None:
    odd = {"z": '\x00\b\t\n\x1f\x7f"\\/', "ä": "日本 \u2028 🙂", "": "{}", "a": ""}

    save_safetensors({"x": torch.ones(1)}, tmp_path / "a.safetensors", Records("r: 1"), odd)

    with safe_open(tmp_path / "a.safetensors", framework="pt") as opened:
        assert opened.metadata() == {**odd, "modswap.recipe": "r: 1"}
    text = (tmp_path / "a.safetensors").read_bytes()
    assert text.index(b'"a"') < text.index(b'"modswap.recipe"') < text.index(b'"z"')


@pytest.mark.parametrize(
    ("payload", "notes"),
    [
        ({"a": torch.ones(1)}, []),
        (nn.Linear(2, 2), ["safetensors hold weights without code"]),
        (
            {"model": {"a": torch.ones(1)}},
            ["only the weights of 'model' are written; left out: no"],
        ),
        (
            {"model": nn.Linear(2, 2), "epoch": 3, "optimizer": {}},
            [
                "safetensors hold weights",
                "only the weights of 'model' are written; left out: 'epoch",
            ],
        ),
    ],
)
def test_what_does_not_fit_into_safetensors_is_reported(
    payload: Any, notes: list[str], tmp_path: Path
) -> None:
    container = read(saved(payload, tmp_path / "in.pt"), PLAIN)

    told = left_out(container, tmp_path / "out.safetensors")

    assert len(told) == len(notes)
    assert all(note.startswith(start) for note, start in zip(told, notes, strict=True))
    assert left_out(container, tmp_path / "out.pt") == ()


def test_prefix_of_a_wrapper_is_kept_in_safetensors(tmp_path: Path) -> None:
    payload = {"state_dict": {"module.a": torch.ones(1)}}

    out = rewritten(payload, tmp_path, out="out.safetensors")

    assert list(read(out, PLAIN).payload) == ["module.a"]


def test_records_are_found_again(tmp_path: Path) -> None:
    for index, payload in enumerate([ODD, {"state_dict": ODD}, nn.Linear(2, 2)]):
        (tmp_path / str(index)).mkdir()
        container = read(rewritten(payload, tmp_path / str(index)), PLAIN)
        assert (container.recipe, container.receipt) == ("r: 1", "{}")


def test_old_records_are_replaced(tmp_path: Path) -> None:
    first = rewritten({"state_dict": ODD}, tmp_path)
    container = read(first, PLAIN)

    values = [slot.value for slot in container.slots]
    write(container, values, tmp_path / "2.pt", records=Records("r: 2", "{}"), force=False)

    assert read(tmp_path / "2.pt", PLAIN).recipe == "r: 2"


def test_archive_with_records_loads_mapped_elsewhere(tmp_path: Path) -> None:
    out = rewritten(nn.Linear(2, 2), tmp_path)

    loaded = torch.load(out, mmap=True, weights_only=False)  # noqa: TID251 - torch itself reads the file

    assert isinstance(loaded, nn.Linear)


def test_tie_is_stored_once_in_both_formats(tmp_path: Path) -> None:
    big = torch.ones(50_000)

    for name in ("out.pt", "out.safetensors"):
        out = rewritten({"a": big, "b": big}, tmp_path, out=name)
        assert out.stat().st_size < 300_000
        weights = read(out, PLAIN).slots[0].value
        assert weights["a"].data_ptr() == weights["b"].data_ptr()


def test_views_of_one_storage_become_whole_tensors_in_safetensors(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    payload = {"top": base[:2], "turned": base.t(), "all": base}

    found = tensors(read(rewritten(payload, tmp_path, out="out.safetensors"), PLAIN))

    assert all(torch.equal(found[name], tensor) for name, tensor in payload.items())


def test_views_that_conjugate_or_negate_are_written_as_they_look(tmp_path: Path) -> None:
    number = torch.tensor([1 + 2j])
    payload = {"a": number, "b": number.conj(), "c": torch._neg_view(torch.ones(2))}

    save_safetensors(payload, tmp_path / "a.safetensors", Records(), {})

    found = tensors(read(tmp_path / "a.safetensors", PLAIN))
    assert all(torch.equal(found[name], tensor) for name, tensor in payload.items())


def test_tie_whose_name_the_metadata_has_is_stored_twice(tmp_path: Path) -> None:
    tensor = torch.ones(2)
    payload = {"a": tensor, "by": tensor, "modswap.recipe": tensor}

    save_safetensors(payload, tmp_path / "a.safetensors", Records("r: 1"), {"by": "me"})

    container = read(tmp_path / "a.safetensors", PLAIN)
    assert list(container.payload) == list(payload)
    assert (container.metadata["by"], container.recipe) == ("me", "r: 1")


def test_metadata_of_safetensors_is_kept(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors", metadata={"by": "me"})
    container = read(tmp_path / "a.safetensors", PLAIN)

    out = tmp_path / "b.safetensors"
    write(container, [container.slots[0].value], out, records=Records("r", "{}"), force=False)

    with safe_open(out, framework="pt") as opened:
        assert opened.metadata()["by"] == "me"


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (lambda: torch.eye(2).to_sparse(), "'x' is a sparse_coo tensor"),
        (
            lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
            "'x' is a quantized tensor",
        ),
        (lambda: torch.nested.nested_tensor([torch.ones(1)]), "'x' is a nested tensor"),
        (lambda: {"scale": 1}, "'x' is dict, and safetensors hold tensors only"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tensor_that_safetensors_cannot_hold_is_named(
    value: Any, what: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError) as raised:
        save_safetensors({"x": value()}, tmp_path / "x.safetensors", Records(), {})

    assert what in raised.value.what


def test_name_that_safetensors_cannot_hold_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a meta tensor, which safetensors"):
        save_safetensors({"x": torch.ones(1, device="meta")}, tmp_path / "x", Records(), {})


@pytest.mark.parametrize(
    ("name", "what"),
    [("__metadata__", "a tensor is called '__metadata__'"), ("a\ud800", "surrogates not allowed")],
)
def test_name_with_another_meaning_is_reported_with_the_target(
    name: str, what: str, tmp_path: Path
) -> None:
    container = read(saved({"a": torch.ones(1)}, tmp_path / "in.pt"), PLAIN)
    out = tmp_path / "o.safetensors"

    with pytest.raises(CheckpointError, match=what) as raised:
        write(container, [{name: torch.ones(1)}], out, records=Records(), force=False)

    assert raised.value.where == str(out)
    assert not out.exists()


class Refuses(nn.Module):
    def __reduce__(self) -> Any:
        raise KeyError("its own")


def test_exception_of_a_class_that_is_pickled_is_reported(tmp_path: Path) -> None:
    model = Refuses()

    with pytest.raises(CheckpointError, match="torch cannot write it: KeyError: 'its own'"):
        write(blank(model, tmp_path / "a.pt")[0], [model], tmp_path / "a.pt",
              records=Records(), force=False)  # fmt: skip


def test_what_torch_cannot_write_is_reported(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    model.odd = lambda x: x  # type: ignore[assignment] # what people do

    with pytest.raises(CheckpointError, match=r"torch cannot write it: .*; write the weights"):
        write(blank(model, tmp_path / "a.pt")[0], [model], tmp_path / "a.pt",
              records=Records(), force=False)  # fmt: skip

    assert list(tmp_path.iterdir()) == []


# -- where it may be written


def target(folder: Path, name: str, **options: Any) -> None:
    refuse_target(folder / "in.pt", folder / name, **{"force": False, **options})


def test_targets_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "in.pt").write_bytes(b"1")
    (tmp_path / "there.pt").write_bytes(b"2")
    (tmp_path / "link.pt").symlink_to(tmp_path / "in.pt")

    for name, message in {
        "in.pt": "it is the input itself; name another file",
        "link.pt": "it is the input itself",
        "there.pt": "it exists; name another file, or add --force",
        ".": "it is a folder; name a file",
        "none/out.pt": "there is no folder .*; make it first",
        "out.onnx": r"no format has the ending '\.onnx'; use one of \.pt, \.pth",
    }.items():
        with pytest.raises(CheckpointError, match=message):
            target(tmp_path, name)
    with pytest.raises(CheckpointError, match="it is the input itself"):
        target(tmp_path, "link.pt", force=True)
    target(tmp_path, "there.pt", force=True)
    target(tmp_path, "new.pt")


def test_place_that_is_no_file_is_refused_even_by_force(tmp_path: Path) -> None:
    (tmp_path / "in.pt").write_bytes(b"1")
    (tmp_path / "loop.pt").symlink_to("loop.pt")
    os.mkfifo(tmp_path / "pipe.pt")

    for name, message in {
        "pipe.pt": "it is a pipe; name a file",
        "/dev/null": "it is a device; name a file",
        "loop.pt": "it cannot be written: Symlink loop|Too many levels",
        "x" * 300 + ".pt": "it cannot be written: File name too long",
        "a\0.pt": "it cannot be written: embedded null byte",
        "in.pt/out.pt": "there is no folder",
    }.items():
        with pytest.raises(CheckpointError, match=message):
            target(tmp_path, name, force=True)


def test_longest_name_that_a_folder_takes_can_be_written(tmp_path: Path) -> None:
    assert rewritten(ODD, tmp_path, out=f"{'x' * 252}.pt").exists()


def test_no_ending_keeps_the_format(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    container = read(tmp_path / "a.safetensors", PLAIN)

    written = write(
        container, [container.slots[0].value], tmp_path / "b", records=Records(), force=False
    )

    assert written.format == "safetensors"


@pytest.mark.parametrize("name", ["out.pth.tar", "out.weights", "out.0.95", "out.ckp", "out.T7"])
def test_ending_that_no_format_has_keeps_the_format(name: str, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
    container, out = read(tmp_path / "a.pth", PLAIN), tmp_path / name

    write(container, [container.slots[0].value], out, records=Records(), force=False)

    assert read(out, PLAIN).format == "torch"
    what = f"{name} is written as a torch file, as the input is"
    noted = () if name.endswith(".tar") else (f"{what}: no format has the ending {out.suffix!r}",)
    assert ending_note("torch", tmp_path / "a.pth", out) == noted


@pytest.mark.parametrize(
    ("file", "name", "fix"),
    [
        ("in.pt", "out.safetensor", "did you mean '.safetensors'?"),
        ("in.pt", "out.SafeTensor", "did you mean '.safetensors'?"),
        ("in.safetensors", "out.ckp", "did you mean '.ckpt'?"),
        ("in.pt", "out.onnx", "use one of .pt, .pth, .ckpt, .bin, .tar, .safetensors, .pt2"),
        ("in.pt", "out.yaml", "use one of"),
        ("in.pt", "out.pt.gz", "use one of"),
    ],
)
def test_ending_that_would_mislead_is_refused(
    file: str, name: str, fix: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError) as caught:
        refuse_ending(tmp_path / file, tmp_path / name)

    assert caught.value.what == f"no format has the ending {Path(name).suffix!r}"
    assert caught.value.fix.startswith(fix)


@pytest.mark.parametrize("name", ["net.weights", "net.npz", "net.savetensors"])
def test_ending_of_the_input_is_a_known_one(name: str, tmp_path: Path) -> None:
    refuse_ending(tmp_path / name, tmp_path / f"other{Path(name).suffix}")

    assert ending_note("torch", Path(name), Path(f"other{Path(name).suffix}")) == ()


def test_folder_of_any_ending_takes_no_note() -> None:
    assert ending_note("folder", Path("in"), Path("out.v2")) == ()
    assert ending_note("torch", Path("in.pt"), Path("out")) == ()
    assert ending_note("torch", Path("in.pt"), None) == ()


def test_legacy_file_is_written_as_a_zip(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    container = read(tmp_path / "a.pt", PLAIN)

    written = write(
        container, [container.slots[0].value], tmp_path / "b", records=Records(), force=False
    )

    assert written.format == "torch"


def test_model_from_memory_needs_an_ending_that_a_format_has(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no format has the ending '\.weights'; use one of"):
        blank(nn.Linear(2, 2), tmp_path / "a.weights")


def test_model_from_memory_is_written_by_its_ending(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    for name, kind in (("a.pt", "module"), ("a", "module"), ("a.safetensors", "weights")):
        container, value = blank(model, tmp_path / name)
        write(container, [value], tmp_path / name, records=Records(), force=True)
        assert read(tmp_path / name, PLAIN).slots[0].kind == kind


# -- whole or not at all


def interrupted(out: Path) -> None:
    """Begin to write, and be stopped."""
    with atomic.replacing(out, force=True) as temporary:
        temporary.write_bytes(b"half of it")
        raise KeyboardInterrupt


def test_existing_file_survives_an_interruption(tmp_path: Path) -> None:
    out = tmp_path / "out.pt"
    out.write_bytes(b"old")

    with pytest.raises(KeyboardInterrupt):
        interrupted(out)

    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]


def test_file_that_appeared_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out.pt").write_bytes(b"old")

    with (
        pytest.raises(CheckpointError, match="it exists"),
        atomic.replacing(tmp_path / "out.pt", force=False),
    ):
        pass


def appearing(out: Path) -> None:
    """Write a file whose place another program takes in the meantime."""
    with atomic.replacing(out, force=False) as temporary:
        temporary.write_bytes(b"new")
        out.write_bytes(b"theirs")


def test_file_that_appears_during_the_writing_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out.pt"

    with pytest.raises(CheckpointError, match="it exists"):
        appearing(out)

    assert out.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [out]


def test_symbolic_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real.pt").write_bytes(b"old")
    (tmp_path / "link.pt").symlink_to("real.pt")

    with atomic.replacing(tmp_path / "link.pt", force=True) as temporary:
        temporary.write_bytes(b"new")

    assert (tmp_path / "link.pt").is_symlink()
    assert (tmp_path / "real.pt").read_bytes() == b"new"


def test_permissions_are_those_of_any_new_file_or_of_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "out.pt"
    mask = os.umask(0o027)
    try:
        with atomic.replacing(out, force=False) as temporary:
            temporary.write_bytes(b"1")
        assert out.stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(mask)
    out.chmod(0o600)
    with atomic.replacing(out, force=True) as temporary:
        temporary.write_bytes(b"2")
    assert out.stat().st_mode & 0o777 == 0o600


FULL_DISK = """
import resource, signal, sys, torch
from pathlib import Path
from modswap.core.errors import CheckpointError
from modswap.core.asked.job import Policy
from modswap.io.formats.reading import read
from modswap.io.formats.writing import write
from modswap.io.rewriting import Records
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
source, out = Path(sys.argv[1]), Path(sys.argv[2])
container = read(source, Policy())
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    write(container, [container.slots[0].value], out, records=Records(), force=True)
except CheckpointError as error:
    print(error.code, error)
"""


@pytest.mark.parametrize(
    "name", ["out.pt", pytest.param("out.safetensors", marks=pytest.mark.slow)]
)
def test_full_disk_is_reported_and_the_old_file_survives(name: str, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(100_000)}, tmp_path / "in.pt")
    (tmp_path / name).write_bytes(b"old")

    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "in.pt"), str(tmp_path / name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.stdout.startswith(f"3 {tmp_path / name}: no space left to write it"), done.stderr
    assert (tmp_path / name).read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.pt", name]


def test_what_the_system_refuses_is_reported(tmp_path: Path) -> None:
    refused = atomic.refused(tmp_path / "x", OSError(errno.EROFS, "Read-only file system"))

    assert (
        str(refused)
        == f"{tmp_path}/x: it cannot be written: Read-only file system; check the folder"
    )


def test_folder_that_went_away_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="it cannot be written: No such file or directory"):
        fill(tmp_path / "gone" / "a.pt", b"1")


def fill(out: Path, content: bytes) -> None:
    with atomic.replacing(out, force=False) as temporary:
        temporary.write_bytes(content)


def test_full_disk_says_how_much_is_free(tmp_path: Path) -> None:
    refused = atomic.refused(tmp_path / "x", OSError(errno.ENOSPC, "full"))

    assert re.search(r"no space left to write it \([\d,]{4,} bytes free\)", refused.what)


def test_free_space_of_a_folder_that_is_gone_is_nothing(tmp_path: Path) -> None:
    refused = atomic.refused(tmp_path / "gone" / "x", OSError(errno.ENOSPC, "full"))

    assert "(0 bytes free)" in refused.what


def test_what_a_library_puts_in_the_place_of_torchs_functions_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(*_: Any, **__: Any) -> Any:
        raise AssertionError("called")  # Ultralytics tries a failed write again for seconds

    saved(nn.Linear(2, 3), tmp_path / "net.pt")
    monkeypatch.setattr(torch, "save", other)
    monkeypatch.setattr(torch, "load", other)

    save_torch({"a": torch.ones(2)}, tmp_path / "out.pt", Records(), {})

    assert isinstance(read(tmp_path / "net.pt", PLAIN).slots[0].value, nn.Linear)
    assert torch.equal(read(tmp_path / "out.pt", PLAIN).slots[0].value["a"], torch.ones(2))


def test_full_device_shows_in_both_formats(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        save_torch({"a": torch.ones(100_000)}, Path("/dev/full"), Records(), {})
    with pytest.raises(OSError, match="No such file or directory"):
        save_safetensors({"a": torch.ones(1)}, tmp_path / "none" / "x", Records(), {})


def test_full_disk_behind_an_error_of_torch_is_found(tmp_path: Path) -> None:
    class Wrapped:
        def __reduce__(self) -> Any:
            raise RuntimeError("write failed") from OSError(errno.ENOSPC, "No space left")

    with pytest.raises(OSError, match="No space left"):
        save_torch(Wrapped(), tmp_path / "x.pt", Records(), {})


def test_error_of_the_zip_writer_counts_as_a_full_disk(tmp_path: Path) -> None:
    class Full:
        def __reduce__(self) -> Any:
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 5 vs 4")

    with pytest.raises(OSError, match="No space left"):
        save_torch(Full(), tmp_path / "x.pt", Records(), {})


def of_torch(place: Path, records: dict[str, str]) -> None:
    torch.save({"model": {"a": torch.ones(2)}, "epoch": 1, "modswap": records}, place)


def of_a_folder(place: Path, records: dict[str, str]) -> None:
    place.mkdir()
    save_file({"a": torch.ones(2)}, place / "model.safetensors")
    (place / "config.json").write_text("{}")
    (place / "modswap.json").write_text(json.dumps(records))


def of_ranks(place: Path, records: dict[str, str]) -> None:
    dcp: Any = torch.distributed.checkpoint
    dcp.save({"model": {"a": torch.ones(2)}}, checkpoint_id=place, no_dist=True)
    (place / "modswap.json").write_text(json.dumps(records))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("make", [of_torch, of_a_folder, of_ranks])
def test_file_written_again_without_records_has_none_of_an_earlier_swap(
    make: Callable[[Path, dict[str, str]], None], tmp_path: Path
) -> None:
    make(tmp_path / "in", {"recipe": "r: 1", "receipt": ""})
    container = read(tmp_path / "in", PLAIN)
    assert container.recipe == "r: 1"
    swaps = Swaps((Swap(container.slots[0], ()),), Parameters((), (), ()))
    out = tmp_path / "out"
    if container.file.is_dir():
        out.mkdir()

    prepared = prepare_rewriting(container, swaps, None, PLAIN)
    assert prepared is not None
    prepared.write(out, Records(), checksums=False)

    written = read(out, PLAIN)
    assert written.recipe is None
    assert torch.equal(written.slots[0].value["a"], torch.ones(2))


def test_file_of_which_nothing_can_be_built_keeps_its_format(tmp_path: Path) -> None:
    container, out = Container("torch", tmp_path / "net.pt", {}, ()), tmp_path / "out.safetensors"

    with pytest.raises(CheckpointError) as caught:
        prepare_copy(container, Swaps((), Parameters((), (), ())), out, PLAIN)

    assert caught.value.what == "it cannot be rewritten as data in another format"
    assert caught.value.where == str(tmp_path / "net.pt")
    assert caught.value.fix == "give OUT the ending that the file has"


@pytest.mark.parametrize("out", ["out.pt", "out.safetensors"])
def test_folder_of_ranks_that_goes_over_to_one_file_loses_its_other_contents(out: str) -> None:
    container = Container("distributed", Path("in"), {}, ())

    note = "only the models' weights are written, not the folder's other contents"
    assert left_out(container, Path(out)) == (note,)
    assert left_out(container, Path("out")) == ()
