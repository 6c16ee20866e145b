"""Optimizers of distributed checkpoints get the parameters of the swapped model."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint

from modswap.core.decided.optimizer import Parameter
from modswap.io.formats.distributed.metadata import Distributed, read_distributed
from modswap.io.formats.distributed.optimizer_state import OptimizerChanges, keep
from modswap.io.pickled.optimizers import Parameters

dcp: Any = torch.distributed.checkpoint
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")

SIZES = {"a": 2, "gate.w": 3, "b": 4}
PARAMETERS = Parameters(
    before=[Parameter(name, (size,)) for name, size in SIZES.items()],
    after=[Parameter("a", (2,)), Parameter("gate.new", (5,)), Parameter("b", (4,))],
    swapped=("gate.",),
)


def saved(folder: Path, state: dict[str, Any]) -> Distributed:
    dcp.save({"optim": state}, checkpoint_id=folder, no_dist=True)
    return read_distributed(folder)


def fresh(done: OptimizerChanges) -> dict[str, Any]:
    """Return the values that are written, by the name of their items."""
    return {
        one.name: torch.load(io.BytesIO(one.data), weights_only=True)  # noqa: TID251 - torch's own view
        for one in done.fresh
    }


def numbered() -> dict[str, Any]:
    moments = enumerate(SIZES.values())
    group = {"lr": 0.1, "params": [0, 1, 2], "param_names": [*SIZES]}
    return {"state": {n: {"avg": torch.ones(size)} for n, size in moments}, "param_groups": [group]}


def test_flat_optimizer_has_state_and_settings_of_each_new_parameter(tmp_path: Path) -> None:
    moments = {f"state.{name}.avg": torch.ones(size) for name, size in SIZES.items()}
    settings = {f"param_groups.{name}.lr": 0.1 for name in SIZES}

    done = keep(saved(tmp_path, {**moments, **settings}), PARAMETERS)

    assert sorted(done.gone) == ["optim.param_groups.gate.w.lr", "optim.state.gate.w.avg"]
    new = fresh(done)
    assert new.keys() == {"optim.state.gate.new.avg", "optim.param_groups.gate.new.lr"}
    assert torch.equal(new["optim.state.gate.new.avg"], torch.zeros(5))
    assert new["optim.param_groups.gate.new.lr"] == 0.1
    assert {one.keys for one in done.fresh} == {
        ("optim", "state.gate.new.avg"),
        ("optim", "param_groups.gate.new.lr"),
    }
    (note,) = done.notes
    assert note == (
        "'optim' was remapped by name: the state of 2 parameters kept, of 1 dropped; "
        "1 new ones start from zeros, as in a fresh optimizer"
    )


def test_names_of_a_group_are_those_of_its_new_parameters(tmp_path: Path) -> None:
    done = keep(saved(tmp_path, numbered()), PARAMETERS)

    new = fresh(done)
    assert new["optim.param_groups.0.params"] == [0, 1, 2]
    assert new["optim.param_groups.0.param_names"] == ["a", "gate.new", "b"]


def test_optimizer_whose_parameters_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    source = saved(tmp_path, numbered())
    (chunk,) = source.items["optim.param_groups.0.params"].chunks
    data = bytearray((tmp_path / chunk.file).read_bytes())
    data[chunk.start : chunk.start + chunk.nbytes] = bytes(chunk.nbytes)
    (tmp_path / chunk.file).write_bytes(data)

    done = keep(source, PARAMETERS)

    assert set(done.gone) == set(source.items)
    assert not done.fresh
    assert done.notes[0].startswith("'optim' was left out")
