"""The fit through the whole model."""

import copy
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.errors import ShapeError
from modswap.core.healed.agreement import Agreement
from modswap.core.healed.progress import FitProgress, Fitted
from modswap.ops.heal.fitting.end import EndFit, fit_end
from modswap.ops.heal.fitting.pace import Pace, Watch
from modswap.ops.heal.fitting.resume import ResumeFile
from modswap.ops.heal.measures.agreement import agreement
from modswap.ops.heal.measures.metric import metric_for
from modswap.ops.heal.samples import HeldSamples
from tests.ops.heal.fitting.learners import Learner, drawn, learner

SAMPLES = HeldSamples((drawn(80, 6),))
LEARN, HELD = range(60), range(60, 80)
PACE = Pace(60, batch=20, rate=2e-2)


class Net(nn.Module):
    """A model with several outputs."""

    def __init__(self, site: nn.Module) -> None:
        super().__init__()
        self.norm, self.site, self.last = nn.BatchNorm1d(6), site, nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        hidden = self.site(self.norm(x))
        return {"logits": self.last(hidden), "hidden": hidden, "ids": torch.arange(3)}


def models() -> tuple[Net, Net]:
    torch.manual_seed(0)
    original = Net(nn.Linear(6, 4)).eval()
    model = copy.deepcopy(original)
    model.site = learner()
    return original, model


def judged(original: nn.Module, model: nn.Module) -> Agreement:
    metric = metric_for({"logits": drawn(4, 3)}, "error")
    return agreement(original, model, SAMPLES, HELD, 20, metric)


def changed(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    now = model.state_dict()
    return {name for name in now if not torch.equal(now[name], before[name])}


@pytest.mark.parametrize("everything", [False, True])
def test_the_outputs_learn_to_be_the_originals(everything: bool) -> None:
    original, model = models()
    before, old = copy.deepcopy(model.state_dict()), copy.deepcopy(original.state_dict())
    original.train()

    found = fit_end(
        EndFit(
            original,
            model,
            [model.site],
            SAMPLES,
            LEARN,
            lambda: judged(original, model),
            everything,
        ),
        PACE,
    )

    assert found.before is not None
    assert found.after is not None
    assert found.after.error < 0.5 * found.before.error
    assert judged(original, model) == found.after
    assert (found.stage, found.site, found.steps) == ("end", "", 60)
    assert not changed(original, old)
    assert original.training
    learned = {name for name in before if name.startswith("site.")}
    others = {"norm.weight", "norm.bias", "last.weight", "last.bias"} if everything else set()
    assert changed(model, before) == learned | others


def test_a_fit_that_ctrl_c_stopped_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    def fitted(watch: Watch) -> tuple[Fitted, dict[str, torch.Tensor]]:
        original, model = models()
        fit = EndFit(original, model, [model.site], SAMPLES, LEARN, everything=True)
        return fit_end(fit, PACE, watch), model.state_dict()

    def press(progress: FitProgress) -> None:
        if progress.step == 30:
            signal.raise_signal(signal.SIGINT)

    file = tmp_path / "heal.resume"
    stopped, _ = fitted(Watch(press, ResumeFile(file, {}), every=7))
    resumed, tensors = fitted(Watch(resume=ResumeFile.read(file, {})))
    whole, expected = fitted(Watch())

    assert (stopped.ended, stopped.steps) == ("interrupted", 30)
    assert (resumed.ended, resumed.steps, resumed.loss) == ("all steps", 60, whole.loss)
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_a_model_with_other_outputs_is_refused() -> None:
    original, model = models()
    model.last = nn.Linear(4, 2)

    with pytest.raises(ShapeError, match=r"^logits: output was \(20, 3\), is now \(20, 2\)"):
        fit_end(EndFit(original, model, [model.site], SAMPLES, LEARN), PACE)


def test_the_raw_head_of_a_detector_is_fitted() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.site = Learner()

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            raw = self.site(x)
            boxes, scores = raw[:, :, None].expand(-1, -1, 8), raw[:, :2, None].expand(-1, -1, 8)
            decoded = torch.cat([boxes, scores], 1).detach()  # as after a choice of the best
            return decoded, {"boxes": boxes, "scores": scores, "feats": decoded * 0}

    torch.manual_seed(0)
    original, model = Head().eval(), Head().eval()

    found = fit_end(EndFit(original, model, [model.site], SAMPLES, LEARN), Pace(100, rate=2e-2))

    assert found.loss < 0.5
