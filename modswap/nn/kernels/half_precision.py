"""Half precision on machines that have no instructions for it."""

import torch

_CHECKS = {
    torch.bfloat16: "_is_mkldnn_bf16_supported",
    torch.float16: "_is_mkldnn_fp16_supported",
}
# half types whose matrix products this machine's processor only imitates, several times slower
# than those of float32; asked once, for a compiler cannot
IMITATED = frozenset(
    dtype for dtype, name in _CHECKS.items() if not getattr(torch.ops.mkldnn, name, bool)()
)


def imitated(dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether matrix products of a type are slower there than those of float32."""
    return device.type == "cpu" and dtype in IMITATED


def slow_autocast(x: torch.Tensor) -> torch.dtype | None:
    """Return the type that autocast asks for, if it is on for this device and only imitated."""
    kind = x.device.type
    if kind != "cpu" or not torch.is_autocast_enabled(kind):
        return None
    low = torch.get_autocast_dtype(kind)
    return low if imitated(low, x.device) else None
