"""Parts of distributed checkpoints that say more elements than their bytes can hold."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint

from modswap.core.errors import CheckpointError
from modswap.io.formats.distributed.metadata import METADATA, SIZE, read_distributed
from modswap.io.pickled.data import Instance
from modswap.io.pickled.writing import write_pickle


def saved(folder: Path, value: Any) -> Instance:
    """Save a checkpoint; return its metadata as data."""
    dcp: Any = torch.distributed.checkpoint
    with warnings.catch_warnings(action="ignore"):
        dcp.save({"model": value}, checkpoint_id=folder, no_dist=True)
    return read_distributed(folder).metadata


def share(metadata: Instance, name: str, count: int) -> None:
    """Let further items of the metadata be in the bytes of one."""
    tensors, storage = metadata.state["state_dict_metadata"], metadata.state["storage_data"]
    places = [(key, info) for key, info in storage.items() if key.state["fqn"] == name]
    for number in range(count):
        tensors[f"{name}{number}"] = tensors[name]
        for key, info in places:
            state = {**key.state, "fqn": f"{name}{number}"}
            storage[Instance(key.how, key.what, key.args, state)] = info


@pytest.mark.parametrize(("count", "refused"), [(3, False), (40, True)])
def test_tensors_that_share_bytes_are_bounded_together(
    count: int, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modswap.core.budget.MAX_EXPANDED_BYTES", 0)
    metadata = saved(tmp_path, {"a": torch.ones(1000)})
    share(metadata, "model.a", count)
    (tmp_path / METADATA).write_bytes(write_pickle(metadata)[0])

    if refused:
        with pytest.raises(CheckpointError, match="more memory than the file can account for"):
            read_distributed(tmp_path)
    else:
        assert sum(item.nbytes for item in read_distributed(tmp_path).tensors) == 4 * 4000


@pytest.mark.parametrize(("count", "refused"), [(1, False), (40, True)])
def test_objects_that_share_bytes_are_bounded_together(
    count: int, refused: bool, tmp_path: Path
) -> None:
    metadata = saved(tmp_path, {"a": torch.ones(1), "b": {"text": "x" * 1000, "set": {1}}})
    name = next(name for name in metadata.state["state_dict_metadata"] if "b" in name)
    share(metadata, name, count)
    (tmp_path / METADATA).write_bytes(write_pickle(metadata)[0])

    if refused:
        with pytest.raises(CheckpointError, match="share the bytes of its files over and over"):
            read_distributed(tmp_path)
    else:
        assert read_distributed(tmp_path).items


def test_part_of_more_elements_than_bytes_is_refused(tmp_path: Path) -> None:
    """A tensor without strides would take 8 GiB on 12 bytes."""
    metadata = saved(tmp_path, {"a": torch.ones(3)})
    tensor = metadata.state["state_dict_metadata"]["model.a"]
    huge = Instance("called", SIZE, ((1 << 31,),))
    tensor.state["size"] = tensor.state["chunks"][0].state["sizes"] = huge
    (tmp_path / METADATA).write_bytes(write_pickle(metadata)[0])

    with pytest.raises(CheckpointError, match="fewer bytes than its 2,147,483,648 elements"):
        read_distributed(tmp_path)
