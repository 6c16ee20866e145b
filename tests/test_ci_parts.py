"""Tests of the parts for other projects' CI: the action, the pre-commit hook, the pytest plugin."""

import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from tests.commands import Ran
from tests.recipes import UNEXAMINED

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
RECIPE = """\
version: 1
checkpoint: net.pt
inputs: [{shape: [1, 3, 8, 8]}]
replace:
  - match: "1"
    with: ECA
"""
LOST = RECIPE.replace('"1"', '"one"')
QUICK = RECIPE + UNEXAMINED


def ran(command: list[str], folder: Path, more: Mapping[str, str] | None = None) -> Ran:
    """Run a program in a folder, with modswap on the path and nothing of a CI around it."""
    kept = {key: os.environ[key] for key in ("HOME", "LANG") if key in os.environ}
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    environment = {**kept, "PATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "100", **(more or {})}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the folder of a project with a model of torch's own layers and two recipes."""
    folder = tmp_path / "project"
    (folder / "more recipes").mkdir(parents=True)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1))
    torch.save(net.eval(), folder / "net.pt")
    (folder / "swap.yaml").write_text(QUICK)
    (folder / "more recipes" / "b.yaml").write_text(QUICK.replace("net.pt", "../net.pt"))
    return folder


# -- the action

ACTION: Any = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
INSTALL, CHECK = ACTION["runs"]["steps"]


def acted(project: Path, recipes: str, form: str = "github", args: str = "") -> Ran:
    """Run the action's step as the runner does, its inputs in the environment."""
    inputs = {"recipes": recipes, "args": args, "format": form}
    given = {
        key: inputs[value.removeprefix("${{ inputs.").removesuffix(" }}")]
        for key, value in CHECK["env"].items()
    }
    runner = project.parent
    files = {
        "GITHUB_STEP_SUMMARY": str(runner / "summary.md"),
        "GITHUB_OUTPUT": str(runner / "output"),
        "RUNNER_TEMP": str(runner),
    }
    script = runner / "step.sh"
    script.write_text(CHECK["run"])
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
    return ran(command, project, {**given, **files})


def test_action_says_what_its_inputs_are() -> None:
    assert ACTION["runs"]["using"] == "composite"
    assert ACTION["inputs"].keys() == {"recipes", "args", "format"}
    assert all(one["description"] for one in ACTION["inputs"].values())
    assert all(step["shell"] == "bash" for step in (INSTALL, CHECK))


def test_inputs_of_the_action_are_never_part_of_a_script() -> None:
    assert not any("${{" in step["run"] for step in (INSTALL, CHECK))


def test_action_installs_nothing_where_modswap_is_there(project: Path) -> None:
    done = ran(["bash", "-eo", "pipefail", "-c", INSTALL["run"]], project)

    assert done.code == 0
    assert done.out.strip() == str(BIN / "modswap")


@pytest.mark.slow
def test_action_checks_recipes_and_writes_the_summary(project: Path) -> None:
    done = acted(project, "swap.yaml\n\nmore recipes/*.yaml\n")

    assert done.code == 0, done.err
    assert [re.sub(r"\d+ passed.*", "", line) for line in done.out.splitlines()] == [
        "holds: modswap check swap.yaml, net.pt: ",
        "holds: modswap check more recipes/b.yaml, more recipes/../net.pt: ",
    ]
    assert (project.parent / "summary.md").read_text().count("### ✅") == 2


@pytest.mark.slow
@pytest.mark.ci
def test_action_fails_with_the_command_and_annotates_the_line(project: Path) -> None:
    (project / "lost.yaml").write_text(LOST)

    done = acted(project, "**/*.yaml")

    assert done.code == 2
    assert "::error file=lost.yaml,line=5," in done.out
    assert "### ❌ modswap check lost.yaml" in (project.parent / "summary.md").read_text()


@pytest.mark.slow
def test_action_writes_other_reports_to_a_file(project: Path) -> None:
    done = acted(project, "swap.yaml", "sarif", "--verbose  --allow nets.*")

    report = project.parent / "modswap.sarif"
    assert done.code == 0, done.err
    assert "verification pass" in done.err
    assert json.loads(report.read_text())["runs"][0]["results"] == []
    assert (project.parent / "output").read_text() == f"report={report}\n"
    summary = (project.parent / "summary.md").read_text()
    assert summary == "modswap check holds, exit code 0, report in `modswap.sarif`\n\n"


@pytest.mark.slow
def test_action_prints_a_table_too(project: Path) -> None:
    (project / "lost.yaml").write_text(LOST)

    done = acted(project, "lost.yaml", "table")

    assert done.code == 2
    assert "lost.yaml:5:5: no module matches 'one'" in done.out + done.err
    assert (project.parent / "summary.md").read_text() == "modswap check fails, exit code 2\n\n"


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", ["*.none", "$(touch made)", "`touch made`", "; touch made"])
def test_action_runs_nothing_that_an_input_holds(project: Path, name: str) -> None:
    done = acted(project, name)

    assert done.code == 2
    assert not (project / "made").exists()


