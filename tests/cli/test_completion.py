"""Completion of commands, options and values, in a real shell where there is one."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.main import get_command

from modswap.cli import app, completion
from modswap.nn import CATALOGUE

BASH, ZSH, FISH = (shutil.which(name) for name in ("bash", "zsh", "fish"))


@pytest.fixture
def shell(tmp_path: Path) -> Mapping[str, str]:
    """Return an environment in which `modswap` is a command, in a folder with one file."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin/modswap"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m modswap "$@"\n')
    command.chmod(0o755)
    (tmp_path / "network.pt").touch()
    here = Path(__file__).parents[2]
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(here), "TERM": "dumb", "PS1": "$ "}


def script(name: str, environment: Mapping[str, str]) -> str:
    return subprocess.run(
        ["modswap"],
        env={**environment, "_MODSWAP_COMPLETE": f"source_{name}"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def typed(line: str, folder: Path, environment: Mapping[str, str], until: str) -> str:
    """Type a line into an interactive bash, and return what it shows until a text is there."""
    ours, its = pty.openpty()
    shown = ""
    end = time.monotonic() + 60
    with subprocess.Popen(
        [str(BASH), "--norc", "-i"],
        cwd=folder,
        env=environment,
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    ) as bash:
        os.close(its)
        os.write(ours, f"source complete.sh\n{line}\t".encode())
        while until not in shown and time.monotonic() < end:
            if select.select([ours], [], [], 0.2)[0]:
                shown += os.read(ours, 4096).decode(errors="replace")
        bash.kill()
    os.close(ours)
    return shown


@pytest.mark.one_in(3)
@pytest.mark.skipif(BASH is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "whole"),
    [
        ("modswap final", "modswap finalize "),
        ("modswap replace net.pt --with BiL", "--with BiLevelRoutingAttention "),
        ("modswap tree netw", "modswap tree network.pt "),
    ],
)
def test_bash_completes(line: str, whole: str, shell: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / "complete.sh").write_text(script("bash", shell))

    assert whole in typed(line, tmp_path, shell, whole)


@pytest.mark.skipif(ZSH is None, reason="zsh is not installed")
def test_script_for_zsh_can_be_read(shell: Mapping[str, str]) -> None:
    subprocess.run(
        [str(ZSH), "-n", "/dev/stdin"], input=script("zsh", shell), text=True, check=True
    )


@pytest.mark.skipif(FISH is None, reason="fish is not installed")
def test_script_for_fish_can_be_read(shell: Mapping[str, str]) -> None:
    subprocess.run(
        [str(FISH), "-n", "/dev/stdin"], input=script("fish", shell), text=True, check=True
    )


@pytest.mark.parametrize("name", ["zsh", "fish"])
def test_other_shells_get_the_same_values(name: str, shell: Mapping[str, str]) -> None:
    asked = {
        "_MODSWAP_COMPLETE": f"complete_{name}",
        "_TYPER_COMPLETE_ARGS": "modswap replace net.pt --with SCS",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }

    done = subprocess.run(
        ["modswap"], env={**shell, **asked}, capture_output=True, text=True, check=True
    )

    assert "SCSE" in done.stdout
    assert "ECA" not in done.stdout


def test_names_of_modules_are_those_of_the_catalogue() -> None:
    assert sorted(name for name, _ in completion.modules("")) == sorted(CATALOGUE)
    assert dict(completion.modules("eca")) == {"ECA": CATALOGUE["ECA"].summary}


def test_names_of_modules_need_no_torch(shell: Mapping[str, str]) -> None:
    program = (
        "import sys\nfrom modswap.cli import app, completion\ncompletion.modules('')\n"
        "assert 'torch' not in sys.modules\n"
    )

    subprocess.run([sys.executable, "-c", program], env=shell, check=True)


def test_every_form_of_a_report_is_completed() -> None:
    from modswap.report import REPORTS

    commands = get_command(app.make_app()).commands  # type: ignore[attr-defined] # a group
    for name in ("replace", "check", "heal", "finalize", "revert"):
        context = commands[name].make_context(name, ["net.pt"], resilient_parsing=True)
        assert completion.forms(context, "") == [*REPORTS]
        assert completion.forms(context, "ju") == ["junit"]
    tree = commands["demo"].make_context("demo", [], resilient_parsing=True)
    assert completion.forms(tree, "") == []


def test_values_begin_as_they_were_typed() -> None:
    assert completion.starts("p") == ["preserve"]
    assert completion.starts("") == [*completion.STARTS]
    assert completion.schemas("rep") == ["report"]
