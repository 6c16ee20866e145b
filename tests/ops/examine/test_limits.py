"""Limits of a recipe that a swapped model keeps or passes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from modswap.core.asked.job import Job
from modswap.core.errors import ShapeError
from modswap.core.kept.outcome import Outcome
from modswap.ops.examine.table import examination_names
from modswap.ops.jobs.replace import check_file, replace_file
from tests.ops.measure.test_cost import findings, job, recipe

LIMITS = {
    "max_params": ("1000000", "10"),
    "max_flops": ("1000000000", "10"),
    "max_memory": ("1GiB", "100KB"),
    "max_latency": ("100000.0", "0.000001"),
    "min_kept": ("0.05", "0.99"),
    "max_drift": ("100.0", "0.0"),
}


@pytest.mark.each_once
@pytest.mark.parametrize("command", [check_file, replace_file])
@pytest.mark.parametrize("name", LIMITS)
def test_limit_passes_and_fails(
    name: str, command: Callable[[Job], Outcome], tmp_path: Path
) -> None:
    others = ", ".join(row for row in examination_names() if row != "limits")
    held, broken = (
        command(
            job(tmp_path, recipe(more=f"verify: {{skip: [{others}], limits: {{{name}: {limit}}}}}"))
        )
        for limit in LIMITS[name]
    )

    assert held.ok
    assert [found.status for found in findings(held, "limits")] == ["passed"]
    assert isinstance(broken.error, ShapeError)
    assert f"verify.limits.{name}" in broken.error.what
    assert broken.error.fix


@pytest.mark.parametrize(("more", "status"), [("", "failed"), (", optional: [limits]", "skipped")])
def test_a_limit_that_cannot_be_computed_fails_unless_it_is_optional(
    more: str, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modswap.ops.examine.limits.costs_of", int)  # raises
    others = ", ".join(row for row in examination_names() if row != "limits")
    verify = f"verify: {{skip: [{others}], limits: {{max_flops: 100}}{more}}}"

    (found,) = findings(check_file(job(tmp_path, recipe(more=verify))), "limits")

    assert (found.status, "TypeError" in found.what) == (status, True)
    assert ("optional: [limits]" in found.fix) is (status == "failed")
