"""What is written, and that an existing file is never damaged."""

import errno
import os
import re
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from modswap.core.errors import CheckpointError
from modswap.core.job import Policy
from modswap.io import atomic
from modswap.io.formats import blank, read, refuse_target, tensors, write
from modswap.io.formats.format import Records
from modswap.io.formats.safetensors_file import save as save_safetensors
from modswap.io.formats.torch_file import save as save_torch

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


def rewritten(payload: Any, folder: Path, name: str = "net.pt", out: str = "out.pt") -> Path:
    torch.save(payload, folder / name)
    container = read(folder / name, PLAIN)
    values = [slot.value for slot in container.slots]
    write(container, values, folder / out, recipe="r: 1", receipt="{}", force=False)
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

    written = torch.load(rewritten(state, tmp_path), weights_only=True)  # noqa: TID251

    assert type(written) is OrderedDict
    assert vars(written)["_metadata"]["0"] == {"version": 2}


def test_training_dictionary_keeps_its_kind_and_order(tmp_path: Path) -> None:
    payload = OrderedDict(epoch=3, state_dict={"module.a": torch.ones(1)}, note="x")

    written = torch.load(rewritten(payload, tmp_path), weights_only=True)  # noqa: TID251

    assert type(written) is OrderedDict
    assert list(written) == ["epoch", "state_dict", "note", "modswap"]
    assert list(written["state_dict"]) == ["module.a"]
    assert written["modswap"] == {"recipe": "r: 1", "receipt": "{}"}


def test_records_are_found_again(tmp_path: Path) -> None:
    for index, payload in enumerate([ODD, {"state_dict": ODD}, nn.Linear(2, 2)]):
        (tmp_path / str(index)).mkdir()
        container = read(rewritten(payload, tmp_path / str(index)), PLAIN)
        assert (container.recipe, container.receipt) == ("r: 1", "{}")


def test_old_records_are_replaced(tmp_path: Path) -> None:
    first = rewritten({"state_dict": ODD}, tmp_path)
    container = read(first, PLAIN)

    values = [slot.value for slot in container.slots]
    write(container, values, tmp_path / "2.pt", recipe="r: 2", receipt="{}", force=False)

    assert read(tmp_path / "2.pt", PLAIN).recipe == "r: 2"


def test_archive_with_records_loads_mapped_elsewhere(tmp_path: Path) -> None:
    out = rewritten(nn.Linear(2, 2), tmp_path)

    loaded = torch.load(out, mmap=True, weights_only=False)  # noqa: TID251

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


def test_metadata_of_safetensors_is_kept(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors", metadata={"by": "me"})
    container = read(tmp_path / "a.safetensors", PLAIN)

    out = tmp_path / "b.safetensors"
    write(container, [container.slots[0].value], out, recipe="r", receipt="{}", force=False)

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


def test_name_that_safetensors_cannot_hold_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="safetensors cannot hold it"):
        save_safetensors({"x": torch.ones(1, device="meta")}, tmp_path / "x", Records(), {})


def test_what_torch_cannot_write_is_told(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    model.odd = lambda x: x  # type: ignore[assignment] # what people do

    with pytest.raises(CheckpointError, match=r"torch cannot write it: .*; write the weights"):
        write(blank(model, tmp_path / "a.pt")[0], [model], tmp_path / "a.pt",
              recipe="", receipt="", force=False)  # fmt: skip

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


def test_no_ending_keeps_the_format(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    container = read(tmp_path / "a.safetensors", PLAIN)

    written = write(
        container, [container.slots[0].value], tmp_path / "b", recipe="", receipt="", force=False
    )

    assert written.format == "safetensors"


def test_legacy_file_is_written_as_a_zip(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    container = read(tmp_path / "a.pt", PLAIN)

    written = write(
        container, [container.slots[0].value], tmp_path / "b", recipe="", receipt="", force=False
    )

    assert written.format == "torch"


def test_model_from_memory_is_written_by_its_ending(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    for name, kind in (("a.pt", "module"), ("a", "module"), ("a.safetensors", "weights")):
        container, value = blank(model, tmp_path / name)
        write(container, [value], tmp_path / name, recipe="", receipt="", force=True)
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
from modswap.core.job import Policy
from modswap.io.formats import read, write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
source, out = Path(sys.argv[1]), Path(sys.argv[2])
container = read(source, Policy())
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    write(container, [container.slots[0].value], out, recipe="", receipt="", force=True)
except CheckpointError as error:
    print(error.code, error)
"""


@pytest.mark.parametrize("name", ["out.pt", "out.safetensors"])
def test_full_disk_is_told_and_the_old_file_survives(name: str, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(100_000)}, tmp_path / "in.pt")
    (tmp_path / name).write_bytes(b"old")

    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "in.pt"), str(tmp_path / name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.stdout.startswith(f"3 {tmp_path / name}: no space left to write it"), done.stderr
    assert (tmp_path / name).read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.pt", name]


def test_what_the_system_refuses_is_told(tmp_path: Path) -> None:
    refused = atomic.refused(tmp_path / "x", OSError(errno.EROFS, "Read-only file system"))

    assert (
        str(refused)
        == f"{tmp_path}/x: it cannot be written: Read-only file system; check the folder"
    )


def test_folder_that_went_away_is_told(tmp_path: Path) -> None:
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
