"""A small module that learns a linear map, and a process that fits it and can be killed."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modswap.core.healed.agreement import Agreement
from modswap.core.healed.progress import FitProgress
from modswap.ops.heal.fitting.local import LocalFit, fit_local
from modswap.ops.heal.fitting.pace import Pace, Watch
from modswap.ops.heal.fitting.resume import ResumeFile

COUNT, STEPS = 64, 40
JOB = {"steps": STEPS, "seed": 3}


class Learner(nn.Module):
    """A module with a norm, whose statistics move, and dropout, which draws."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(6, 12), nn.BatchNorm1d(12)
        self.drop, self.last = nn.Dropout(0.1), nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.last(self.drop(self.norm(self.first(x)).relu()))
        return made


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


X, MAP = drawn(COUNT, 6), drawn(6, 4, seed=1)
Y = X @ MAP


def learner() -> Learner:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Learner().eval()


def pairs(indices: Sequence[int]) -> list[tuple[Any, Any, Any]]:
    index = torch.as_tensor(indices)
    return [((X[index],), {}, Y[index])]


def judged(module: nn.Module) -> Agreement:
    training = [each.training for each in module.modules()]
    module.eval()
    with torch.no_grad():
        error = float((module(X) - Y).pow(2).mean() / Y.var())
    for each, flag in zip(module.modules(), training, strict=True):
        each.training = flag
    return Agreement("explained variance", 1 - error, error=error)


def fit_of(module: nn.Module, **further: Any) -> LocalFit:
    return LocalFit("site", module, module, pairs, range(COUNT), lambda: judged(module), **further)


PACE = Pace(STEPS, batch=16, seed=3, rate=2e-2)


def main(file: str, out: str, stops: str) -> None:
    """Fit from a resume file where there is one; stop hard, or by Ctrl-C, at a step."""
    how, step = json.loads(stops)
    place = Path(file)
    resume = ResumeFile.read(place, JOB) if place.exists() else ResumeFile(place, JOB)

    def watch(progress: FitProgress) -> None:
        if progress.step >= step:
            os.kill(os.getpid(), how)

    module = learner()
    found = fit_local(fit_of(module), PACE, Watch(watch, resume, every=7))
    torch.serialization.save({"ended": found.ended, "tensors": module.state_dict()}, out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
