"""Trees that the headers of safetensors files imply.

Covers: load, rewrite, save.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file, save_model

from modswap.core.asked.job import Policy, Subject
from modswap.core.errors import CheckpointError
from modswap.io.formats.outline import outline, survey
from modswap.ops.jobs.model_tree import build_tree
from tests.io.pickled.test_outline import tied
from tests.models import GatedNet


@pytest.mark.parametrize("metadata", [None, {"author": "me", "module.stem": "nothing"}])
def test_tree_is_that_of_the_loaded_file(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    weights = {f"module.{name}": tensor for name, tensor in GatedNet().state_dict().items()}
    save_file(weights, file, metadata=metadata)

    found, expected = outline(file), build_tree(Subject(file, Policy()), lambda _: None)

    assert found is not None
    assert sorted(map(str, found.rows)) == sorted(map(str, expected.rows))
    assert found.notes == expected.notes


def test_tied_tensors_are_listed_under_both_names(tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    save_model(tied(), str(file))

    found = outline(file)

    assert found is not None
    assert {row.path for row in found.rows} == {"", "embed", "head"}
    assert {row.params for row in found.rows if row.path} == {28}


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]},
        [],
    ],
)
def test_odd_header_is_left_to_its_own_reader(entry: object, tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    header = json.dumps({"w": entry}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)

    assert outline(file) is None


def test_header_without_tensors_is_left_to_its_own_reader(tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    save_file({}, file, metadata={"a": "b"})

    assert outline(file) is None


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "__metadata__": {"b": [1]}},
    ],
)
def test_malformed_header_is_refused_without_a_forward_pass(
    header: dict[str, Any], tmp_path: Path
) -> None:
    text = json.dumps(header).encode()
    file = tmp_path / "net.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))

    with pytest.raises(CheckpointError, match="its header is damaged: an entry is no tensor"):
        survey(file)
