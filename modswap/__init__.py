"""Replace modules inside trained PyTorch models, checked by a dummy forward pass."""

__version__ = "0.1.0"
