"""Payloads of files that are refused: weights whose names are others, or without a model."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.models import Strided, build_gated

Weights = dict[str, Tensor]


def weights() -> Weights:
    """Return the weights of the network with gates."""
    return build_gated().state_dict()


def named(change: Callable[[str], str]) -> Weights:
    """Return the weights under other names."""
    return {change(name): tensor for name, tensor in weights().items()}


def without(begin: str) -> Weights:
    """Return the weights without those of a module."""
    return {name: tensor for name, tensor in weights().items() if not name.startswith(begin)}


def other_classes() -> Weights:
    """Return the weights with a head for other classes."""
    return weights() | {"head.weight": torch.zeros(5, 16, 1, 1), "head.bias": torch.zeros(5)}


class Boxed:
    """A class that is no module."""

    def __init__(self) -> None:
        self.model = nn.Linear(2, 2)


FILES: dict[str, Callable[[], Any]] = {
    "weights": weights,
    "weights, prefix": lambda: named(lambda name: f"backbone.{name}"),
    "weights, two prefixes": lambda: named(lambda name: f"model.net.{name}"),
    "weights, a module renamed": lambda: named(lambda name: name.replace("head.", "classifier.")),
    "weights, all renamed": lambda: named(lambda name: f"x{name}y"),
    "weights, some missing": lambda: without("space_attention.0"),
    "weights, all missing": lambda: without("s") and {"a": torch.zeros(2)},
    "weights, other classes": other_classes,
    "two models": lambda: {"g": weights(), "d": Strided().state_dict()},
    "a list": lambda: [1, 2, torch.zeros(3)],
    "no tensors": lambda: {"epoch": 3},
    "boxed": Boxed,
    "model and a box": lambda: {"model": build_gated(), "box": Boxed()},
}
