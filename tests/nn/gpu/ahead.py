"""Triton programs compiled for cards that are not there, with what they need of a multiprocessor.

The launches are those of a real call: it runs on the meta device, and every launch is recorded in
place of being run.
"""

import re
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from modswap.nn.gpu.launches import KernelLaunch

TYPES = {
    torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.int32: "i32",
    torch.int64: "i64", torch.uint8: "u8",
}  # fmt: skip
FIRST_WAY = ("forward_kernel", "query_grad_kernel", "key_grad_kernel", "weight_grad_kernel")
OPTIONS = ("num_warps", "num_stages")


@dataclass(frozen=True)
class Compiled:
    """The needs of a compiled program."""

    registers: int
    spilled: int  # bytes of a thread that did not fit its registers
    shared: int  # bytes
    dots: int  # instructions of tensor cores


Recorded = tuple[KernelLaunch, tuple[Tensor, ...]]


def routed_launches(
    dtype: Any, shape: tuple[int, int, int, int], heads: int, n_win: int, topk: int, side: int
) -> list[Recorded]:
    """Return the launches of a forward and backward pass of bi-level routing attention."""
    from modswap.nn.gpu.routed.passes import MapTensors, Setting, backward, forward

    N, H, W, C = shape
    x, qkv = (torch.empty(N, H, W, k, dtype=dtype, device="meta") for k in (C, 3 * C))
    weight, bias = (torch.empty(s, dtype=dtype, device="meta") for s in ((3 * C, C), (3 * C,)))
    lepe, lepe_bias = (
        torch.empty(s, dtype=dtype, device="meta") for s in ((C, 1, side, side), (C,))
    )
    given = MapTensors(x, qkv, weight, bias, lepe, lepe_bias)
    windows = (H // n_win, W // n_win, n_win, n_win)
    setting = Setting(heads, C, windows, topk, C**-0.5, masked=False)
    with Recording() as found:
        result = forward(given, setting, kept=True)
        backward(result.out, given, setting, result)
    return found.launches


def mixed_launches(
    dtype: Any, shape: tuple[int, int, int, int], heads: int, window: int
) -> list[Recorded]:
    """Return the launches of a forward and backward pass of ACmix."""
    from modswap.nn.gpu.mixed.passes import MixSetting, MixTensors, backward, forward

    N, H, W, C = shape
    given = MixTensors(
        torch.empty(N, H, W, 3 * C, dtype=dtype, device="meta"),
        torch.empty(H * W, C // heads, dtype=dtype, device="meta"),
        torch.empty(3 * heads, 3, 3, C, device="meta"),
        torch.empty(1, dtype=dtype, device="meta"),
    )
    setting = MixSetting(heads, window, 1)
    with Recording() as found:
        result = forward(given, setting, kept=True)
        backward(result.out, given, setting, result)
    return found.launches


def window_launches(
    dtype: Any, windows: int, length: int, channels: int, topk: int
) -> list[Recorded]:
    """Return the launches of the first way: attention of windows that are cut out, one head."""
    from modswap.nn.routed_attention import triton_kernel

    q, k, v = (torch.empty(windows, length, channels, dtype=dtype, device="meta") for _ in "qkv")
    indices = torch.empty(windows, topk, dtype=torch.int64, device="meta")
    weights = torch.empty(windows, topk, device="meta")
    mask = torch.empty(windows, length, dtype=torch.bool, device="meta")
    found: list[Recorded] = []
    with ExitStack() as stack:
        for name in FIRST_WAY:
            noted = _Noted(getattr(triton_kernel, name), found)
            stack.enter_context(patch.object(triton_kernel, name, noted))
        out, lse = triton_kernel.forward(q, k, v, indices, weights, mask, heads=1, scale=0.1)
        triton_kernel.backward(
            out, q, k, v, indices, weights, mask, out, lse, heads=1, scale=0.1, needs_weights=True
        )
    return found


class _Noted:
    """A program of the first way that notes how it is launched."""

    def __init__(self, kernel: Any, launches: list[Recorded]) -> None:
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def note(*values: Any, **constants: Any) -> None:
            tensors = tuple(one for one in values if isinstance(one, Tensor))
            numbers = values[len(tensors) :]
            self.launches.append((KernelLaunch(self.kernel, grid, numbers, constants), tensors))

        return note


class Recording:
    """Records launches in place of running them."""

    def __init__(self) -> None:
        self.launches: list[Recorded] = []

    def __enter__(self) -> "Recording":
        def note(launch: KernelLaunch, *tensors: Tensor) -> None:
            self.launches.append((launch, tensors))

        self.patch = patch.object(KernelLaunch, "__call__", note)
        self.patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.patch.stop()


def compiled(recorded: Recorded, capability: int) -> Compiled:
    """Return the needs of a launch on cards of a compute capability, such as 90."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    launch, _ = recorded
    types, constants, attributes = _signature(recorded)
    options = {name: launch.constants[name] for name in OPTIONS if name in launch.constants}
    built = triton.compile(
        ASTSource(launch.kernel, types, constants, attributes),
        target=GPUTarget("cuda", capability, 32),
        options={**options, "enable_fp_fusion": True},
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(built.asm["cubin"])
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        text = subprocess.run(
            [tool, "-res-usage", file], capture_output=True, text=True, check=True
        ).stdout
    registers, stack = (int(re.search(rf"{n}:(\d+)", text)[1]) for n in ("REG", "STACK"))  # type: ignore[index] # cuobjdump prints both
    dots = sum(built.asm["ptx"].count(name) for name in ("wgmma.mma_async", "mma.sync"))
    return Compiled(registers, stack, built.metadata.shared, dots)


def _signature(recorded: Recorded) -> tuple[dict[str, str], dict[Any, Any], dict[Any, Any]]:
    """Return types, constants and alignments of the arguments, as Triton finds them at a launch."""
    launch, tensors = recorded
    names: list[str] = launch.kernel.arg_names
    values = dict(zip((n for n in names if n not in launch.constants),
                      (*tensors, *launch.numbers), strict=True))  # fmt: skip
    types, constants, attributes = {}, {}, {}
    aligned = [["tt.divisibility", 16]]
    for place, name in enumerate(names):
        value = launch.constants.get(name, values.get(name))
        if isinstance(value, Tensor):
            types[name] = f"*{TYPES[value.dtype]}"
            attributes[(place,)] = aligned
        elif name in launch.constants or (value == 1 and isinstance(value, int)):
            types[name] = "constexpr"
            constants[(place,)] = value
        elif isinstance(value, float):
            types[name] = "fp32"
        else:
            types[name] = "i32" if value < 2**31 else "i64"
            if value % 16 == 0:
                attributes[(place,)] = aligned
    return types, constants, attributes
