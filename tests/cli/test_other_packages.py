"""Rows of the catalogue that other packages bring, installed for real."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from tests.models import GatedNet
from tests.recipes import UNEXAMINED

ROOT = Path(__file__).parents[2]
# the guide's own example
(SHARP,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
RECIPE = """\
version: 1
inputs: [{shape: [1, 3, 28, 28]}]
replace:
  - match: "{space,channel}_attention"
    with: SharpGate
    args: {side: 5}
"""
RECIPE += UNEXAMINED
READ = """\
import modswap, torch
model = modswap.load("out.pt", allow=["tests.models.*", "sharp_gates.*"])
gate = model.space_attention
print(type(gate).__name__, tuple(gate.near.weight.shape), model(torch.ones(1, 3, 28, 28)).shape[1])
"""
# runs commands one after the other, for torch takes its time to be imported
DRIVER = """\
import contextlib, io, json, sys
from modswap.cli.app import run
done = []
for args in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(args)
    done.append((code, out.getvalue(), err.getvalue(), "sharp_gates" in sys.modules))
json.dump(done, sys.stdout)
"""


class Ran(NamedTuple):
    code: int
    out: str
    err: str
    imported: bool


Run = Callable[..., list[Ran]]


def install(folder: Path, code: str, entries: Mapping[str, str]) -> Path:
    """Install a package `sharp-gates` of one module, and return the folder that it is in."""
    listed = "".join(f"{name} = {value}\n" for name, value in entries.items())
    info = "sharp_gates-1.0.dist-info"
    files = {
        "sharp_gates.py": code,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: sharp-gates\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[modswap.modules]\n{listed}",
    }
    record = "".join(
        f"{name},{digest(text)},{len(text.encode())}\n" for name, text in files.items()
    )
    wheel = folder / "sharp_gates-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(name, text)
    site = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    pip += ["--disable-pip-version-check", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True)
    return site


def digest(text: str) -> str:
    coded = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    return "sha256=" + coded.decode().rstrip("=")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run commands beside a package, in a folder that holds a checkpoint and a recipe."""
    torch.manual_seed(0)
    torch.save(GatedNet().eval(), tmp_path / "net.pt")
    (tmp_path / "swap.yaml").write_text(RECIPE)

    def call(site: Path, *commands: str) -> list[Ran]:
        split = [command.split() for command in commands]
        done = python(tmp_path, site, "-c", DRIVER, json.dumps(split))
        assert done.returncode == 0, done.stderr
        return [Ran(*one) for one in json.loads(done.stdout)]

    return call


def python(folder: Path, site: Path, *args: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), str(ROOT)])
    return subprocess.run(
        [sys.executable, *args], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "100"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a sound package."""
    return install(tmp_path_factory.mktemp("sound"), SHARP, {"SharpGate": "sharp_gates:ROW"})


OURS = "--allow tests.models.*"


@pytest.mark.slow
@pytest.mark.ci
def test_installed_row_is_listed_described_and_swapped_in(sound: Path, run: Run) -> None:
    listed, told, swapped = run(
        sound,
        "catalogue",
        "catalogue SharpGate --format json",
        f"replace net.pt -c swap.yaml -o out.pt {OURS}",
    )

    assert "SharpGate" in listed.out
    (entry,) = json.loads(told.out)
    assert [option["name"] for option in entry["options"]] == ["channels", "side"]
    assert swapped.code == 0, swapped.err


@pytest.mark.slow
def test_command_itself_swaps_an_installed_row_in(tmp_path: Path, sound: Path, run: Run) -> None:
    run(sound)
    command = f"-m modswap replace net.pt -c swap.yaml -o out.pt {OURS}"

    swapped = python(tmp_path, sound, *command.split())
    read = python(tmp_path, sound, "-c", READ)

    assert swapped.returncode == 0, swapped.stderr
    assert read.stdout == "SharpGate (16, 1, 5, 5) 2\n", read.stderr


@pytest.mark.slow
def test_weights_import_an_installed_row_only_if_allowed(sound: Path, run: Run) -> None:
    tree = "tree out.safetensors --model tests.models:build_gated --input 1,3,28,28"
    (swapped,) = run(sound, f"replace net.pt -c swap.yaml -o out.safetensors {OURS}")

    refused, told = run(sound, tree, f"{tree} --allow sharp_gates.*")

    assert swapped.code == 0, swapped.err
    assert (refused.code, refused.imported) == (4, False)
    assert "allow it if you trust that code: --allow sharp_gates.*" in refused.err
    assert "SharpGate" in told.out, told.err


@pytest.mark.slow
def test_wrong_argument_of_an_installed_row_is_refused_with_its_place(
    tmp_path: Path, sound: Path, run: Run
) -> None:
    (tmp_path / "swap.yaml").write_text(RECIPE.replace("side", "sides"))

    (done,) = run(sound, f"check net.pt -c swap.yaml {OURS}")

    assert done.code == 2
    assert "swap.yaml:6:12: SharpGate has no argument 'sides'" in done.err
    assert "did you mean 'side'?" in done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        (
            "import nothing_of_the_kind\n",
            "SharpGate",
            "SharpGate = sharp_gates:ROW: the row 'SharpGate' cannot be imported: ModuleNotFound",
        ),
        pytest.param(
            "ROW = 3\n",
            "SharpGate",
            "the entry point 'SharpGate' gives 3, expected the row of that name",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            SHARP,
            "OtherName",
            "the entry point 'OtherName' gives a row named 'SharpGate', expected the row of that",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_broken_row_is_complained_of_and_hides_no_other(
    tmp_path: Path, run: Run, code: str, name: str, message: str
) -> None:
    site = install(tmp_path, code, {name: "sharp_gates:ROW"})

    done = run(site, "catalogue", f"catalogue {name}")

    assert [one.code for one in done] == [0, 2]
    assert "BiLevelRoutingAttention" in done[0].out
    for one in done:
        assert message in one.err
        assert "fix: " in one.err
        assert "Traceback" not in one.err


@pytest.mark.slow
def test_rule_that_names_a_broken_row_is_refused(tmp_path: Path, run: Run) -> None:
    site = install(tmp_path, "ROW = 3\n", {"SharpGate": "sharp_gates:ROW"})

    (done,) = run(site, f"check net.pt -c swap.yaml {OURS}")

    assert done.code == 2
    assert "the entry point 'SharpGate' gives 3" in done.err


@pytest.mark.slow
def test_no_other_package_takes_the_name_of_our_own_row(tmp_path: Path, run: Run) -> None:
    site = install(tmp_path, "ROW = 3\n", {"ECA": "sharp_gates:ROW"})

    (done,) = run(site, "catalogue ECA")

    assert done.code == 0
    assert "Wang et al." in done.out
