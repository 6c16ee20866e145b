"""Archives of torch.export: trusted or refused, swapped, exported again, run without modswap.

Covers: load, graphs.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.errors import CheckpointError, ModswapError, ShapeError, UnsafeError
from modswap.core.kept.outcome import Outcome
from modswap.io.formats.exported.agreement import distance
from modswap.io.formats.exported.program import export_of
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.jobs.replace import check_file, replace_file
from modswap.ops.jobs.starter.starter_recipe import starter_recipe
from tests.models import GatedNet
from tests.recipes import UNEXAMINED

TRUST = Policy(trust=True)
SE = "{match: space_attention, with: SEBlock}"
BATCH = torch.export.Dim("batch", min=1, max=64)


class Gate(nn.Module):
    """Adds what a signal lets through: called by keyword, with a constant."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor, *, g: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return x * torch.sigmoid(self.proj(g)) * scale


class Keyed(nn.Module):
    """A net whose gate is called by keyword: (N, 3, H, W) -> (N, 2, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.gate = Gate(8)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        out: torch.Tensor = self.head(self.gate(x, g=x.relu(), scale=0.5))
        return out


def archive(
    file: Path, model: nn.Module, *, dynamic: bool = True, signed: tuple[str, ...] = ()
) -> Path:
    example = torch.randn(2, 3, 28, 28)
    program = torch.export.export(
        model.eval(),
        (example,),
        dynamic_shapes=({0: BATCH},) if dynamic else None,
        preserve_module_call_signature=signed,
    )
    torch.export.save(program, file)
    return file


def seeded(model: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return model().eval()


def swap(
    file: Path, out: Path | None, rules: str = SE, head: str = UNEXAMINED, policy: Policy = TRUST
) -> Outcome:
    recipe = parse_recipe(f"version: 1\n{head}\nreplace: [{rules}]\n", "swap.yaml", ".")
    job = Job(Subject(file, policy), recipe, out)
    return replace_file(job) if out is not None else check_file(job)


def alone(program: str, *args: object) -> str:
    """Run a program that cannot import modswap."""
    block = "import sys; sys.modules['modswap'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", block + program, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_archive_is_refused_unless_it_is_trusted(tmp_path: Path) -> None:
    file = archive(tmp_path / "net.pt2", seeded(GatedNet))

    with pytest.raises(UnsafeError, match="sample inputs are unpickled in full") as caught:
        modswap.load(file)

    assert "trust=True" in caught.value.fix


class Runs:
    """What runs a command when its pickle is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


def test_hostile_archive_runs_nothing_without_trust(tmp_path: Path) -> None:
    sound = archive(tmp_path / "sound.pt2", seeded(GatedNet))
    file, canary = tmp_path / "net.pt2", tmp_path / "canary"
    torch.save(Runs(canary), tmp_path / "evil.pt")
    with zipfile.ZipFile(sound) as old, zipfile.ZipFile(file, "w") as new:
        for entry in old.infolist():
            inputs = "sample_inputs" in entry.filename and entry.filename.endswith(".pt")
            data = (tmp_path / "evil.pt").read_bytes() if inputs else old.read(entry)
            new.writestr(zipfile.ZipInfo(entry.filename), data)

    for act in (lambda: modswap.load(file), lambda: swap(file, None, policy=Policy())):
        with pytest.raises(ModswapError) as caught:
            act()
        assert caught.value.code == 4
    assert not canary.exists()


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [pytest.param(True, marks=pytest.mark.ci), False])
def test_swapped_archive_runs_without_modswap(dynamic: bool, tmp_path: Path) -> None:
    model = seeded(GatedNet)
    file = archive(tmp_path / "net.pt2", model, dynamic=dynamic, signed=("space_attention",))

    outcome = swap(file, tmp_path / "out.pt2", head="" if dynamic else UNEXAMINED)

    assert outcome.error is None, outcome.error
    assert outcome.ledger is not None
    assert outcome.ledger.proved
    whole = modswap.load(tmp_path / "out.pt2", trust=True)
    batch = torch.randn(5 if dynamic else 2, 3, 28, 28)
    torch.save(batch, tmp_path / "x.pt")
    program = (
        "import torch\n"
        "program = torch.export.load(sys.argv[1])\n"
        "x = torch.load(sys.argv[2], weights_only=True)\n"
        "torch.save(program.module()(x), sys.argv[3])\n"
        "kept = {k: v for k, v in program.state_dict.items() if 'space_attention' not in k}\n"
        "torch.save(kept, sys.argv[4])\n"
    )
    places = [tmp_path / name for name in ("out.pt2", "x.pt", "y.pt", "kept.pt")]
    alone(program, *places)
    expected = whole(batch)
    got = torch.load(tmp_path / "y.pt", weights_only=True)  # noqa: TID251 - torch's own view
    assert torch.allclose(got, expected, atol=1e-5)
    kept = torch.load(tmp_path / "kept.pt", weights_only=True)  # noqa: TID251 - torch itself reads the file
    for name, tensor in kept.items():
        assert torch.equal(tensor, model.state_dict()[name])
    assert kept


