"""What each rank does: saving a sharded model and optimizer, or loading a swapped one.

Run by `torchrun`: `ranks.py save FOLDER` or `ranks.py load FOLDER RECIPE OUT`.
"""

import os
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import modswap
from tests.models import GatedNet

dcp: Any = torch.distributed.checkpoint


def sharded(model: nn.Module) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Spread a model over the ranks, two of its parts on their own."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    fully_shard(model.get_submodule("stem"), mesh=mesh)
    fully_shard(model, mesh=mesh)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    return model, torch.optim.AdamW(groups, lr=0.01)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    """Train one step."""
    optimizer.zero_grad()
    torch.manual_seed(dist.get_rank())
    loss = model(torch.randn(2, 3, 28, 28)).square().mean()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer, *, flat: bool) -> dict[str, Any]:
    """Return what is saved: nested as in torch's recipes, or flat as torchtitan has it."""
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    weights = get_model_state_dict(model)
    moments = get_optimizer_state_dict(model, optimizer, options=options)
    if flat:
        return {**weights, "optimizer": moments}
    return {"app": {"model": weights, "optim": moments}}


def save(folder: Path) -> None:
    """Train two steps and save in both forms."""
    torch.manual_seed(0)
    model, optimizer = sharded(GatedNet())
    step(model, optimizer)
    step(model, optimizer)
    for form in ("nested", "flat"):
        more = {"train": {"step": 2, "names": ["a", "b"]}}
        state = {**state_of(model, optimizer, flat=form == "flat"), **more}
        dcp.save(state, checkpoint_id=folder / form)


def load(folder: Path, recipe: Path, out: Path) -> None:
    """Load both forms into the swapped model, keep what was loaded, and train one step."""
    seen = {}
    for form in ("nested", "flat"):
        flat = form == "flat"
        torch.manual_seed(1)
        swapped = modswap.apply_recipe(GatedNet(), modswap.read_recipe(recipe))
        model, optimizer = sharded(swapped)
        state = {**state_of(model, optimizer, flat=flat), "train": {"step": 0, "names": []}}
        dcp.load(state, checkpoint_id=folder / form)
        held = state["optimizer"] if flat else state["app"]["optim"]
        bare = {name: value for name, value in state.items() if torch.is_tensor(value)}
        weights: dict[str, Any] = bare if flat else state["app"]["model"]
        set_model_state_dict(model, weights)
        options = StateDictOptions(flatten_optimizer_state_dict=flat)
        set_optimizer_state_dict(model, optimizer, held, options=options)
        whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
        seen[form] = {
            # copies: on one rank these are the tensors that the step changes
            "model": deepcopy(get_model_state_dict(model, options=whole)),
            "optim": deepcopy(get_optimizer_state_dict(model, optimizer, options=whole)),
            "train": state["train"],
        }
        seen[form]["loss"] = step(model, optimizer)
    if dist.get_rank() == 0:
        torch.save(seen, out)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    if sys.argv[1] == "save":
        save(Path(sys.argv[2]))
    else:
        load(*map(Path, sys.argv[2:5]))
    dist.barrier()  # nobody leaves while another still asks for something
    dist.destroy_process_group()
    # the interpreter's own end now and then aborts in a thread that torch leaves behind
    sys.stdout.flush()
    os._exit(0)
