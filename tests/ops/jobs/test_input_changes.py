"""An input that changes while a job runs is noticed at every step, and nothing is written."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import save_file

import modswap
from modswap.core.asked.healing import HealingRequest
from modswap.core.asked.job import HealJob, Job, Policy, Subject
from modswap.core.errors import CheckpointError, ModswapError
from modswap.core.kept.outcome import Outcome
from modswap.core.progress import Progress
from modswap.io.raw import atomic
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.jobs.heal import heal_file
from modswap.ops.jobs.lock import lock
from modswap.ops.jobs.replace import check_file, replace_file
from modswap.ops.jobs.replace_as_data import replace_unbuilt
from modswap.ops.recipes import read_recipe
from tests.models import GatedNet
from tests.recipes import UNEXAMINED

TEXT = (
    f"version: 1\nallow: ['tests.models.*']\ninputs: [{{shape: [1, 3, 16, 16]}}]\n{UNEXAMINED}"
    "model: {factory: 'tests.models:GatedNet'}\n"
    "replace: [{match: space_attention, with: SEBlock, layout: NCHW, args: {channel: 16}}]\n"
)
RECIPE = parse_recipe(TEXT, "swap.yaml", ".")
Run = Callable[[Job, Progress], Outcome]
RUNS: dict[str, Run] = {"passes": replace_file, "data": replace_unbuilt, "check": check_file}


class Made(NamedTuple):
    source: Path  # the input
    out: Path
    file: Path  # a file of the input


def make(kind: str, folder: Path, fill: float | None = None) -> Made:
    """Write a checkpoint of a kind, its weights all one number or drawn."""
    model = GatedNet().eval()
    for parameter in model.parameters():
        if fill is not None:
            torch.nn.init.constant_(parameter, fill)
    name = {"torch": "net.pt", "safetensors": "net.safetensors", "folder": "net"}[kind]
    source, out = folder / name, folder / f"out{Path(name).suffix}"
    file = source / "model.safetensors" if kind == "folder" else source
    file.parent.mkdir(exist_ok=True)
    if kind == "torch":
        torch.save(model, file)
    else:
        save_file(model.state_dict(), file)
    return Made(source, out, file)


def other_weights(made: Made, kind: str) -> bytes:
    """Return the content of a file of the same size with other weights."""
    folder = made.out.parent / "other"
    folder.mkdir()
    return make(kind, folder, 3.0).file.read_bytes()


def overwrite(file: Path, content: bytes) -> None:
    with file.open("r+b") as stream:
        stream.write(content)


def rename_over(file: Path, content: bytes) -> None:
    other = file.parent.parent / "renamed"
    other.write_bytes(content)
    other.replace(file)


CHANGES: dict[str, Callable[[Path, bytes], object]] = {
    "overwritten": overwrite,
    "renamed over": rename_over,
    "touched": lambda file, _: file.touch(),
}


def steps_of(run: Run, job: Job) -> list[str]:
    said: list[str] = []
    run(job, said.append)
    if job.out is not None:
        subprocess.run(["rm", "-r", str(job.out)], check=True)
    return said


def error_at(step: int, run: Run, job: Job, change: Callable[[], object]) -> ModswapError | None:
    """Return the error of a job in which a change happens at a step."""
    left = step + 1

    def progress(_: str) -> None:
        nonlocal left
        left -= 1
        if not left:
            change()

    try:
        return run(job, progress).error
    except ModswapError as error:
        return error


def refused_at(step: int, how: str, kind: str, change: str, folder: Path) -> None:
    made = make(kind, folder)
    content = other_weights(made, kind)
    assert len(content) == made.file.stat().st_size
    job = Job(Subject(made.source, Policy()), RECIPE, None if how == "check" else made.out)

    error = error_at(step, RUNS[how], job, lambda: CHANGES[change](made.file, content))

    assert isinstance(error, CheckpointError)
    assert error.what.startswith("it changed while it was read")
    assert not made.out.exists()
    assert list(folder.rglob(".modswap*")) == []


@pytest.mark.each_once
@pytest.mark.parametrize("kind", ["torch", "safetensors", "folder"])
@pytest.mark.parametrize("how", list(RUNS))
def test_change_at_the_last_step_is_noticed(how: str, kind: str, tmp_path: Path) -> None:
    made = make(kind, tmp_path)
    job = Job(Subject(made.source), RECIPE, None if how == "check" else made.out)
    steps = steps_of(RUNS[how], job)
    assert how == "check" or steps[-1] == f"writing {made.out}"
    (tmp_path / "again").mkdir()

    refused_at(len(steps) - 1, how, kind, "renamed over", tmp_path / "again")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torch", "safetensors", "folder"])
@pytest.mark.parametrize("how", list(RUNS))
@pytest.mark.parametrize("change", list(CHANGES))
def test_change_at_every_step_is_noticed(change: str, how: str, kind: str, tmp_path: Path) -> None:
    made = make(kind, tmp_path)
    job = Job(Subject(made.source), RECIPE, None if how == "check" else made.out)
    for step in range(len(steps_of(RUNS[how], job))):
        (tmp_path / str(step)).mkdir()
        refused_at(step, how, kind, change, tmp_path / str(step))


@pytest.mark.parametrize("kind", ["torch", "folder"])
@pytest.mark.parametrize("how", ["passes", "data"])
def test_change_after_the_copy_and_before_the_move_is_noticed(
    how: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(kind, tmp_path)
    name = "_flush_all" if kind == "folder" else "_flush"
    flush = getattr(atomic, name)

    def late(*args: object) -> None:
        flush(*args)
        made.file.touch()

    monkeypatch.setattr(atomic, name, late)
    error = error_at(-1, RUNS[how], Job(Subject(made.source), RECIPE, made.out), lambda: None)

    assert error is not None
    assert "it changed while it was read" in error.what
    assert not made.out.exists()


def test_model_that_is_saved_anew_is_not_put_in_place_either(tmp_path: Path) -> None:
    made = make("torch", tmp_path)
    job = Job(Subject(made.source), RECIPE, tmp_path / "out.safetensors")
    steps = steps_of(replace_file, job)
    last = steps.index("comparing every kept tensor with the file written")

    error = error_at(last, replace_file, job, made.file.touch)

    assert isinstance(error, CheckpointError)
    assert not (tmp_path / "out.safetensors").exists()


CUT = """
import sys
from pathlib import Path
from tests.ops.jobs.test_input_changes import cut_at_steps
for kind in ("torch", "safetensors", "folder"):
    cut_at_steps(sys.argv[1], kind, Path(sys.argv[2]))
