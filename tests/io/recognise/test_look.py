"""Formats are recognised by content; other kinds of files are named with advice.

Covers: implied_tree, model_places.
"""

import os
from pathlib import Path

import pytest
import torch

from modswap.core.errors import CheckpointError
from modswap.core.seen.tree import BareParameter, TreeRow
from modswap.io.recognise.implied_tree import TensorSize, elements, implied_rows
from modswap.io.recognise.look import (
    foreign,
    header_of_safetensors,
    is_exported,
    is_safetensors,
    is_torch_legacy,
    is_torch_zip,
    look_at,
)
from modswap.io.recognise.model_places import common_prefix
from tests.io.corpus.raw import safetensors

KINDS = (is_torch_zip, is_torch_legacy, is_safetensors, is_exported)


@pytest.mark.parametrize("legacy", [True, False])
def test_file_of_torch_is_recognised(tmp_path: Path, *, legacy: bool) -> None:
    file = tmp_path / "net.bin"
    torch.save({"w": torch.ones(2)}, file, _use_new_zipfile_serialization=not legacy)

    found = [kind for kind in KINDS if kind(look_at(file))]

    assert found == [is_torch_legacy if legacy else is_torch_zip]


def test_file_of_safetensors_is_recognised_and_its_header_read(tmp_path: Path) -> None:
    (tmp_path / "net").write_bytes(safetensors({"a": {"dtype": "U8", "shape": [0]}}, b""))
    look = look_at(tmp_path / "net")

    assert [kind for kind in KINDS if kind(look)] == [is_safetensors]
    assert header_of_safetensors(look) == {"a": {"dtype": "U8", "shape": [0]}}


def test_look_at_a_folder_has_the_names_in_it(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).touch()

    look = look_at(tmp_path)

    assert (look.head, look.names) == (b"", ("a", "b"))


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"GGUF....", "it is a GGUF file; GGUF holds quantized weights"),
        (b"\x1f\x8b....", r"it is compressed \(gzip\); unpack it first"),
        (b"<!DOCTYPE html><p>", "it is a web page, not a checkpoint"),
        (b"....TFL3....", "it belongs to a TensorFlow model"),
        (b"\x80\x04.....", r"it is a pickle \(protocol 4\) that torch.save did not write"),
        (b"\x08\x07\x12\x04onnx", "it is an ONNX model"),
        (b"lr: 0.1\nepochs: 3\n", "it is a text file that begins 'lr: 0.1'"),
        (b"\xff\xfe\x00\x01\x02\x03\x04\x05", "it is of no known format"),
    ],
)
def test_file_of_another_kind_is_named_with_advice(head: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(head)

    with pytest.raises(CheckpointError, match=what):
        raise foreign(look_at(tmp_path / "net.pt"))


def test_path_that_is_no_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()

    for name, what in (("pipe", "it is a pipe"), ("empty", "it is empty"), ("no", "no such file")):
        with pytest.raises(CheckpointError, match=f"{name}: {what}"):
            look_at(tmp_path / name)


@pytest.mark.parametrize(
    ("shape", "count"),
    [((2, 3), 6), ((), 1), ((0, 1 << 62), 0), ((1 << 63,), None), ((-1,), None), ((True,), None)],
)
def test_elements_are_counted_for_shapes_that_torch_allows(
    shape: tuple[int, ...], count: int | None
) -> None:
    assert elements(shape) == count
    assert elements((1,) * 64) == 1
    assert elements((1,) * 65) is None


def test_tree_of_names_sums_up_what_is_below() -> None:
    sizes = {"a.b.w": TensorSize(2, 8), "a.v": TensorSize(1, 4), "x": TensorSize(3, 6)}

    assert implied_rows(sizes) == (
        TreeRow("", "", 6, 18, bare=(BareParameter("x", 3, 6),)),
        TreeRow("a", "", 3, 12, bare=(BareParameter("v", 1, 4),)),
        TreeRow("a.b", "", 2, 8),
    )


def test_tensor_of_several_names_is_counted_once_in_each_module() -> None:
    tied, empty = TensorSize(4, 16, "a storage"), TensorSize(0, 0, "nothing")
    sizes = {"b.x.w": tied, "a.w": tied, "b.y.w": tied, "a.e": empty, "b.x.e": empty}

    rows = {row.path: row for row in implied_rows(sizes)}

    assert {path: (row.params, row.nbytes) for path, row in rows.items()} == dict.fromkeys(
        ("", "a", "b", "b.x", "b.y"), (4, 16)
    )
    assert [rows[path].ties for path in ("b.x", "a", "b.y")] == [
        (),
        (("w", "b.x.w"),),
        (("w", "b.x.w"),),
    ]


@pytest.mark.parametrize(
    ("name", "floating", "params"),
    [
        ("weight", True, 8),
        ("running_mean", True, 0),
        ("num_batches_tracked", False, 0),
        ("position_ids", False, 0),
        ("inv_freq", True, 0),
        ("total_ops", True, 0),
        ("running_mean_of_mine", True, 8),
    ],
)
def test_buffers_are_no_parameters(name: str, params: int, *, floating: bool) -> None:
    held = TensorSize(8, 32, floating=floating)
    root, module, _ = implied_rows({f"norm.{name}": held, "norm.inner.w": TensorSize(1, 4)})

    assert (root.params, root.nbytes, module.params) == (params + 1, 36, params + 1)
    assert module.bare == ((BareParameter(name, 8, 32),) if params else ())


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (["module.a", "module.b"], "module."),
        (["module._orig_mod.a", "n_averaged"], "module._orig_mod."),
        (["module.a", "b"], ""),
        (["n_averaged"], ""),
    ],
)
def test_prefix_of_wrappers_is_shared_by_all_names(names: list[str], prefix: str) -> None:
    assert common_prefix(names) == prefix
