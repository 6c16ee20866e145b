"""Times of real passes."""

import pytest
import torch

from modswap.ops.measure import timing


def test_the_clock_waits_for_devices_that_work_behind_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)

    timing._clock({torch.device("cuda:1"), torch.device("cpu"), torch.device("meta")})

    assert waited == [torch.device("cuda:1")]
