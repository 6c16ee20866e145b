"""The inputs that a healing learns from."""

import torch

from modswap.ops.heal.samples import HeldSamples


def test_batches_hold_the_chosen_samples_in_their_order() -> None:
    samples = HeldSamples(
        (torch.arange(6.0).view(6, 1),),
        kwargs={"mask": torch.arange(6) % 2},
        labels=torch.arange(6) * 10,
    )
    batch = samples.batch([4, 1])
    assert samples.count == 6
    assert batch.args[0].tolist() == [[4.0], [1.0]]
    assert batch.kwargs["mask"].tolist() == [0, 1]
    assert batch.labels.tolist() == [40, 10]
    assert HeldSamples(()).count == 0
