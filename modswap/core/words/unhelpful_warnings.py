"""Warnings of torch that ask nothing of the user of a command."""

import warnings

_BEGINNINGS = (
    "Failed to initialize NumPy",  # torch works without it
    "The PyTorch API of nested tensors is in prototype stage",  # of encoders with padding masks
    "enable_nested_tensor is True, but self.use_nested_tensor is False",
)


def ignore_unhelpful_warnings() -> None:
    """Show none of them in this process."""
    for text in _BEGINNINGS:
        warnings.filterwarnings("ignore", text, UserWarning)