# -- the hook of pre-commit


def git(folder: Path, *args: str) -> str:
    me = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main"]
    done = ran(["git", *me, *args], folder)
    assert done.code == 0, done.err
    return done.out.strip()


def committed(folder: Path) -> str:
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "all")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def hooked(project: Path) -> Path:
    """Return a git repository that uses the hook of another one."""
    source = project.parent / "hooks"
    source.mkdir()
    (source / ".pre-commit-hooks.yaml").write_text((ROOT / ".pre-commit-hooks.yaml").read_text())
    revision = committed(source)
    hook = {"repo": str(source), "rev": revision, "hooks": [{"id": "modswap-check"}]}
    (project / ".pre-commit-config.yaml").write_text(yaml.safe_dump({"repos": [hook]}))
    committed(project)
    return project


def precommit(folder: Path) -> Ran:
    home = {"PRE_COMMIT_HOME": str(folder.parent / "cache")}
    command = [sys.executable, "-m", "pre_commit", "run", "--all-files", "--color", "never"]
    return ran(command, folder, home)


@pytest.mark.slow
def test_hook_checks_the_recipes_of_a_repository(hooked: Path) -> None:
    done = precommit(hooked)

    assert done.code == 0, done.out + done.err
    assert "modswap check" in done.out
    assert "Passed" in done.out


@pytest.mark.slow
def test_hook_stops_a_commit_whose_recipe_does_not_fit(hooked: Path) -> None:
    (hooked / "gate.swap.yml").write_text(LOST)
    git(hooked, "add", ".")

    done = precommit(hooked)

    assert done.code == 1
    assert "gate.swap.yml:5:5: no module matches 'one'" in done.out


# -- the plugin of pytest

TESTS = """
def test_swap_holds(modswap_check):
    outcome = modswap_check("swap.yaml")
    assert [site.path for site in outcome.sites] == ["1"]

def test_another_checkpoint(modswap_check):
    assert modswap_check("swap.yaml", "other.pt", thorough=True).checkpoint.endswith("other.pt")

def test_swap_that_does_not_hold(modswap_check):
    modswap_check("bad.yaml")

def test_rule_that_selects_nothing(modswap_check):
    modswap_check("lost.yaml")

def test_recipe_without_checkpoint(modswap_check):
    modswap_check("none.yaml")
"""
GROWING = """
from torch import nn

class Growing(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        return x.repeat(2 if self.training else 1, 1, 1, 1)
"""


def run_tests(folder: Path, *args: str) -> Ran:
    # the entry point of the plugin is found only where modswap is installed
    plain = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-p", "modswap.cli.pytest_plugin", "-q", *args]
    return ran(command, folder, plain)


@pytest.mark.slow
def test_plugin_fails_tests_of_swaps_that_do_not_hold(project: Path) -> None:
    tests = project / "tests"
    tests.mkdir()
    (project / "growing.py").write_text(GROWING)
    (tests / "test_swaps.py").write_text(TESTS)
    (project / "net.pt").rename(tests / "net.pt")
    (tests / "other.pt").write_bytes((tests / "net.pt").read_bytes())
    (tests / "swap.yaml").write_text(QUICK)
    (tests / "lost.yaml").write_text(LOST)
    (tests / "none.yaml").write_text(RECIPE.replace("checkpoint: net.pt\n", ""))
    grown = RECIPE.replace("ECA", "../growing.py:Growing").replace("net.pt", "tests/net.pt")
    grown += UNEXAMINED.replace("{skip", "{modes: [train], skip")
    (project / "bad.yaml").write_text(grown.replace("../growing", "growing"))

    done = run_tests(project, "tests")

    assert done.code == 1, done.out + done.err
    assert "3 failed, 2 passed" in done.out, done.out
    assert "modswap check bad.yaml\nFAILED  " in done.out
    assert "lost.yaml:5:5: no module matches 'one'" in done.out
    assert "the recipe names no checkpoint" in done.out
    assert "Traceback" not in done.out
    assert "During handling" not in done.out


def test_plugin_costs_nothing_before_it_is_used(project: Path) -> None:
    (project / "test_start.py").write_text(
        "import sys\n\ndef test_start():\n"
        "    assert not {'torch', 'typer', 'rich', 'pydantic'} & sys.modules.keys()\n"
    )

    done = run_tests(project)

    assert done.code == 0, done.out


def test_entry_point_of_the_plugin_is_a_module_with_the_fixture() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    module = importlib.import_module(settings["project"]["entry-points"]["pytest11"]["modswap"])

    assert module.modswap_check.__doc__.startswith("Return a function that asserts")
