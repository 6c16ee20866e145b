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


def test_part_of_more_elements_than_bytes_is_refused(tmp_path: Path) -> None:
    """A tensor without strides would take 8 GiB on 12 bytes."""
    dcp: Any = torch.distributed.checkpoint
    with warnings.catch_warnings(action="ignore"):
        dcp.save({"model": {"a": torch.ones(3)}}, checkpoint_id=tmp_path, no_dist=True)
    metadata = read_distributed(tmp_path).metadata
    tensor = metadata.state["state_dict_metadata"]["model.a"]
    huge = Instance("called", SIZE, ((1 << 31,),))
    tensor.state["size"] = tensor.state["chunks"][0].state["sizes"] = huge
    (tmp_path / METADATA).write_bytes(write_pickle(metadata)[0])

    with pytest.raises(CheckpointError, match="fewer bytes than its 2,147,483,648 elements"):
        read_distributed(tmp_path)
