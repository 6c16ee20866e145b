"""The devices of a model, so that inputs, autocast and clocks use the same ones."""

from collections.abc import Iterable

import torch
from torch import nn

from modswap.core.errors import UsageError
from modswap.ops.run.describe import one_line

CPU = torch.device("cpu")
NAMED = ("cpu", "cuda", "mps")  # kinds that `--device` takes, as they compute values


def device_asked(name: str) -> torch.device:
    """Return the device of a name that the user gave.

    Raises:
        UsageError: If it is the name of no device that this machine has and that computes values.
    """
    try:
        device = torch.device(name)
        if device.type not in NAMED:
            raise RuntimeError(f"no model is run on {device.type}")  # noqa: TRY301 - made a UsageError below
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        what = f"device {name!r:.40} cannot be used: {one_line(error, 120)}"
        fix = f"name a device of this machine: {', '.join(devices_here())}"
        raise UsageError(what, "--device", fix) from error
    return device


def devices_here() -> tuple[str, ...]:
    """Return the names of the devices of this machine that torch computes on."""
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    others = ["mps"] if torch.backends.mps.is_available() else []
    return ("cpu", *(f"cuda:{n}" for n in range(cards)), *others)


def devices_of(model: nn.Module) -> tuple[torch.device, ...]:
    """Return the devices of a model's parameters and buffers, in their order; the CPU if none."""
    tensors = (*model.parameters(), *model.buffers())
    return tuple(dict.fromkeys(tensor.device for tensor in tensors)) or (CPU,)


def device_of(model: nn.Module) -> torch.device:
    """Return the device where a model takes its inputs: that of its first tensor."""
    return devices_of(model)[0]


def is_without_data(model: nn.Module) -> bool:
    """Return whether tensors of a model are on the meta device, which computes no values."""
    return any(device.type == "meta" for device in devices_of(model))


def autocast_type(device: torch.device) -> str:
    """Return the device type for `torch.autocast`: the device's own where torch has autocast."""
    return device.type if torch.amp.is_autocast_available(device.type) else CPU.type


def synchronize(devices: Iterable[torch.device]) -> None:
    """Wait until devices have finished their work; the CPU and the meta device always have."""
    for device in devices:
        if device.type not in {CPU.type, "meta"}:
            torch.accelerator.synchronize(device)
