"""`benchmarks/gpu.py`, as far as it runs without a GPU: comparison, trials, tables, the chooser."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu, gpu_layers
from benchmarks.gpu_clock import Cell
from benchmarks.gpu_layers import LONG, SHORT, TINY, Row, bar_of, failing
from modswap.nn.gpu import evidence
from tests.nn.gpu.interpreter import NO_TRITON, ROOT

ROUTED, MIXED = TINY
GOOD = Cell(1.5, 4.25, 12.0, (6, 20), (0.1, 0.4))
FASTER = Cell(0.5, 2.0)


def arguments(*words: str) -> argparse.Namespace:
    return gpu.arguments(["--device", "cpu", "--interpret", *words])


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name a card that is not there."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")


def test_machine_without_a_gpu_is_said_with_what_runs_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert gpu.main(["--short"]) == gpu.NO_DEVICE

    assert "no GPU here; `--device cpu --interpret` tries" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--interpret"], "--device cpu and --interpret go together"),
        (["--device", "cpu", "--interpret", "--write"], "--write needs a GPU"),
        (["--published", "none.py"], "no such file: none.py"),
    ],
)
def test_wrong_call_ends_before_anything_is_measured(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        gpu.main(words)

    assert why in capsys.readouterr().err


def test_rows_are_those_of_the_short_or_the_long_form() -> None:
    assert set(map(str, SHORT)) < set(map(str, LONG))
    assert len(set(map(str, LONG))) == len(LONG)
    assert [str(r) for r in gpu.rows_of(gpu.arguments(["--only", "512@28 N1 "]))] == [
        "BiLevelRoutingAttention 512@28 N1 bfloat16"
    ]


@pytest.mark.parametrize("row", SHORT, ids=str)
def test_layer_of_each_row_is_one_that_the_fused_way_takes(row: Row) -> None:
    from modswap.nn.gpu.mixed import layer as mixed
    from modswap.nn.gpu.routed import layer as routed

    small = Row(row.layer, row.name, 1, row.dtype, row.side, row.options)
    layer, (x, _) = gpu_layers.ours(small, "meta"), gpu_layers.filled(small, "meta")
    if not row.mixed:
        assert routed._fits(layer, x)
        assert routed._untouched(layer)
    else:
        assert mixed._fits(layer._terms(x))


@pytest.mark.parametrize("row", TINY, ids=str)
def test_way_that_is_right_has_no_fault(row: Row) -> None:
    assert failing(row, "windows", "cpu") == ""


def test_way_that_is_wrong_is_named_with_its_worst_result(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gpu_layers.results

    def shifted(layer: Any, x: Any, grad: Any) -> dict[str, Any]:
        results = found(layer, x, grad)
        if x.dtype == torch.float32:
            results["lepe.bias"] = results["lepe.bias"] * 1.001
        return results

    monkeypatch.setattr(gpu_layers, "results", shifted)

    assert failing(ROUTED, "windows", "cpu") == "WRONG: lepe.bias by 1.0e-03"


def test_way_that_does_not_run_is_named() -> None:
    assert failing(ROUTED, "fused", "cpu") == "not fused at this size"


def test_tf32_is_compared_on_the_windows_that_it_chooses() -> None:
    row = Row(ROUTED.layer, ROUTED.name, 1, "tf32", 4, ROUTED.options)
    layer, (x, _) = gpu_layers.ours(row, "cpu"), gpu_layers.drawn(row, "cpu", 1)
    layer.router.register_forward_hook(lambda _, __, r: r._replace(indices=(r.indices + 1) % 4))

    exact = gpu_layers.exact_layer(row, layer, x)

    assert torch.equal(
        exact(x.double(), return_routing=True)[1].indices, layer(x, return_routing=True)[1].indices
    )


def test_bars_are_wider_for_sums_over_all_pixels() -> None:
    row = Row("ACmix", "64@56", 1, "float32", 56)

    assert [bar_of(row, n) for n in ("output", "input", "fc.weight")] == [2e-6, 2e-6, 3e-5]
    assert bar_of(row, "conv_p.weight") == pytest.approx(1.5e-4)


def test_process_that_ends_badly_is_a_fault_of_its_way_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import sys; sys.exit('an illegal access')\n")
    monkeypatch.setattr(gpu, "__file__", str(broken))

    found = gpu.fault_in_process((0, "fused"), arguments(), float("inf"))

    assert found == "ended with 1: an illegal access"
    assert gpu.fault_in_process((0, "fused"), arguments(), 0.0) == gpu.NO_TIME


def test_way_with_a_fault_is_not_timed_and_others_are() -> None:
    cells = gpu.measure(
        MIXED, arguments(), {"windows": "", "fused": "WRONG: output by 1.0e+00"}, float("inf")
    )

    assert list(cells) == ["published", "windows", "fused", "floor"]
    assert str(cells["fused"]) == "WRONG: output by 1.0e+00"
    assert {n for n, c in cells.items() if c.forward} == {"published", "windows", "floor"}


def test_nothing_is_timed_when_the_time_is_over() -> None:
    cells = gpu.measure(MIXED, arguments(), {}, until=0.0)

    assert {c.error for c in cells.values()} == {gpu.NO_TIME}


def test_table_has_the_times_of_each_column() -> None:
    text = gpu.table([(ROUTED, {"published": GOOD, "windows": Cell(error="x"), "fused": FASTER})])

    assert text.splitlines()[-1] == (
        "| BiLevelRoutingAttention 16@4 N1 float32 | 1.500 / – / – / 0.500 / – / – "
        "| 4.250 / – / – / 2.000 / – / – | 12 / – / – / 0 / – / – |"
    )
    assert str(GOOD) == "1.500/4.250 (12 MiB, 6/20 launches, host 0.10/0.40)"


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize("row", TINY, ids=str)
def test_written_row_is_the_one_by_which_the_way_is_chosen(
    row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "measured.json"
    for cells in ({"windows": FASTER, "fused": GOOD}, {"windows": GOOD, "fused": FASTER}):
        new = gpu.table_row(row, cells)
        assert new is not None
        gpu.write(new, file)  # the second replaces the first

    (stored,) = json.loads(file.read_text())["rows"]
    assert set(stored) == set(evidence.KEYS)
    monkeypatch.setattr(evidence, "ROWS", evidence.read_rows(file))
    call = gpu.call_of(row)
    assert evidence.faster(call, "sm_90")
    assert not evidence.faster(call, "sm_80")


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize(
    ("row", "cells"),
    [
        (ROUTED, {"windows": GOOD, "fused": Cell(error="WRONG: output by 1.0e+00")}),
        (Row(ROUTED.layer, "16@4", 1, "tf32", 4, ROUTED.options), {"windows": GOOD, "fused": GOOD}),
    ],
)
def test_what_was_not_compared_is_not_written(row: Row, cells: dict[str, Cell]) -> None:
    assert gpu.table_row(row, cells) is None


def test_default_table_is_that_of_the_package() -> None:
    assert gpu.arguments(["--write"]).write == str(gpu.TABLE) == str(evidence.TABLE)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [TINY, (MIXED,)], ids=["whole", "ACmix"])
def test_run_with_the_interpreter(rows: tuple[Row, ...]) -> None:
    pytest.importorskip("triton", reason=NO_TRITON)
    pytest.importorskip("numpy", reason=NO_TRITON)

    only = ["--only", rows[0].layer] if len(rows) == 1 else []
    run = subprocess.run(
        [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--interpret", *only],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )  # fmt: skip

    lines = run.stdout.splitlines()
    assert run.returncode == 0, run.stderr
    assert lines[0].startswith("no GPU, Triton's interpreter, torch ")
    for row in rows:
        (line,) = (one for one in lines if one.startswith(f"{row}: "))
        cells = dict(one.split(" ", 1) for one in line.removeprefix(f"{row}: ").split(" | "))
        failed = {n: cell for n, cell in cells.items() if "launches" not in cell}
        assert failed == {}, run.stderr
        assert ("compiled" in cells) is row.compiled
    assert "forward ms: published / compiled / windows / fused" in run.stdout
