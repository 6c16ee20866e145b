"""A second way for GPUs: Triton programs that work on a whole map, and the choice between ways."""

from modswap.nn.gpu.way import gpu_way

__all__ = ["gpu_way"]
