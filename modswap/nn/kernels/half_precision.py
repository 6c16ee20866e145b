"""Half precision on machines that have no instructions for it."""

import torch

_CHECKS = {
    torch.bfloat16: "_is_mkldnn_bf16_supported",
    torch.float16: "_is_mkldnn_fp16_supported",
}
# half types without matrix products on this machine's processor: torch imitates them, several times
# slower than float32; read at import, as a compiled graph cannot
IMITATED = frozenset(
    dtype for dtype, name in _CHECKS.items() if not getattr(torch.ops.mkldnn, name, bool)()
)


def imitated(dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether matrix products of a type are slower on this device than those of float32."""
    return device.type == "cpu" and dtype in IMITATED


def slow_autocast(x: torch.Tensor) -> torch.dtype | None:
    """Return the type of autocast, if autocast is on for this device and the type is imitated."""
    kind = x.device.type
    if kind != "cpu" or not torch.is_autocast_enabled(kind):
        return None
    low = torch.get_autocast_dtype(kind)
    return low if imitated(low, x.device) else None