def test_gate_called_by_keyword_keeps_its_call(tmp_path: Path) -> None:
    file = archive(tmp_path / "net.pt2", seeded(Keyed), signed=("gate",))

    outcome = swap(file, tmp_path / "out.pt2", "{match: gate, with: 'tests.models:KeywordGate'}")

    assert outcome.error is None, outcome.error


def test_gate_whose_call_is_not_known_is_refused(tmp_path: Path) -> None:
    file = archive(tmp_path / "net.pt2", seeded(Keyed))

    with pytest.raises(ShapeError, match="does not say in which order") as caught:
        swap(file, tmp_path / "out.pt2", "{match: gate, with: SEBlock}")

    assert "preserve_module_call_signature=('gate',)" in caught.value.fix
    assert not (tmp_path / "out.pt2").exists()


@pytest.mark.slow
def test_archive_without_signatures_says_what_it_assumes(tmp_path: Path) -> None:
    file = archive(tmp_path / "net.pt2", seeded(GatedNet))

    outcome = swap(file, tmp_path / "out.pt2")

    assert any("does not say how 'space_attention' is called" in note for note in outcome.notes)


@pytest.mark.ci
@pytest.mark.slow
def test_swapped_archive_is_swapped_again(tmp_path: Path) -> None:
    swap(archive(tmp_path / "net.pt2", seeded(GatedNet)), tmp_path / "once.pt2")

    outcome = swap(
        tmp_path / "once.pt2", tmp_path / "twice.pt2", "{match: channel_attention, with: ECA}"
    )

    assert outcome.error is None, outcome.error


def test_eager_file_is_exported_for_any_batch(tmp_path: Path) -> None:
    torch.save(seeded(GatedNet), tmp_path / "net.pt")
    policy = Policy(allow=("tests.models.*",))

    outcome = swap(
        tmp_path / "net.pt",
        tmp_path / "out.pt2",
        head="inputs: [{shape: [1, 3, 28, 28]}]",
        policy=policy,
    )

    assert outcome.error is None, outcome.error
    assert any("at any batch size" in note for note in outcome.notes)
    whole = modswap.load(tmp_path / "out.pt2", trust=True)
    assert whole(torch.randn(7, 3, 28, 28)).shape[0] == 7


def test_check_of_an_archive_writes_nothing(tmp_path: Path) -> None:
    file = archive(tmp_path / "net.pt2", seeded(GatedNet))

    assert swap(file, None).error is None
    assert [one.name for one in tmp_path.iterdir()] == ["net.pt2"]


def test_damaged_archive_is_reported(tmp_path: Path) -> None:
    sound = archive(tmp_path / "sound.pt2", seeded(GatedNet))
    with zipfile.ZipFile(sound) as old, zipfile.ZipFile(tmp_path / "net.pt2", "w") as new:
        for entry in old.infolist():
            data = b"{}" if entry.filename.endswith(".json") else old.read(entry)
            new.writestr(zipfile.ZipInfo(entry.filename), data)

    with pytest.raises(CheckpointError, match=r"torch.export.load cannot read it"):
        modswap.load(tmp_path / "net.pt2", trust=True)


def test_model_in_memory_is_not_exported_by_save(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="exported with inputs"):
        modswap.save(seeded(GatedNet), tmp_path / "out.pt2")
    assert list(tmp_path.iterdir()) == []


def test_inputs_that_cannot_be_pickled_are_reported(tmp_path: Path) -> None:
    model = modswap.load(archive(tmp_path / "net.pt2", nn.Conv2d(3, 2, 1)), trust=True)
    how = export_of(model)
    assert how is not None
    vars(how.args[0])["note"] = lambda: None

    with pytest.raises(CheckpointError, match="lambda"):
        modswap.save(model, tmp_path / "out.pt2")

    assert not (tmp_path / "out.pt2").exists()


class Sized(nn.Module):
    """Reads sizes inside a module: (N, 3, H, W) -> (N, 2, H, W), H and W even."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.tokens = Tokens(8)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, _, h, w = x.shape
        y = self.head(self.tokens(self.down(x)))
        out: torch.Tensor = nn.functional.interpolate(y, size=(h, w)) + y.new_ones(n, 1, 1, 1)
        return out


class Tokens(nn.Module):
    """Works on tokens and gives a map back: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        flat = self.proj(x.flatten(2).transpose(1, 2))
        out: torch.Tensor = flat.transpose(1, 2).reshape(n, c, h, w)
        return out


