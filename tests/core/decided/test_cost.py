"""Costs: sizes as people write them, changes, and limits."""

import pytest

from modswap.core.asked.recipe import Limits
from modswap.core.decided.cost import (
    PassCost,
    compared,
    cost_finding,
    count_text,
    judge_limits,
    limits_of,
    parse_size,
    size_text,
    too_much,
)

OLD = PassCost(1000, 1_200_000_000, 12 << 20, 20 << 20, 80 << 20)
NEW = PassCost(900, 900_000_000, 9 << 20, 20 << 20, 60 << 20)
KNOWN = {"params": 900, "flops": 9e8, "memory": 60 << 20, "latency": 12.5, "kept": 0.9, "drift": 0}


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("8GiB", 8 << 30), ("500 MB", 500_000_000), ("1.5KiB", 1536), ("7B", 7), ("42", 42), (9, 9)],
)
def test_size_is_read_as_people_write_it(text: str | int, nbytes: int) -> None:
    assert parse_size(text) == nbytes


@pytest.mark.parametrize("text", ["", "GiB", "8Gi", "8 PiB", "-1GiB", "8GiB or so"])
def test_what_is_no_size_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="is no size, expected one such as 8GiB") as caught:
        parse_size(text)

    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (1000, "1000 B"),
        (1536, "1.5 KiB"),
        (150 << 20, "150 MiB"),
        (1 << 51, "2048 TiB"),
    ],
)
def test_bytes_are_written_for_people(nbytes: int, text: str) -> None:
    assert size_text(nbytes) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (1_200_000_000, "1.2 G"), (999_900, "1.0 M")]
)
def test_numbers_are_written_for_people(count: int, text: str) -> None:
    assert count_text(count) == text


def test_change_is_written_in_one_line() -> None:
    assert compared(OLD, NEW) == (
        "FLOPs 1.2 G → 900 M (-25 %), activations 12.0 MiB → 9.0 MiB (-25 %), "
        "inference peak 20.0 MiB, kept, training peak 80.0 MiB → 60.0 MiB (-25 %)"
    )


def test_change_from_nothing_has_no_share() -> None:
    nothing = PassCost(0, 0, 0, 0, 0)

    assert "FLOPs 0 → 900 M, activations 0 B → 9.0 MiB, " in compared(nothing, NEW)


def test_finding_holds_both_sides() -> None:
    found = cost_finding("neck", OLD, NEW)

    assert (found.check, found.path, found.status) == ("cost", "neck", "passed")
    assert found.data["before"]["params"] == 1000
    assert found.data["after"]["peak_training"] == 60 << 20


def test_limits_that_are_not_set_are_not_judged() -> None:
    assert limits_of(Limits()) == {}
    assert list(judge_limits(Limits(), KNOWN, {})) == []


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(max_params=900), "parameters 900, limit 900"),
        (Limits(max_flops=10**9), "floating-point operations 900,000,000, limit 1,000,000,000"),
        (Limits(max_memory="60MiB"), "training peak 60.0 MiB, limit 60.0 MiB"),
        (Limits(max_latency=13.0), "milliseconds of one pass 12.5, limit 13"),
        (Limits(min_kept=0.9), "share of the parameters kept 0.9, limit 0.9"),
        (Limits(max_drift=0.0), "distance of the outputs 0, limit 0"),
    ],
)
def test_limit_that_holds_passes_with_both_numbers(limits: Limits, said: str) -> None:
    known = KNOWN | {"flops": 900_000_000}

    (found,) = judge_limits(limits, known, {})

    assert (found.check, found.status, found.what, found.fix) == ("limits", "passed", said, "")


@pytest.mark.parametrize(
    ("limits", "said", "fix"),
    [
        (Limits(max_params=899), "above verify.limits.max_params 899", "raise"),
        (Limits(max_memory="59MiB"), "60.0 MiB, above verify.limits.max_memory 59.0 MiB", "raise"),
        (Limits(max_latency=1.0), "12.5, above verify.limits.max_latency 1", "raise"),
        (Limits(min_kept=0.95), "0.9, below verify.limits.min_kept 0.95", "lower"),
    ],
)
def test_limit_that_does_not_hold_fails_with_both_numbers(
    limits: Limits, said: str, fix: str
) -> None:
    (found,) = judge_limits(limits, KNOWN, {})

    assert found.status == "failed"
    assert said in found.what
    assert f"; or {fix} `verify.limits." in found.fix


def test_limit_on_what_is_not_known_is_skipped_with_the_reason() -> None:
    (found,) = judge_limits(Limits(max_drift=0.1), {}, {"drift": "no weight was read"})

    assert (found.status, found.what) == ("skipped", "distance of the outputs: no weight was read")


def test_too_much_names_both_sides_and_the_source() -> None:
    assert too_much(7 << 30, 1 << 30, "--max-memory", "(1, 3) eval") == (
        "the pass (1, 3) eval would take 7.0 GiB, --max-memory is 1.0 GiB"
    )
