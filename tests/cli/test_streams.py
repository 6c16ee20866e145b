"""Standard streams that are closed or full, by real processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[2]
RECIPE = """\
version: 1
inputs: [{shape: [2, 8, 16, 16]}]
replace: [{match: '0', with: ECA}]
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the system has no /dev/full")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    torch.save(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1)), folder / "net.pt")
    (folder / "swap.yaml").write_text(RECIPE)
    return folder


def shell(folder: Path, redirected: str) -> "subprocess.CompletedProcess[str]":
    """Run the command with redirections of a shell."""
    return subprocess.run(
        ["sh", "-c", f"{sys.executable} -m modswap {redirected}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.one_in(2)
@pytest.mark.parametrize("command", ["tree net.pt", "schema", "--version", "--help", "tree --help"])
def test_full_standard_output_is_an_error(folder: Path, command: str) -> None:
    what = "error: standard output: it cannot be written: No space left on device"
    fix = "make room there, or name a file by `--report`"

    done = shell(folder, f"{command} > /dev/full")

    assert (done.returncode, done.stderr) == (3, f"{what}\n  fix: {fix}\n")


@pytest.mark.slow
@pytest.mark.ci
def test_full_standard_output_leaves_a_written_file(folder: Path) -> None:
    done = shell(folder, "replace net.pt -c swap.yaml -o out.pt --no-forward > /dev/full")

    assert done.returncode == 3
    assert "bug" not in done.stderr
    assert (folder / "out.pt").exists()


@pytest.mark.one_in(2)
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", ">&- 2>&- <&-", "2>&-"])
def test_closed_output_is_written_nowhere(folder: Path, closed: str) -> None:
    before = (folder / "net.pt").read_bytes()

    done = shell(folder, f"tree net.pt {closed}")

    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "net.pt").read_bytes() == before


def test_closed_standard_input_holds_no_recipe(folder: Path) -> None:
    done = shell(folder, "check net.pt -c - <&-")

    assert done.returncode == 2
    assert "it is empty" in done.stdout + done.stderr


@pytest.mark.each_once
@pytest.mark.parametrize("unheard", ["2> /dev/full", "2>&-"])
@pytest.mark.parametrize(
    ("command", "code"), [("tree absent.pt", 3), ("treee net.pt", 2), ("tree net.pt --verbose", 0)]
)
def test_exit_code_stays_where_nobody_hears_the_error(
    folder: Path, command: str, code: int, unheard: str
) -> None:
    done = shell(folder, f"{command} {unheard}")

    assert done.returncode == code
    assert done.stderr == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_line_is_shown_as_soon_as_it_is_written(unbuffered: str) -> None:
    program = "import os, sys\nfrom modswap.cli.streams import use_own_streams\nuse_own_streams()\n"
    program += "sys.stderr.write('first\\n')\nos.write(2, b'second\\n')\n"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stderr == "first\nsecond\n"