def test_sizes_of_maps_stay_open(tmp_path: Path) -> None:
    half = torch.export.Dim("half", min=2, max=64)
    wide = torch.export.Dim("wide", min=2)
    program = torch.export.export(
        seeded(Sized),
        (torch.randn(2, 3, 16, 24),),
        dynamic_shapes=({0: BATCH, 2: 2 * half, 3: 2 * wide},),
    )
    torch.export.save(program, tmp_path / "net.pt2")

    outcome = swap(tmp_path / "net.pt2", tmp_path / "out.pt2", "{match: tokens, with: SEBlock}")

    assert outcome.error is None, outcome.error
    whole = modswap.load(tmp_path / "out.pt2", trust=True)
    assert whole(torch.randn(3, 3, 20, 8)).shape == (3, 2, 20, 8)


def test_module_that_fixes_the_size_is_refused_or_said(tmp_path: Path) -> None:
    file = archive(tmp_path / "net.pt2", seeded(GatedNet))

    rule = "{match: space_attention, with: 'tests.models:OneBatch'}"
    outcome = swap(file, tmp_path / "out.pt2", rule)

    assert isinstance(outcome.error, ShapeError)
    assert "torch.export refuses the swapped model" in outcome.error.what
    assert not (tmp_path / "out.pt2").exists()


def test_other_inputs_than_the_exported_ones_are_refused(tmp_path: Path) -> None:
    model = modswap.load(archive(tmp_path / "net.pt2", seeded(GatedNet)), trust=True)

    with pytest.raises((TypeError, ValueError)):
        model(torch.randn(2, 3, 28, 28), torch.ones(1))


class WithNumber(nn.Module):
    """Takes a number beside a map: (N, 3, H, W) -> (N, 3, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor, scale: float) -> torch.Tensor:
        out: torch.Tensor = self.gate(x) * scale
        return out


def test_numbers_among_the_inputs_stay(tmp_path: Path) -> None:
    program = torch.export.export(seeded(WithNumber), (torch.randn(2, 3, 8, 8), 2.0))
    torch.export.save(program, tmp_path / "net.pt2", extra_files={"labels.txt": "a b c"})

    outcome = swap(
        tmp_path / "net.pt2",
        tmp_path / "out.pt2",
        "{match: gate, with: SEBlock, args: {reduction: 1}}",
    )

    assert outcome.error is None, outcome.error
    extra = {"labels.txt": "", "modswap/recipe.yaml": ""}
    torch.export.load(tmp_path / "out.pt2", extra_files=extra)
    assert extra["labels.txt"] == "a b c"
    assert "SEBlock" in extra["modswap/recipe.yaml"]


def test_archive_of_training_mode_stays_in_it(tmp_path: Path) -> None:
    model = seeded(GatedNet).train()
    program = torch.export.export(model, (torch.randn(2, 3, 28, 28),))
    torch.export.save(program, tmp_path / "net.pt2")

    outcome = swap(tmp_path / "net.pt2", tmp_path / "out.pt2")

    assert outcome.error is None, outcome.error


@pytest.mark.slow
def test_signatures_that_torch_cannot_use_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = archive(tmp_path / "net.pt2", seeded(GatedNet), signed=("space_attention",))
    real = torch.export.unflatten
    failed: list[Any] = []

    def once(program: Any) -> Any:
        if not failed:
            failed.append(program)
            raise RuntimeError("a node has no such value")
        return real(program)

    monkeypatch.setattr(torch.export, "unflatten", once)

    outcome = swap(file, None)

    assert any("does not say how" in note for note in outcome.notes)


class Doubled(GatedNet):
    """Gives other values than `GatedNet` does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 2


def test_distance_is_reported_where_two_modules_differ() -> None:
    x = torch.randn(2, 3, 28, 28)
    model = seeded(GatedNet)
    counting = nn.Sequential(nn.BatchNorm2d(3)).train()

    assert distance(model, model, (x,), {}) == 0
    assert distance(model, seeded(Doubled), (x,), {}) > 0
    assert distance(model, nn.Identity(), (x,), {}) == float("inf")
    assert distance(nn.Identity(), nn.MaxPool2d(2, return_indices=True), (x,), {}) == float("inf")
    assert distance(nn.Identity(), nn.Identity(), (x[:0],), {}) == 0
    assert distance(nn.Identity(), nn.Identity(), (x.to(torch.complex64),), {}) == 0
    assert distance(nn.Identity(), nn.Identity(), (x.int(),), {}) == 0
    assert distance(counting, counting, (x,), {}) == 0
    assert counting[0].num_batches_tracked == 0


