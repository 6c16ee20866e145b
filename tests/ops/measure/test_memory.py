"""Passes that take more memory than there is, or than is wise, by prediction."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modswap.cli.app import run
from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.errors import InputError, LimitError
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.jobs.replace import check_file, replace_file
from modswap.ops.measure import memory
from modswap.ops.measure.cost import peak_of
from tests.models import GatedNet
from tests.recipes import UNEXAMINED

RULE = "replace: [{match: space_attention, with: BiLevelRoutingAttention, args: {n_win: 7}}]\n"
TEXT = f"version: 1\ninputs: [{{shape: [1, 3, 28, 28]}}]\n{UNEXAMINED}{RULE}"
TOPS = 10**15  # bytes that no machine has
HUNGRY = {
    "upsample": nn.Upsample(scale_factor=1e6),
    "bilinear": nn.UpsamplingBilinear2d(scale_factor=10**6),
    "constant padding": nn.ConstantPad2d(10**6, 0.0),
    "zero padding": nn.ZeroPad2d(10**6),
    "replication": nn.ReplicationPad2d(10**6),
    "unfold": nn.Unfold(3, padding=10**5),
    "transposed": nn.ConvTranspose2d(16, 2, 3, stride=10**6),
    "average": nn.AdaptiveAvgPool2d((10**6, 10**6)),
    "maximum": nn.AdaptiveMaxPool2d((10**6, 10**6)),
    "convolution": nn.Conv2d(16, 2, 1, padding=10**6),
    "in a row": nn.Sequential(nn.ReLU(), nn.Upsample(scale_factor=10**3), nn.ZeroPad2d(10**6)),
}


def job(tmp_path: Path, **how: Any) -> Job:
    torch.save(GatedNet().eval(), tmp_path / "net.pt")
    subject = Subject(tmp_path / "net.pt", Policy(allow=("tests.models.*",)))
    return Job(subject, parse_recipe(TEXT, "swap.yaml", "."), **how)


def bounded(monkeypatch: pytest.MonkeyPatch, machine: int, large: int = TOPS) -> None:
    monkeypatch.setattr(memory, "total", lambda: machine)
    monkeypatch.setattr(memory, "LARGE_BYTES", large)


def before_and_after(tmp_path: Path) -> tuple[int, int]:
    """Return the bytes that the passes of the original and of the swapped model take."""
    done: list[int] = []
    original = peak_of

    def noted(*args: Any, **how: Any) -> Any:
        found = original(*args, **how)
        done.append(found.beside)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "peak_of", noted)
        assert check_file(job(tmp_path)).error is None
    first, last = done
    assert first < last
    return first, last


def test_check_beyond_the_machine_fails_unless_more_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = before_and_after(tmp_path)
    bounded(monkeypatch, machine=last - 1)

    failed = check_file(job(tmp_path))
    allowed = check_file(job(tmp_path, max_memory=1 << 40))

    assert isinstance(failed.error, LimitError)
    assert (failed.error.code, failed.error.where) == (1, "space_attention")
    assert ", the memory of this machine is " in failed.error.what
    assert "this site alone" in failed.error.what
    assert failed.error.fix.endswith("or allow it by --max-memory")
    assert allowed.error is None
    assert allowed.notes == ()
    bounded(monkeypatch, machine=first - 1)
    with pytest.raises(InputError, match=r"largest output of a module is .*, of '") as caught:
        check_file(job(tmp_path))
    assert caught.value.code == 2


def test_large_pass_is_warned_of_and_fails_where_it_is_strict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, last = before_and_after(tmp_path)
    bounded(monkeypatch, machine=TOPS, large=last - 1)

    warned = check_file(job(tmp_path))
    strict = check_file(job(tmp_path, strict=True))

    assert warned.error is None
    assert len(warned.notes) == 1
    assert warned.notes[0].startswith("warning: the pass (1, 3, 28, 28) eval float32 would take ")
    assert warned.notes[0].endswith("; --strict refuses it")
    assert isinstance(strict.error, LimitError)
    assert strict.error.code == 1
    assert check_file(job(tmp_path, strict=True, max_memory=1 << 40)).error is None


def test_weights_do_not_count_where_they_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, last = before_and_after(tmp_path)
    asked = job(tmp_path)
    model = GatedNet().eval()
    model.register_buffer("table", torch.zeros(last))  # four bytes each
    torch.save(model, tmp_path / "net.pt")
    bounded(monkeypatch, machine=last + 1)

    assert check_file(asked).error is None


def test_strict_is_an_option_of_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    job(tmp_path)
    Path("swap.yaml").write_text(TEXT)
    bounded(monkeypatch, machine=TOPS, large=1000)
    call = ("check", "net.pt", "-c", "swap.yaml", "--allow", "tests.models.*")

    assert run(call) == 0
    assert "warning: the pass" in capsys.readouterr().out
    assert run((*call, "--strict")) == 1
    assert "warning" not in capsys.readouterr().out
    assert run((*call, "--strict", "--max-memory", "1GiB")) == 0


@pytest.mark.parametrize("command", [check_file, replace_file])
@pytest.mark.parametrize("name", HUNGRY)
def test_layer_of_a_file_that_asks_for_all_memory_is_refused_and_named(
    name: str, command: Any, tmp_path: Path
) -> None:
    text = "version: 1\ninputs: [{shape: [1, 3, 16, 16]}]\n" + UNEXAMINED
    text += "replace: [{match: '0', with: 'torch.nn:Identity'}]\n"
    torch.save(nn.Sequential(nn.Conv2d(3, 16, 1), HUNGRY[name]), tmp_path / "net.pt")
    asked = Job(Subject(tmp_path / "net.pt", Policy()), parse_recipe(text, "swap.yaml", "."))

    with pytest.raises(InputError, match=r"would take .*; the largest output .*, of '1") as caught:
        command(asked)

    assert caught.value.where == "inputs"
