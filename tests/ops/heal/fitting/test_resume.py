"""A fit that was stopped goes on to the bits of one that was not.

Covers: interruption.
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from modswap.core.errors import CheckpointError, UsageError
from modswap.core.healed.progress import FitProgress
from modswap.ops.heal.fitting.interruption import Interruption, interruption
from modswap.ops.heal.fitting.local import fit_local
from modswap.ops.heal.fitting.pace import Watch
from modswap.ops.heal.fitting.resume import ResumeFile
from tests.ops.heal.fitting import learners
from tests.ops.heal.fitting.learners import JOB, PACE, STEPS, fit_of, judged, learner

Tensors = dict[str, torch.Tensor]


def whole() -> Tensors:
    module = learner()
    fit_local(fit_of(module), PACE)
    return module.state_dict()


def same(one: Tensors, other: Tensors) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one | other)


def process(file: Path, out: Path, how: int, step: int) -> int:
    call = [sys.executable, learners.__file__, str(file), str(out), json.dumps([how, step])]
    return subprocess.run(call, check=False, timeout=100).returncode


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    file, out = tmp_path / "heal.resume", tmp_path / "out.pt"

    step = random.randrange(10, STEPS)  # of those, the next that is reported
    killed = process(file, out, signal.SIGKILL, step)
    state = ResumeFile.read(file, JOB).state("fit", "site")
    module = learner()
    found = fit_local(fit_of(module), PACE, Watch(resume=ResumeFile.read(file, JOB)))

    assert killed == -signal.SIGKILL
    assert not out.exists()
    assert state is not None
    assert 7 <= state["step"] <= STEPS
    assert found.ended == "all steps"
    assert same(module.state_dict(), whole())


@pytest.mark.slow
def test_a_process_that_is_killed_again_and_again_ends_with_the_same_bits(tmp_path: Path) -> None:
    file, out = tmp_path / "heal.resume", tmp_path / "out.pt"

    codes = [process(file, out, signal.SIGKILL, step) for step in (10, 20, 30, STEPS + 1)]

    assert codes == [-signal.SIGKILL] * 3 + [0]
    assert same(torch.serialization.load(out, weights_only=True)["tensors"], whole())


def stopped_at(step: int, file: Path) -> tuple[Any, Tensors]:
    """Return the result and the tensors of a fit that Ctrl-C ends after a step."""
    module = learner()

    def watch(progress: FitProgress) -> None:
        if progress.step == step:
            signal.raise_signal(signal.SIGINT)

    found = fit_local(fit_of(module), PACE, Watch(watch, ResumeFile(file, JOB), every=1000))
    assert found.after == judged(module)
    return found, module.state_dict()


def test_ctrl_c_leaves_the_best_state_and_a_file_to_resume_from(tmp_path: Path) -> None:
    file = tmp_path / "heal.resume"

    found, _ = stopped_at(20, file)
    module = learner()
    again = fit_local(fit_of(module), PACE, Watch(resume=ResumeFile.read(file, JOB)))

    assert (found.ended, found.steps) == ("interrupted", 20)
    assert found.after.error < found.before.error
    assert (again.ended, again.steps, again.before) == ("all steps", STEPS, found.before)
    assert again.seconds > found.seconds
    assert same(module.state_dict(), whole())


def test_a_stage_that_has_ended_is_put_in_again(tmp_path: Path) -> None:
    file = tmp_path / "heal.resume"
    module, other = learner(), learner()

    found = fit_local(fit_of(module), PACE, Watch(resume=ResumeFile(file, JOB)))
    resume = ResumeFile.read(file, JOB)
    resume.finish("closed", "other", {"tensors": {}})
    started = time.monotonic()
    again = fit_local(fit_of(other), PACE, Watch(resume=ResumeFile.read(file, JOB)))

    assert again == found
    assert same(module.state_dict(), other.state_dict())
    assert time.monotonic() - started < found.seconds + 5
    assert resume.state("fit", "site") is None
    assert resume.finished("closed", "other") == {"tensors": {}}


def test_a_file_of_another_run_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "heal.resume"
    ResumeFile(file, JOB).finish("fit", "site", {})

    with pytest.raises(
        UsageError, match=r"--resume: .*: its steps was 40, is now 50; call it with"
    ):
        ResumeFile.read(file, {**JOB, "steps": 50})
    with pytest.raises(UsageError, match="its data was None, is now 'x'"):
        ResumeFile.read(file, {**JOB, "data": "x"})


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("made",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "it cannot be read: No such file or directory; name the file, or start again"),
        (b"text", "it is no resume file; start again without it"),
        (b"", "it is no resume file"),
        ("folder", "it is a folder, expected a regular file"),
        ({"a": 1}, "it is no resume file"),
        ([1], "it is no resume file"),
        ({"modswap.resume": 1, "job": Evil()}, "it is no resume file"),
    ],
)
def test_other_files_are_refused_and_nothing_in_them_runs(
    content: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "x"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content == "folder":
        file.mkdir()
    elif content is not None:
        torch.save(content, file)

    with pytest.raises(CheckpointError, match=message):
        ResumeFile.read(file, {})

    assert not (tmp_path / "made").exists()


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x"
    ResumeFile(file, JOB).finish("fit", "site", {"tensors": {"a": torch.zeros(1000)}})
    file.write_bytes(file.read_bytes()[:2000])

    with pytest.raises(CheckpointError, match="it is no resume file"):
        ResumeFile.read(file, JOB)


def test_a_resume_without_a_file_keeps_nothing() -> None:
    resume = ResumeFile(None, {})
    resume.keep("fit", "site", {})

    assert resume.state("fit", "site") is None


def test_a_second_press_does_what_ctrl_c_did_before(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.2, 12.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    noted = Interruption(signal.default_int_handler)

    assert not noted
    noted.note(2, None)
    noted.note(2, None)  # the same press, passed on by a parent process
    assert noted
    with pytest.raises(KeyboardInterrupt):
        noted.note(2, None)


def test_a_press_that_nobody_took_interrupts_after_the_block() -> None:
    with pytest.raises(KeyboardInterrupt), interruption():  # noqa: PT012 - the end of it raises
        signal.raise_signal(signal.SIGINT)
        after = True
    with interruption() as noted:
        signal.raise_signal(signal.SIGINT)
        noted.taken = True

    assert after


def test_ctrl_c_at_the_last_step_is_not_lost(tmp_path: Path) -> None:
    file = tmp_path / "heal.resume"

    found, tensors = stopped_at(STEPS, file)
    module = learner()
    again = fit_local(fit_of(module), PACE, Watch(resume=ResumeFile.read(file, JOB)))

    assert (found.ended, again.ended) == ("interrupted", "all steps")
    assert same(module.state_dict(), tensors)


def test_a_slow_fit_is_kept_more_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEPT_EVERY_SECONDS", "WRITES_EACH"):
        monkeypatch.setattr(f"modswap.ops.heal.fitting.loop.{name}", 0.0)
    resume, steps = ResumeFile(tmp_path / "x", JOB), list[Any]()

    def watch(progress: FitProgress) -> None:
        state = ResumeFile.read(tmp_path / "x", JOB).state("fit", "site")
        steps.append(state and (progress.step, state["step"]))

    fit_local(fit_of(learner()), PACE, Watch(watch, resume, every=1000))

    assert steps == [(10, 9), (20, 19), (30, 29), (40, 39)]


def test_an_interruption_that_raises_leaves_the_best_state() -> None:
    module = learner()

    def watch(progress: FitProgress) -> None:
        if progress.step == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_local(fit_of(module), PACE, Watch(watch))

    assert judged(module).error < judged(learner()).error
    assert not module.training


def test_ctrl_c_is_left_alone_in_other_threads_and_where_it_is_ignored() -> None:
    seen: list[bool] = []

    def look() -> None:
        before = signal.getsignal(signal.SIGINT)
        with interruption() as noted:
            seen.append(signal.getsignal(signal.SIGINT) is before and not noted)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        look()
    finally:
        signal.signal(signal.SIGINT, before)

    assert seen == [True, True]


def kept(file: Path) -> bytes:
    """Write a resume file of a stage that ended; return its bytes."""
    ResumeFile.begin(file, JOB, force=False).finish("fit", "site", {"tensors": torch.ones(64)})
    return file.read_bytes()


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "heal.resume"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    else:
        file.mkdir()

    with pytest.raises(CheckpointError, match="expected a regular file"):
        ResumeFile.read(file, JOB)


def test_a_flipped_bit_of_a_tensor_is_found(tmp_path: Path) -> None:
    file = tmp_path / "heal.resume"
    held = bytearray(kept(file))
    held[held.index(torch.ones(2).numpy().tobytes()) + 2] ^= 64
    file.write_bytes(held)

    with pytest.raises(CheckpointError, match="it is damaged: a checksum differs"):
        ResumeFile.read(file, JOB)


@pytest.mark.parametrize(
    "wrong",
    [
        {"job": None},
        {"finished": [1]},
        {"present": {"key": "fit site"}},
        {"parts": "../neighbour"},
        {"parts": "..", "present": {"key": "fit site", "state": {}}},
        {"modswap.resume": 2},
    ],
)
def test_a_file_that_lacks_something_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    file = tmp_path / "heal.resume"
    kept(file)
    held = torch.serialization.load(file, weights_only=True)
    torch.serialization.save(held | wrong, file)

    with pytest.raises(CheckpointError, match="no resume file"):
        ResumeFile.read(file, JOB)


def test_a_long_value_of_another_job_is_shown_in_part(tmp_path: Path) -> None:
    file = tmp_path / "heal.resume"
    kept(file)

    with pytest.raises(UsageError) as caught:
        ResumeFile.read(file, {**JOB, "data": "\x1b[31m" + "x" * 10_000})

    assert len(caught.value.what) < 700
    assert "\x1b" not in caught.value.what


def test_folders_of_others_beside_it_stay(tmp_path: Path) -> None:
    file = tmp_path / "heal.resume"
    others = ["heal.resume.parts-mine", "heal.resume.parts-01234567-kept", ".parts-01234567"]
    for name in (*others, "heal.resume.parts-01234567"):
        (tmp_path / name).mkdir()
    (tmp_path / "heal.resume.parts-89abcdef").symlink_to(tmp_path / others[0])

    kept(file)

    assert {one.name for one in tmp_path.iterdir()} == {
        *others, "heal.resume", "heal.resume.parts-89abcdef",
    }  # fmt: skip


@pytest.mark.parametrize("nbytes", [0, 700, 3000])
def test_full_disk_is_an_error_and_leaves_the_file_before(tmp_path: Path, nbytes: int) -> None:
    file = tmp_path / "heal.resume"
    before = kept(file)
    written = ResumeFile.read(file, JOB)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="no space left to write it"):
            written.finish("fit", "another", {"tensors": torch.ones(4000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert file.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["heal.resume"]
