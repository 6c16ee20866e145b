"""Wishes for a healing are refused where they make no sense."""

from typing import Any

import pytest

from modswap.core.asked.healing import HealingRequest, stages_of
from modswap.core.errors import UsageError


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"damp": 0.5}, "damp: 0.5 is no number from 1 to inf"),
        ({"steps": 0}, "steps: 0 is no whole number from 1 to inf"),
        ({"steps": True}, "steps: True is no whole number"),
        ({"until": 1.5}, "until: 1.5 is no number from 0 to 1"),
        ({"size": (7,) * 3}, "--size: (7, 7, 7) is no height and width of pictures up to"),
        ({"mean": 0.5}, "--mean: mean is given, and std is not"),
        ({"mean": 0.5, "std": 0.0}, "--std: 0.0 is no deviation of pixels in 0 to 1"),
        ({"stages": "close"}, "--stages: there is no stage 'close'; did you mean 'closed'?"),
        ({"stages": ","}, "--stages: no stage is named"),
    ],
)
def test_wrong_wish_is_refused(wishes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        HealingRequest(**wishes)

    assert str(caught.value).startswith(said)


def test_one_side_is_that_of_a_square_and_stages_are_in_order() -> None:
    request = HealingRequest(size=32, mean=0.5, std=(0.2,), stages="closed, inherit")  # type: ignore[arg-type] # as options give them

    assert (request.size, request.mean, request.std) == ((32, 32), (0.5,), (0.2,))
    assert request.stages == stages_of(["inherit", "closed"]) == ("inherit", "closed")
    assert HealingRequest(steps=7).fit_steps == 7