"""


def cut_at_steps(how: str, kind: str, folder: Path) -> None:
    """Cut an input at the first step, in the middle, and at the last."""
    made = make(kind, folder)
    job = Job(Subject(made.source), RECIPE, None if how == "check" else made.out)
    last = len(steps_of(RUNS[how], job)) - 1
    for step in {0, last // 2, last}:
        make(kind, folder)
        error = error_at(step, RUNS[how], job, lambda: os.truncate(made.file, 1000))
        assert error is not None
        assert error.what.startswith("it changed while it was read: it had")
        assert not made.out.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=[pytest.mark.ci] * (how == "data")) for how in RUNS]
)
def test_input_that_is_cut_at_a_step_ends_no_process(how: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", CUT, how, str(tmp_path)], check=False, capture_output=True
    )

    assert ran.returncode == 0, ran.stderr.decode()


def test_model_of_a_file_that_changes_while_it_is_loaded_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make("torch", tmp_path)
    loaded = modswap.load(made.file, allow=["tests.models.*"])
    assert isinstance(loaded, GatedNet)
    monkeypatch.setattr("modswap.ops.api.intact", lambda _: os.utime(made.file))

    with pytest.raises(CheckpointError, match="it changed while it was read"):
        modswap.load(made.file, allow=["tests.models.*"])


@pytest.mark.parametrize("changed", ["net.pt", "swap.yaml"])
def test_lock_holds_the_digests_of_what_was_checked(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make("torch", tmp_path)
    Path("swap.yaml").write_text(f"\ufeff{TEXT}", encoding="utf-8")
    outcome = check_file(Job(Subject(Path("net.pt")), read_recipe("swap.yaml")))
    assert lock([outcome], Path("sound.lock"))
    with Path(changed).open("ab") as stream:
        stream.write(b"\n")

    with pytest.raises(CheckpointError, match="it changed after it was checked"):
        lock([outcome], Path("modswap.lock"))

    assert not Path("modswap.lock").exists()
    unknown = replace(outcome, stamps=(), recipe_sha256="")  # made by another program
    assert lock([unknown], Path("modswap.lock"))


@pytest.mark.each_once
@pytest.mark.parametrize("changed", ["net.pt", "original.pt"])
def test_healing_notices_a_change_of_both_of_its_files(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = Path(make("torch", tmp_path).source.name)
    source.rename("original.pt")
    policy = Policy(allow=("tests.models.*",))
    swapped = replace_file(Job(Subject(Path("original.pt"), policy), RECIPE, source))
    assert swapped.ok

    def progress(said: str) -> None:
        if said.startswith("writing"):
            Path(changed).touch()

    request = HealingRequest(stages=("closed",), samples=32)
    job = HealJob(Subject(source, policy), Path("original.pt"), "none", request, Path("out.pt"))
    with pytest.raises(CheckpointError, match=f"^{changed}: it changed while it was read"):
        heal_file(job, progress)
    assert not Path("out.pt").exists()
