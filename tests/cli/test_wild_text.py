"""The real command on files whose names hold line breaks, colours and halves of characters.

Covers: session.
"""

import json
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from modswap.cli.app import run
from modswap.core.asked.patterns import compile_pattern
from tests.recipes import UNEXAMINED
from tests.report.test_tamed import COMMAND

NAMES = ("x\n::error file=a.py::pwned\n::stop-commands::t", "\x1b[8mhidden", "ga\ud800te\udcff")
RECIPE = f"""\
version: 1
inputs: [{{shape: [1, 4]}}]
{UNEXAMINED}\
replace:
  - match: "ga*"
    with: "torch.nn:Linear"
    args: {{in_features: 4, out_features: 4}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model of wild names, and a recipe that selects one of them."""
    folder = tmp_path_factory.mktemp("wild")
    model = nn.Sequential()
    model._modules = OrderedDict((name, nn.Linear(4, 4)) for name in NAMES)
    torch.save(model, folder / "net.pt")
    (folder / "swap.yaml").write_text(RECIPE)
    return folder


def tree_in_a_process(folder: Path, *args: str, **env: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "modswap", "tree", "net.pt", *args],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **env},
        capture_output=True,
        check=False,
    )


ENCODINGS = {
    "utf-8": {"PYTHONIOENCODING": "utf-8"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "C": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", ENCODINGS)
def test_standard_output_of_any_encoding_shows_every_name(name: str, folder: Path) -> None:
    ran = tree_in_a_process(folder, **ENCODINGS[name])

    assert (ran.returncode, ran.stderr) == (0, b"")
    assert rb"ga\ud800te\udcff" in ran.stdout
    assert rb"\x1b[8mhidden" in ran.stdout
    assert b"\x1b" not in ran.stdout
    assert not COMMAND.search(ran.stdout.decode("latin-1"))


def test_data_for_programs_are_what_the_file_says(folder: Path) -> None:
    ran = tree_in_a_process(folder, "--format", "json", PYTHONIOENCODING="ascii")

    assert ran.returncode == 0
    assert [row["path"] for row in json.loads(ran.stdout)["modules"]] == ["", *NAMES]


def test_file_that_is_named_by_any_bytes_is_reported(folder: Path) -> None:
    missing = os.fsdecode(b"no\xff\n::error::x.pt")

    ran = tree_in_a_process(folder, "--match", missing, PYTHONIOENCODING="ascii")

    assert ran.returncode == 2
    assert rb"no\udcff\n::error::x.pt" in ran.stderr
    assert len(ran.stderr.splitlines()) == 2


@pytest.mark.each_once
@pytest.mark.parametrize("form", ["table", "json", "junit", "sarif", "github", "html"])
@pytest.mark.parametrize("to_file", [False, True])
def test_check_reports_a_site_of_any_name(
    form: str,
    folder: Path,
    tmp_path: Path,
    capsysbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
    *,
    to_file: bool,
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    report = tmp_path / "report"
    args = ["check", str(folder / "net.pt"), "-c", str(folder / "swap.yaml"), "--format", form]

    code = run([*args, *(["--report", str(report)] if to_file else [])])

    out = capsysbinary.readouterr().out
    text = (report.read_bytes() if to_file else out).decode()
    assert code == 0
    assert form in {"github", "sarif"} or "ga" in text  # these two list failures alone
    lines = text.removesuffix("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    assert form == "github" or not COMMAND.search(text)


def test_starter_recipe_selects_a_module_of_any_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "x'\"\n::error ##[a]\\*\u202ereplace: []\n{\ud800"
    model = nn.Sequential()
    model._modules = OrderedDict({name: nn.Conv2d(8, 8, 1)})
    torch.save(model, tmp_path / "net.pt")

    assert run(["init", str(tmp_path / "net.pt"), "--input", "1,8,14,14"]) == 0

    text = capsys.readouterr().out
    pattern = yaml.safe_load(text)["replace"][0]["match"]
    assert compile_pattern(pattern, "").matches(name)
    assert all(line.isprintable() for line in text.split("\n"))
    assert not COMMAND.search(text)
