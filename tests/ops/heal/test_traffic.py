"""The formulas of the traffic between processes are those of a real run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import heal_traffic
from tests.ops.heal import torchrun
from tests.ops.heal.nets import CHANNELS, new_module

STEPS = 10  # after as many without improvement a fit ends


@pytest.mark.slow
def test_traffic_of_four_processes_is_that_of_the_formulas(tmp_path: Path) -> None:
    out = tmp_path / "traffic.json"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    line = [*launcher, "--nproc-per-node=4", "-m", "tests.ops.heal.counting", str(out)]
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=240, env=torchrun.environment(), check=False
    )
    assert done.returncode == 0, done.stderr

    found = json.loads(out.read_text())
    few = {name: nbytes.pop("objects") for name, nbytes in found.items() if "objects" in nbytes}
    parameters = sum(each.numel() for each in new_module("BRA").parameters())
    values = CHANNELS * 8 * 8
    heads = 2
    site = heal_traffic.Site(CHANNELS, CHANNELS, 9 + heads, CHANNELS, parameters, values)

    assert found["closed"] == heal_traffic.closed(site)
    assert found["error"] == heal_traffic.error(site)
    assert found["norms"] == heal_traffic.norms(CHANNELS)
    assert found["fit"] == found["end"] == heal_traffic.fit(parameters, STEPS)
    assert max(few.values()) < 20_000


def test_formulas_print_what_64_processes_exchange(capsys: pytest.CaptureFixture[str]) -> None:
    heal_traffic.main()
    assert "step of end --all --shard" in capsys.readouterr().out
    assert heal_traffic.ring(100, 4) == 150
    assert heal_traffic.parts(25, 4) == 225
