"""The command that shows the changed source of a model.

Covers: commands.code.
"""

import importlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from modswap.cli.app import run
from modswap.core.kept.code_change import StandaloneFile
from modswap.ops.code import job
from modswap.ops.code.proof.prove import Proof, Proved
from modswap.ops.demo.network import build_network
from tests.ops.code.cases import proved_here

MODEL = ("--model", "modswap.ops.demo.network:build_network(base_width=4)")
NET = """from torch import nn


def build():
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1))
"""
ADDED = """\
+        self.channel_attention = ACmix(in_planes=widths[-1], out_planes=widths[-1])
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.save(build_network(base_width=4), "unetpp.pt")
    return tmp_path


@pytest.mark.ci
@pytest.mark.slow
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
    assert run(["code", "unetpp.pt", *rule, *MODEL, "-v", "--save-recipe", "one.yaml"]) == 0
    assert 'match: ["channel_attention"]' in Path("one.yaml").read_text()
    assert "… proving the change in a fresh process" in capsys.readouterr().err
    assert run(["code", "unetpp.pt", *rule, *MODEL, "-q", "--no-color"]) == 0
    assert capsys.readouterr().err == ""


def test_change_is_written_and_a_second_time_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "small.py").write_text(NET)
    monkeypatch.setattr(job, "prove", proved_here)
    torch.save(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)).state_dict(), "small.pt")
    command = ["code", "small.pt", "--match", "1", "--with", "ECA", "--input", "1,3,8,8"]

    assert run([*command, "--model", "small.py:build", "--format", "json", "--report", "a"]) == 0
    assert json.loads(Path("a").read_text())["files"][0]["file"] == "small.py"
    assert capsys.readouterr() == ("", "")
    assert run([*command, "--model", "small.py:build", "--report", "small.pt"]) == 3
    assert "small.pt: the report cannot be there: it is the input" in capsys.readouterr().err
    assert run([*command, "--model", "small.py:build", "--write"]) == 0

    said = capsys.readouterr()
    assert "written  small.py, its old text is small.py.orig" in said.err
    assert "nn.Conv2d(3, 8, 1), ECA(channel=8)" in Path("small.py").read_text()
    assert Path("small.py.orig").read_text() == NET
    assert run([*command, "--model", "small.py:build", "--write"]) == 2
    assert "does not fit the weights" in capsys.readouterr().err


def test_file_that_changed_meanwhile_is_not_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "edited.py").write_text(NET)
    torch.save(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)).state_dict(), "small.pt")
    command = ["code", "small.pt", "--match", "1", "--with", "ECA", "--input", "1,3,8,8"]

    def proved_and_edited(proof: Proof, texts: Mapping[str, bytes]) -> Proved:
        Path("edited.py").write_text(f"{NET}\n# mine")
        return proved_here(proof, texts)

    monkeypatch.setattr(job, "prove", proved_and_edited)

    assert run([*command, "--model", "edited.py:build", "--write", "-q"]) == 3

    said = "edited.py: it changed since it was read, and is not written"
    assert capsys.readouterr().err.endswith(f"{said}\n  fix: run the command again\n")
    assert Path("edited.py").read_text() == f"{NET}\n# mine"
    assert not Path("edited.py.orig").exists()


def test_renaming_with_a_dot_is_of_names_in_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "prove", proved_here)
    (folder / "dotted.py").write_text(NET)
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1))
    torch.save({f"net.{name}": one for name, one in net.state_dict().items()}, "dotted.pt")
    command = ["code", "dotted.pt", "--match", "1", "--with", "ECA", "--input", "1,3,8,8"]

    assert run([*command, "--model", "dotted.py:build", "--rename", "net.="]) == 0

    assert "ECA(channel=8)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--write", "--standalone", "m.py"], 2, "--write and --standalone exclude each other"),
        (["--standalone", "m.py", "--for", "timm"], 2, "--standalone and --for exclude each other"),
        (["--for", "tim"], 2, "no library 'tim'\n  fix: did you mean 'timm'?"),
        (["--for", "tensorflow"], 2, "fix: use one of timm, smp, transformers, ultralytics"),
        (["--format", "jsn"], 2, "no report of the form 'jsn'\n  fix: did you mean 'json'?"),
        (["--rename", "a"], 2, "'a' is no PATH=NAME"),
        (["--rename", "a=1b"], 2, "'a=1b' is no PATH=NAME"),
        (["--rename", "a=b", "--for", "timm"], 2, "--rename and --for exclude each other"),
        (["-o", "out.pt"], 2, "there are no other names to write"),
        (["--standalone", "here.py"], 3, "here.py: it exists"),
        (["--standalone", "unetpp.pt", "--force"], 3, "unetpp.pt: it is the input"),
        (["--for", "timm"], 2, "it is not swapped yet, and the lines load the swapped file"),
    ],
)
def test_wrong_call_is_refused_in_a_line(
    options: list[str], code: int, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("here.py").write_text("mine = 1\n")
    rule = ("--match", "channel_attention", "--with", "ACmix", "--input", "1,3,128,128")

    assert run(["code", "unetpp.pt", *rule, *MODEL, *options]) == code

    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert Path("here.py").read_text() == "mine = 1\n"


def test_standalone_file_is_never_the_source_of_the_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("red_source.py").write_text("from modswap.nn import ECA as Net\n")
    monkeypatch.syspath_prepend(folder)
    (folder / "link.py").symlink_to("red_source.py")

    def made(*_: object) -> StandaloneFile:
        importlib.import_module("red_source")
        return StandaloneFile("text\n", 0.0)

    monkeypatch.setattr(job, "standalone_file", made)

    for name in ("red_source.py", "link.py"):
        assert run(["code", "unetpp.pt", "--standalone", name, "--force"]) == 3
        assert f"{name}: the standalone file cannot be there: it is the code of 'red_source'" in (
            capsys.readouterr().err
        )
    assert Path("red_source.py").read_text() == "from modswap.nn import ECA as Net\n"


def test_standalone_file_and_lines_are_written_and_described(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = StandaloneFile("x = 1\n", 0.0, ("a note",))
    monkeypatch.setattr(job, "standalone_file", lambda *_: made)
    monkeypatch.setattr(job, "host_lines", lambda *_: made)

    assert run(["code", "unetpp.pt", "--standalone", "model.py"]) == 0
    assert run(["code", "unetpp.pt", "--standalone", "model.py", "--force", "-q"]) == 0
    assert run(["code", "unetpp.pt", "--for", "smp"]) == 0
    assert run(["code", "unetpp.pt", "--for", "smp", "-q"]) == 0

    said = capsys.readouterr()
    assert Path("model.py").read_text() == "x = 1\n"
    assert said.out == "x = 1\n" * 2
    assert said.err == (
        "note  a note\nwritten  model.py, 1 lines\n"
        "OK  its `load(file)` gives the swapped model in a process without modswap, "
        "outputs 0 apart\n"
        "OK  the lines give the swapped model of smp in a fresh process, outputs 0 apart\n"
    )
    assert run(["code", "unetpp.pt", "--for", "smp", "--format", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("```python\nx = 1\n```\n\n- `OK  the lines give")
    assert run(["code", "unetpp.pt", "--standalone", "other.py", "--format", "json"]) == 0
    told, said_beside = capsys.readouterr()
    assert (json.loads(told)["file"], said_beside) == ("other.py", "")


@pytest.mark.slow
def test_demo_by_its_recipe(folder: Path) -> None:
    recipe = Path(__file__).parents[2] / "configs" / "unetpp_bra_shared.yaml"
    command = [sys.executable, "-m", "modswap", "code", "unetpp.pt", "-c", str(recipe), *MODEL]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "+        self.space_attention = self.channel_attention\n" in done.stdout
    assert "outputs 0 apart" in done.stderr
