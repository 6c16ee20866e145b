"""Files that are loaded in a fresh process, and notes on host libraries.

Covers: reloading.host_notes.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.finding import Finding
from modswap.core.kept.outcome import Outcome
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.examine.table import examination_names
from modswap.ops.jobs.replace import check_file, replace_file
from tests.models import GatedNet

HERE = __name__
OTHERS = ", ".join(row for row in examination_names() if row != "survival")
ALLOW = ("tests.models.*", f"{HERE}.*")


class ByProcess(nn.Module):
    """Scales by a number that differs in each process: (N, C, H, W) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = 1.0 + os.getpid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gain


class Configured(GatedNet):
    """A model whose class builds it from a configuration."""

    @classmethod
    def from_config(cls, config: dict[str, int]) -> "Configured":
        return cls(**config)


def build(channels: int) -> nn.Module:
    return GatedNet(channels)


def swap(
    command: Callable[[Job], Outcome],
    file: Path,
    module: str = "ConvGate",
    *,
    thorough: bool = True,
    factory: str | None = None,
    head: str = "",
) -> Outcome:
    text = (
        f"version: 1\ninputs: [{{shape: [1, 3, 28, 28]}}]\n{head}"
        f"verify: {{thorough: {thorough}, skip: [{OTHERS}]}}\n"
        f"replace: [{{match: space_attention, with: '{module}'}}]\n"
    )
    recipe = parse_recipe(text.replace("True", "true").replace("False", "false"), "swap.yaml", ".")
    out = file.with_name(f"out{file.suffix}")
    return command(Job(Subject(file, Policy(ALLOW), factory), recipe, out))


def survival(outcome: Outcome) -> list[Finding]:
    assert outcome.verdict is not None
    return [one for one in outcome.verdict.findings if one.check == "survival"]


CONTAINERS: dict[str, Callable[[nn.Module, Path], Any]] = {
    "net.pt": torch.save,
    "net.pth": lambda model, file: torch.save(model.state_dict(), file),
    "net.ckpt": lambda model, file: torch.save({"epoch": 1, "model": model.state_dict()}, file),
    "net.safetensors": lambda model, file: save_file(model.state_dict(), file),
}


CASES = [(command, name) for command in (check_file, replace_file) for name in CONTAINERS]
# each starts a process
QUICK = {(replace_file, "net.pt"): ()}


@pytest.mark.parametrize(
    ("command", "name"),
    [pytest.param(*case, marks=QUICK.get(case, pytest.mark.slow)) for case in CASES],
)
def test_sound_swap_computes_the_same_in_a_fresh_process(
    command: Callable[[Job], Outcome], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CONTAINERS[name](GatedNet().eval(), tmp_path / name)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))

    outcome = swap(command, tmp_path / name, factory="tests.models:build_gated")

    assert outcome.error is None
    (found,) = survival(outcome)
    assert (found.status, found.path) == ("passed", "")
    assert found.data["apart"] < 1e-5
    assert found.what.startswith("loaded in a fresh process it returns the same, at most ")
    assert list(scratch.iterdir()) == []
    assert (tmp_path / f"out{Path(name).suffix}").exists() is (command is replace_file)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "factory"),
    [
        (f"model: {{factory: '{HERE}:build', args: {{channels: 8}}}}\n", None),
        (f"model: {{factory: '{HERE}:build(8)'}}\n", None),
        ("", f"{HERE}:build(channels=8)"),
    ],
)
def test_factory_is_called_there_with_its_arguments(
    head: str, factory: str | None, tmp_path: Path
) -> None:
    save_file(GatedNet(8).state_dict(), tmp_path / "net.safetensors")

    outcome = swap(replace_file, tmp_path / "net.safetensors", head=head, factory=factory)

    assert outcome.error is None
    assert [one.status for one in survival(outcome)] == ["passed"]


@pytest.mark.slow
@pytest.mark.parametrize("command", [pytest.param(replace_file, marks=pytest.mark.ci), check_file])
def test_swap_that_computes_something_else_elsewhere_fails(
    command: Callable[[Job], Outcome], tmp_path: Path
) -> None:
    save_file(GatedNet().state_dict(), tmp_path / "net.safetensors")

    outcome = swap(
        command,
        tmp_path / "net.safetensors",
        f"{HERE}:ByProcess",
        factory="tests.models:build_gated",
    )

    (found,) = survival(outcome)
    assert found.status == "failed"
    assert found.what.startswith("loaded in a fresh process, it computes something else: outputs")
    assert outcome.exit_code != 0
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.slow
def test_class_that_exists_in_this_process_alone_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("only_here")
    monkeypatch.setitem(sys.modules, "only_here", module)
    module.Gate = type("Gate", (nn.ReLU,), {"__module__": "only_here"})  # type: ignore[attr-defined] # made here
    torch.save(GatedNet(), tmp_path / "net.pt")

    outcome = swap(replace_file, tmp_path / "net.pt", "only_here:Gate")

    (found,) = survival(outcome)
    assert found.status == "failed"
    assert "the written file cannot be loaded and run in a fresh process" in found.what
    assert "only_here" in found.what
    assert str(tmp_path) not in found.what
    assert "\n" not in found.what


def test_model_built_from_a_configuration_is_reported(tmp_path: Path) -> None:
    torch.save(Configured(), tmp_path / "net.pt")

    outcome = swap(check_file, tmp_path / "net.pt", thorough=False)

    (found,) = survival(outcome)
    assert found.status == "passed"
    assert found.what == (
        "`Configured.from_config` builds the model from its configuration and would lose the swap"
    )
    assert found.fix == (f"import modswap\nmodel = modswap.load('out.pt', allow={list(ALLOW)!r})")


def test_lines_of_a_report_run_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(Configured(), "net.pt")
    text = (
        f"version: 1\ninputs: [{{shape: [1, 3, 28, 28]}}]\nverify: {{skip: [{OTHERS}]}}\n"
        f"allow: ['{HERE}.Configured']\n"
        f"replace: [{{match: space_attention, with: '{HERE}:ByProcess'}}]\n"
    )
    recipe = parse_recipe(text, "swap.yaml", ".")
    Path("runs").mkdir()

    outcome = replace_file(Job(Subject(Path("net.pt")), recipe, Path("runs/new.pt")))

    (found,) = survival(outcome)
    names: dict[str, Any] = {}
    exec(found.fix, names)
    assert (
        f"modswap.load('runs/new.pt', allow=['{HERE}.Configured', '{HERE}.ByProcess'])" in found.fix
    )
    assert type(names["model"].space_attention) is ByProcess


def test_nothing_is_said_of_a_plain_model_unless_it_is_thorough(tmp_path: Path) -> None:
    torch.save(GatedNet(), tmp_path / "net.pt")

    assert survival(swap(check_file, tmp_path / "net.pt", thorough=False)) == []


def test_large_model_is_not_copied(tmp_path: Path) -> None:
    model = GatedNet()
    model.ballast = nn.Parameter(torch.empty(1).expand(70_000_000))  # one number in memory
    torch.save(model, tmp_path / "net.pt")

    (found,) = survival(swap(check_file, tmp_path / "net.pt"))

    assert found.status == "skipped"
    assert "models up to 256 MiB are copied" in found.what
