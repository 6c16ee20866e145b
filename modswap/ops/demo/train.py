"""Train the network of the demonstration and measure its accuracy."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from modswap.ops.demo.data import CLASSES, Scenes

BATCH_SCENES = 32
LEARNING_RATE = 6e-3  # peak learning rate
FOREGROUND_WEIGHT = 3.0  # weight of a digit's pixel against one of the background


def train(
    network: nn.Module,
    scenes: Scenes,
    steps: int,
    *,
    parameters: Iterable[nn.Parameter] | None = None,
    rate: float = LEARNING_RATE,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Train a network in place for `steps` batches of 32 scenes; return the optimizer's state.

    The network ends in evaluation mode. None trains all parameters; `rate` is the peak learning
    rate, and `progress` gets a line every 20 steps.
    """
    chosen = list(network.parameters() if parameters is None else parameters)
    optimizer = torch.optim.AdamW(chosen, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=max(steps, 2))
    weight = torch.tensor([1.0] + [FOREGROUND_WEIGHT] * (CLASSES - 1))
    generator = torch.Generator().manual_seed(0)
    network.train()
    for step in range(steps):
        batch = torch.randint(len(scenes.images), (BATCH_SCENES,), generator=generator)
        loss = nn.functional.cross_entropy(
            network(scenes.images[batch]), scenes.labels[batch], weight
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 19:
            progress(f"step {step + 1} of {steps}, loss {loss.item():.3f}")
    network.eval()
    return optimizer.state_dict()


@torch.no_grad()
def accuracy(network: nn.Module, scenes: Scenes) -> float:
    """Return the share of the digits' pixels that get their own digit, from 0 to 1."""
    network.eval()
    right = total = 0
    for images, labels in zip(scenes.images.split(64), scenes.labels.split(64), strict=True):
        found = network(images).argmax(1)  # (N, H, W)
        ink = labels > 0
        right += int((found == labels)[ink].sum())
        total += int(ink.sum())
    return right / max(total, 1)
