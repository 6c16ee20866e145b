"""Progress on a real terminal, and where there is none."""

import os
import pty
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from modswap.cli import live, session
from modswap.cli.app import run
from modswap.cli.live import LiveProgress
from modswap.core.healed.agreement import Agreement
from modswap.core.healed.progress import FitProgress, FitStep
from modswap.core.progress import Passing
from tests.ops.heal.nets import classifier, pictures

ALLOW = ["--allow", "tests.ops.heal.nets.*"]
INPUT = ["--input", "2,3,8,8"]


class ReadTerminal(NamedTuple):
    """A terminal that is put in place of standard error, ended, and asked for its text."""

    begin: Callable[[], None]
    shown: Callable[[], str]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReadTerminal]:
    """Yield a terminal of 80 columns."""
    master, slave = pty.openpty()
    found: list[bytes] = []

    def read() -> None:
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:  # Linux says so where the other end is closed
                return
            if not part:
                return
            found.append(part)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    stream = open(slave, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - of a number, closed below
    for name, value in (("COLUMNS", "80"), ("TERM", "xterm-256color"), ("LINES", "24")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)

    # within the test: pytest puts a stream of its own there before
    def begin() -> None:
        monkeypatch.setattr(sys, "stderr", stream)

    def shown() -> str:
        sys.stderr.flush()
        stream.close()
        reader.join(10)
        return b"".join(found).decode()

    yield ReadTerminal(begin, shown)
    os.close(master)


def fit_step(step: int, *, agreement: Agreement | None = None, site: str = "layer3.mix") -> FitStep:
    return FitStep.of(FitProgress("fit", site, step, 400, 0.0123, agreement, 512.4, 75.2))


def test_fit_is_shown_in_place_with_all_its_numbers(
    terminal: ReadTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_SECONDS", 0.0)
    terminal.begin()
    lines: list[str] = []
    progress = LiveProgress(lines.append, color=True)
    progress("loading net.pt")
    progress(fit_step(10))
    progress(fit_step(20, agreement=Agreement("top-1", 0.981)))
    progress("stage fit: top-1 0.981")
    progress.close()
    said = terminal.shown()
    words = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said)
    assert lines == ["loading net.pt", "stage fit: top-1 0.981"]
    assert "stage fit" in words
    assert "layer3.mix" in words
    assert "step 10 of 400 · 0:01:15 left · loss 0.0123 · 512 samples/s" in words
    assert "step 20 of 400 · 0:01:15 left · loss 0.0123 · top-1 0.981 · 512 samples/s" in words
    assert "\x1b[1A" in said  # the second picture is drawn over the first
    assert said.rstrip().endswith("\x1b[2K")  # and in the end the place is cleared
    assert all(len(line) <= 80 for line in words.replace("\r", "\n").split("\n"))


def test_pictures_that_follow_too_fast_are_left_out(
    terminal: ReadTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_SECONDS", 1e9)
    terminal.begin()
    progress = LiveProgress(lambda _: None, color=False)
    for number in range(200):
        progress(Passing(f"reading pictures: {number} of 200"))
    progress.close()
    said = terminal.shown()
    assert "… reading pictures: 0 of 200" in said
    assert "of 200" in said
    assert "1 of 200" not in said


def healing(folder: Path, *more: str) -> list[str]:
    torch.save(classifier(), folder / "net.pt")
    np.save(folder / "data.npy", pictures().numpy())
    rule = ["--match", "mix", "--with", "BiLevelRoutingAttention", "--set", "n_win=2"]
    call = ["replace", str(folder / "net.pt"), *rule, "--set", "topk=2", *INPUT, *ALLOW, "-q"]
    assert run([*call, "--fast", "-o", str(folder / "bra.pt")]) == 0
    files = [str(folder / "bra.pt"), "--against", str(folder / "net.pt")]
    data = ["--data", str(folder / "data.npy"), "--stages", "fit", "--steps", "20", "--dry-run"]
    return ["heal", *files, *data, *INPUT, *ALLOW, *more]


def test_terminal_shows_a_healing_and_a_file_gets_its_lines(
    tmp_path: Path,
    terminal: ReadTerminal,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call = healing(tmp_path)
    terminal.begin()
    assert run([*call, "--no-color"]) == 0
    said = terminal.shown()
    assert "\x1b[2K" in said
    assert "samples/s" in said
    assert "… stage fit: top-1 " in said
    assert "\x1b[" not in capsys.readouterr().out
    with (tmp_path / "log").open("w+") as log:
        monkeypatch.setattr(session, "PASSING_SECONDS", 1e9)
        monkeypatch.setattr(sys, "stderr", log)
        assert run([*call, "-v"]) == 0
        sys.stderr.flush()
        lines = (tmp_path / "log").read_text().splitlines()
    assert all(line.startswith("… ") for line in lines)
    steps = [line for line in lines if re.match(r"… stage fit mix: step \d+ of 20, loss ", line)]
    assert len(steps) == 1  # of all that passed


def test_plain_lines_are_shown_on_a_terminal_that_cannot_go_back(
    tmp_path: Path, terminal: ReadTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = healing(tmp_path)
    terminal.begin()
    monkeypatch.setenv("TERM", "dumb")
    assert run(call) == 0
    said = terminal.shown()
    assert "… stage fit mix: step " in said
    assert "\x1b" not in said
