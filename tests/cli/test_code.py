"""The command that shows the changed source of a model.

Covers: commands.code.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from modswap.cli.app import run
from modswap.ops.code import job
from modswap.ops.demo.network import build_network
from tests.ops.code.cases import proved_here

MODEL = ("--model", "modswap.ops.demo.network:build_network(base_width=4)")
ADDED = """\
+        self.channel_attention = ACmix(in_planes=widths[-1], out_planes=widths[-1])
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.save(build_network(base_width=4), "unetpp.pt")
    return tmp_path


def test_diff_is_printed_and_its_proof_beside_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "prove", proved_here)
    rule = ("--match", "channel_attention", "--with", "ACmix", "--input", "1,3,128,128")

    assert run(["code", "unetpp.pt", *rule, *MODEL]) == 0

    said = capsys.readouterr()
    assert said.out.startswith("--- ")
    assert ADDED in said.out
    assert said.out.count("\n+") == 3
    assert "OK  1 site in 1 file: modswap.ops.demo.network:build_network(base_width=4) of the" in (
        said.err
    )
    assert run(["code", "unetpp.pt", *rule, *MODEL, "-v"]) == 0
    assert "… proving the change in a fresh process" in capsys.readouterr().err
    assert run(["code", "unetpp.pt", *rule, *MODEL, "-q", "--no-color"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.ci
def test_demo_by_its_recipe(folder: Path) -> None:
    recipe = Path(__file__).parents[2] / "configs" / "unetpp_bra_shared.yaml"
    command = [sys.executable, "-m", "modswap", "code", "unetpp.pt", "-c", str(recipe), *MODEL]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "+        self.space_attention = self.channel_attention\n" in done.stdout
    assert "outputs 0 apart" in done.stderr
