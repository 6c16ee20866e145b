"""Agreements: their order, and what a value on few samples shows."""

import pytest

from modswap.core.healed.agreement import Agreement


def test_an_agreement_has_no_confident_half_unless_it_is_given() -> None:
    assert Agreement("cosine", 0.5).confident is None


@pytest.mark.parametrize(("right", "count", "shown"), [(100, 100, 0.974), (512, 512, 0.995)])
def test_lower_bound_is_that_of_few_samples(right: int, count: int, shown: float) -> None:
    found = Agreement("top-1", right / count, count=count)

    assert found.lower_bound() == pytest.approx(shown, abs=5e-4)


def test_smaller_error_decides_between_agreements_of_one_value() -> None:
    one, other = Agreement("top-1", 0.5, error=0.1), Agreement("top-1", 0.5, error=0.2)

    assert one.better_than(other)
    assert not other.better_than(one)
    assert not one.better_than(one)