def saved(file: Path, model: nn.Module, args: tuple[Any, ...], shapes: Any) -> Path:
    torch.export.save(torch.export.export(model, args, dynamic_shapes=shapes), file)
    return file


class Joined(nn.Module):
    """Adds two vectors end to end to a third: (N), (M), (N + M) -> (N + M)."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.PReLU()

    def forward(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.gate(torch.cat([a, b]) + c)
        return out


def test_sizes_that_depend_on_two_others_are_left_to_torch(tmp_path: Path) -> None:
    auto = torch.export.Dim.AUTO
    args = (torch.randn(4), torch.randn(5), torch.randn(9))
    shapes = ({0: auto}, {0: auto}, {0: auto})
    file = saved(tmp_path / "net.pt2", seeded(Joined), args, shapes)

    model = modswap.load(file, trust=True)
    modswap.save(model, tmp_path / "again.pt2")

    again = modswap.load(tmp_path / "again.pt2", trust=True)
    assert again(torch.ones(2), torch.ones(3), torch.ones(5)).shape == (5,)


def test_numbers_stay_where_sizes_are_open(tmp_path: Path) -> None:
    args = (torch.randn(2, 3, 8, 8), 2.0)
    file = saved(tmp_path / "net.pt2", seeded(WithNumber), args, ({0: BATCH}, None))
    rule = "{match: gate, with: SEBlock, args: {reduction: 1}}"

    outcome = swap(file, tmp_path / "out.pt2", rule)

    assert outcome.error is None, outcome.error


@pytest.mark.slow
def test_sizes_that_get_fewer_are_reported(tmp_path: Path) -> None:
    file = archive(tmp_path / "net.pt2", seeded(GatedNet))
    rule = "{match: space_attention, with: 'tests.models:EvenBatch'}"

    outcome = swap(file, tmp_path / "out.pt2", rule)

    assert outcome.error is None, outcome.error
    assert any("refuses some of them when it is run" in note for note in outcome.notes)


@pytest.mark.ci
@pytest.mark.slow
def test_module_that_torch_cannot_trace_is_refused(tmp_path: Path) -> None:
    file = archive(tmp_path / "net.pt2", seeded(GatedNet))

    rule = "{match: space_attention, with: 'tests.models:ByValue'}"
    # so that it comes to the export: other examinations find fault with it before
    head = "verify: {skip: [matrix, gradients, independence, dependence]}"
    outcome = swap(file, tmp_path / "out.pt2", rule, head)

    assert isinstance(outcome.error, ShapeError)
    assert "torch.export refuses" in outcome.error.what


def test_module_that_does_nothing_leaves_no_signature(tmp_path: Path) -> None:
    file = archive(tmp_path / "net.pt2", seeded(GatedNet), signed=("space_attention",))

    outcome = swap(
        file, tmp_path / "out.pt2", "{match: space_attention, with: 'torch.nn:Identity'}"
    )

    assert outcome.error is None, outcome.error


def test_archive_that_unflattens_to_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = archive(tmp_path / "net.pt2", seeded(GatedNet))
    monkeypatch.setattr("modswap.io.formats.exported.load.distance", lambda *_: 0.5)

    with pytest.raises(CheckpointError, match=r"0\.5 apart"):
        modswap.load(file, trust=True)


@pytest.mark.slow
def test_model_of_an_archive_is_saved_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = modswap.load(archive(tmp_path / "net.pt2", seeded(GatedNet)), trust=True)

    modswap.save(model, tmp_path / "again.pt2")

    x = torch.randn(2, 3, 28, 28)
    again = modswap.load(tmp_path / "again.pt2", trust=True)
    assert torch.allclose(again(x), model(x), atol=1e-6)

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("cannot pickle this")

    monkeypatch.setattr(torch.export, "save", fails)
    with pytest.raises(CheckpointError, match="cannot pickle this"):
        modswap.save(model, tmp_path / "third.pt2")
    assert not (tmp_path / "third.pt2").exists()


@pytest.mark.slow
def test_starter_recipe_takes_the_example_inputs_of_an_archive(tmp_path: Path) -> None:
    file = archive(tmp_path / "net.pt2", seeded(GatedNet))

    text = starter_recipe(Subject(file, TRUST))

    assert "shape: [2, 3, 28, 28]" in text
    recipe = parse_recipe(text, "swap.yaml", ".")
    assert replace_file(Job(Subject(file, TRUST), recipe, tmp_path / "out.pt2")).error is None
