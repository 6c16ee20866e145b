"""`modswap heal` on real files: what it says, writes and refuses.

Covers: cli.healing, cli.commands.heal, core.asked.healing, core.healed.healing, ops.jobs.heal.
"""

import copy
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import modswap as package
from modswap.cli.app import run
from modswap.core.asked.healing import stages_of
from modswap.core.errors import UsageError
from modswap.ops.heal.fitting.resume import ResumeFile
from tests.ops.heal.nets import Scaled, Twice, classifier, pictures

ALLOW = ["--allow", "tests.ops.heal.nets.*"]
RULE = ["--match", "mix", "--with", "BiLevelRoutingAttention", "--set", "n_win=2"]
INPUT = ["--input", "2,3,8,8"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heal")
    torch.save(classifier(), folder / "net.pt")
    np.save(folder / "data.npy", pictures().numpy())
    more = [*RULE, "--set", "topk=2", *INPUT, *ALLOW, "-q"]
    assert run(["replace", str(folder / "net.pt"), *more, "-o", str(folder / "bra.pt")]) == 0
    return folder


def healing(files: Path, *more: str) -> list[str]:
    given = [str(files / "bra.pt"), "--against", str(files / "net.pt"), "--data"]
    return ["heal", *given, str(files / "data.npy"), *INPUT, *ALLOW, *more]


def test_healed_file_agrees_and_keeps_all_else(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "healed.pt"
    code = run(healing(files, "--stages", "closed", "-o", str(out), "-v"))
    said = " ".join(capsys.readouterr().out.split())
    assert code == 0
    assert "128 to learn from, 32 held out to judge" in said
    assert "; beside it: dropped" in said
    for word in ("swapped", "closed", "healed", "beside: dropped", "error at the site"):
        assert word in said
    assert "OK 1 site healed in " in said
    models = [package.load(files / name, allow=[ALLOW[1]]) for name in ("net.pt", "bra.pt")]
    healed = package.load(out, allow=[ALLOW[1]])
    x = pictures(8)
    with torch.no_grad():
        wanted, before, after = (model(x) for model in (*models, healed))
    assert (after - wanted).square().mean() < (before - wanted).square().mean() / 3
    names = models[1].state_dict()
    changed = [n for n, t in healed.state_dict().items() if not torch.equal(t, names[n])]
    assert changed
    assert all(name.startswith("mix.") for name in changed)
    assert run(["verify", str(out)]) == 0
    assert run(["revert", str(out), "--dry-run", *ALLOW]) == 1  # nothing of the old one is in it


def test_json_has_every_number(
    files: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = str(tmp_path / "x.safetensors")
    code = run(healing(files, "-o", out, "--stages", "inherit,closed,norms", "--format", "json"))
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == 0
    assert data["command"] == "heal"
    found = data["healing"]
    assert [stage["stage"] for stage in found["stages"]] == ["inherit", "closed", "norms"]
    assert found["after"]["error"] < found["before"]["error"]
    assert found["sites"][0]["path"] == "mix"
    assert found["learned"] + found["held"] == 160
    assert data["output"]["format"] == "safetensors"


def test_own_metric_and_labels_are_reported_beside(
    files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def metric(model):\n    return float(model.norm.eps) * 1e5\n")
    labels = classifier()(pictures()).argmax(1)
    np.savez(tmp_path / "data.npz", x=pictures().numpy(), labels=labels.numpy())
    call = healing(files, "--stages", "closed", "--dry-run", "--evaluate", "mine.py:metric")
    call[call.index("--data") + 1] = "data.npz"
    assert run(call) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "mine.py:metric 1.000 original, 1.000 swapped, 1.000 healed" in said
    assert "accuracy on labels 1.000 original, " in said


def test_dry_run_writes_nothing(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(files.iterdir())
    assert run(healing(files, "--stages", "closed", "--dry-run")) == 0
    assert "a dry run, nothing was written" in " ".join(capsys.readouterr().out.split())
    assert sorted(files.iterdir()) == before


def test_file_against_itself_has_nothing_to_heal(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = healing(files, "--dry-run")
    call[call.index("--against") + 1] = str(files / "bra.pt")
    assert run(call) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "computes what the original does: there is nothing to heal" in said
    assert "OK 1 site needs no healing" in said
    assert run([*call[:-1], "-o", str(tmp_path / "same.pt")]) == 0
    states = [package.load(files / "bra.pt", allow=[ALLOW[1]]).state_dict()]
    states += [package.load(tmp_path / "same.pt", allow=[ALLOW[1]]).state_dict()]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (["--stages", "closd", "--dry-run"], 2, "--stages: there is no stage 'closd'"),
        (["--metric", "dize", "--dry-run"], 2, "--metric: there is no metric 'dize'"),
        (["--device", "cuda:99", "--dry-run"], 2, "--device: "),
        ([], 2, "there is no file to write"),
    ],
)
def test_wrong_wish_is_refused_in_one_line(
    files: Path, more: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(healing(files, *more)) == code
    assert says in capsys.readouterr().err


def test_original_is_never_written_over(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(healing(files, "-o", str(files / "net.pt"), "--force")) != 0
    assert "net.pt" in capsys.readouterr().err


def test_stages_are_named_in_any_order() -> None:
    assert stages_of("norms, inherit") == ("inherit", "norms")
    with pytest.raises(UsageError, match="no stage is named"):
        stages_of(",")


@pytest.mark.slow
def test_broken_off_run_leaves_its_best_state_and_goes_on_to_the_same_bits(
    files: Path, tmp_path: Path
) -> None:
    fitted = ["--stages", "closed,fit,end", "--steps", "60"]
    whole, parts = tmp_path / "whole.pt", tmp_path / "parts.pt"
    call = [sys.executable, "-m", "modswap", *healing(files, *fitted, "-v")]
    subprocess.run([*call, "-o", str(whole)], check=True, capture_output=True, timeout=300)
    with subprocess.Popen([*call, "-o", str(parts)], stderr=subprocess.PIPE, text=True) as run_:
        assert run_.stderr is not None
        for line in run_.stderr:
            if "stage fit" in line:
                run_.send_signal(signal.SIGINT)
                break
        run_.stderr.read()
    assert run_.returncode == 130
    assert parts.exists()
    assert parts.with_name("parts.pt.resume").exists()
    subprocess.run(
        [*call, "-o", str(parts), "--force", "--resume"],
        check=True,
        capture_output=True,
        timeout=300,
    )
    states = [package.load(one, allow=[ALLOW[1]]).state_dict() for one in (whole, parts)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not parts.with_name("parts.pt.resume").exists()


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--all"]])
def test_fitted_stages_run_where_the_goal_is_not_reached(
    files: Path, tmp_path: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "healed.pt"
    call = healing(files, "-o", str(out), "--steps", "60", "--minutes", "5", *more)
    assert run([*call, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)["healing"]
    assert [stage["stage"] for stage in found["stages"]][-2:] == ["fit", "end"]
    ends = [stage["agreement"]["error"] for stage in found["stages"] if stage["kept"]]
    assert ends == sorted(ends, reverse=True)
    states = [package.load(one, allow=[ALLOW[1]]) for one in (files / "bra.pt", out)]
    changed = [
        name
        for name, tensor in states[1].state_dict().items()
        if not torch.equal(tensor, states[0].state_dict()[name])
    ]
    assert any(name.startswith("stem.") for name in changed) is bool(more)


@pytest.mark.slow
def test_swap_is_healed_before_it_is_written(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "healed.pt"
    more = [*RULE, "--set", "topk=2", *INPUT, *ALLOW, "--heal", str(files / "data.npy")]
    assert run(["replace", str(files / "net.pt"), *more, "-o", str(out), "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["command"] == "replace"
    assert data["healing"]["after"]["error"] < data["healing"]["before"]["error"] / 3
    net, healed = (package.load(one, allow=[ALLOW[1]]) for one in (files / "net.pt", out))
    x = pictures(8)
    with torch.no_grad():
        assert (healed(x) - net(x)).square().mean() < net(x).var() / 2
    assert run(["verify", str(out)]) == 0
    assert run(["replace", str(files / "net.pt"), *more, "-o", str(out), "--no-forward"]) == 2
    assert "--heal and --no-forward exclude each other" in capsys.readouterr().err


def test_model_in_memory_is_healed_in_place() -> None:
    net = classifier()
    other = copy.deepcopy(net)
    package.replace(
        other,
        match="mix",
        with_="BiLevelRoutingAttention",
        args={"n_win": 2},
        inputs=[(2, 3, 8, 8)],
    )
    parameter = next(other.mix.parameters())
    batches = list(pictures().split(40))
    found = package.heal(other, against=net, data=batches, stages=("closed",)).healing
    assert found is not None
    assert found.after.error < found.before.error / 3
    assert next(other.mix.parameters()) is parameter
    with torch.no_grad():
        assert (other(pictures(8)) - net(pictures(8))).square().mean() < net(pictures(8)).var() / 2
    with pytest.raises(UsageError, match="there is no wish 'step'"):
        package.heal(other, against=net, data=batches, step=3)
    with pytest.raises(UsageError, match="there is nothing to heal"):
        package.heal(copy.deepcopy(net), against=net, data=batches, inputs=[(2, 3, 8, 8)])


def test_file_with_two_copies_keeps_its_norms(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = {"model": classifier(), "ema": classifier()}
    torch.save(both, tmp_path / "net.pt")
    more = [*RULE, "--set", "topk=2", *INPUT, *ALLOW, "-q"]
    assert run(["replace", str(tmp_path / "net.pt"), *more, "-o", str(tmp_path / "bra.pt")]) == 0
    call = healing(tmp_path, "--stages", "closed,norms", "-o", str(tmp_path / "out.pt"))
    call[call.index("--data") + 1] = str(files / "data.npy")
    assert run([*call, "--format", "json"]) == 0
    assert [s["stage"] for s in json.loads(capsys.readouterr().out)["healing"]["stages"]] == [
        "closed"
    ]
    assert run([*call, "--all", "--force"]) == 2
    assert "--all: the file holds the model more than once" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["net.pt", "bra.pt", "data.npy"])
def test_nothing_that_is_read_is_written_over(
    files: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for one in files.iterdir():
        (tmp_path / one.name).write_bytes(one.read_bytes())
    before = (tmp_path / name).read_bytes()
    call = healing(tmp_path, "--stages", "closed")
    for more in (["-o", str(tmp_path / name)], ["--dry-run", "--report", str(tmp_path / name)]):
        assert run([*call, *more, "--force"]) != 0
        assert name in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == before


def test_resume_file_of_another_is_neither_written_over_nor_taken(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, kept = tmp_path / "out.pt", tmp_path / "out.pt.resume"
    kept.write_text("my notes")
    call = healing(files, "--stages", "closed", "-o", str(out))
    assert run([*call, "--force"]) == 3
    assert "it is in the place of the resume file, and is none" in capsys.readouterr().err
    assert kept.read_text() == "my notes"
    kept.unlink()
    ResumeFile(kept, {}).keep("fit", "mix", {})
    assert run(call) == 3
    assert "add --resume to go on, or --force to start again" in capsys.readouterr().err
    assert run([*call, "--resume"]) == 2
    assert "is of another run" in capsys.readouterr().err
    assert not out.exists()
    assert run([*call, "--force"]) == 0
    assert not kept.exists()
    assert run([*call[:-2], "--dry-run", "--resume"]) == 2
    assert "--resume: a dry run leaves nothing" in capsys.readouterr().err


def test_healing_of_a_swap_that_is_broken_off_ends_with_130(
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("modswap.ops.heal.healer.fit_closed", stop)
    out = tmp_path / "out.pt"
    more = [*RULE, "--set", "topk=2", *INPUT, *ALLOW, "--fast", "--heal", str(files / "data.npy")]
    assert run(["replace", str(files / "net.pt"), *more, "-o", str(out)]) == 130
    said = " ".join(capsys.readouterr().out.split())
    assert "broken off: this is the best state so far" in said
    assert "--resume" not in said
    assert out.exists()


def test_norm_with_two_names_stays_one_in_the_file(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    net = Twice().eval()
    other: Any = copy.deepcopy(net)
    other.mix = Scaled.of(net.mix)
    torch.save(net, tmp_path / "net.pt")
    torch.save(other, tmp_path / "bra.pt")
    out = tmp_path / "out.pt"
    call = healing(tmp_path, "--stages", "norms", "--metric", "error", "-o", str(out))
    call[call.index("--data") + 1] = str(files / "data.npy")
    assert run([*call, "--samples", "160", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)["healing"]
    assert found["stages"][0]["kept"]
    healed: Any = package.load(out, allow=[ALLOW[1]])
    assert healed.norm is healed.again
    assert float((healed.norm.running_var - other.norm.running_var).abs().max()) > 0


def test_numbers_that_are_none_have_room_in_json(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model: Any = package.load(files / "bra.pt", allow=[ALLOW[1]])
    with torch.no_grad():
        model.mix.wo.weight.fill_(float("nan"))
    torch.save(model, tmp_path / "nan.pt")
    call = healing(files, "--stages", "inherit", "--dry-run", "--format", "json")
    call[1] = str(tmp_path / "nan.pt")
    assert run(call) == 0
    assert json.loads(capsys.readouterr().out)["healing"]["sites"][0]["before"] is None


@pytest.mark.slow
def test_report_of_a_healing_swap_names_the_healing(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "healed.pt"
    more = [*RULE, "--set", "topk=2", *INPUT, *ALLOW, "--fast", "--heal", str(files / "data.npy")]
    assert run(["replace", str(files / "net.pt"), *more, "-o", str(out)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "newly initialised" not in said
    assert "OK 1 site swapped in" in said
    assert ", top-1 0." in said
    call = ["replace", str(files / "net.pt"), *more, "-o", str(tmp_path / "x.pt")]
    call[call.index("--heal") + 1] = str(tmp_path / "nosuch.npy")
    assert run(call) == 3
    assert "no such file" in capsys.readouterr().err


def test_numbers_of_pictures_are_taken_and_shown_before_anything_starts(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bytes_ = (pictures().clamp(-1, 1) * 127 + 128).to(torch.uint8)
    np.save(tmp_path / "bytes.npy", bytes_.numpy())
    call = healing(
        files, "--stages", "inherit", "--dry-run", "-v", "--size", "8,8", "--mean", "0.5"
    )
    call[call.index("--data") + 1] = str(tmp_path / "bytes.npy")
    assert run([*call, "--std", "0.25,0.25,0.5"]) == 0
    said = capsys.readouterr().err
    told = "normalised by mean 0.5 and deviation 0.25, 0.5, as given"
    assert said.index("… data: bytes are taken as pictures, " + told) < said.index("… measuring")
    swap = ["replace", str(files / "net.pt"), *RULE, "--set", "topk=2", *INPUT, *ALLOW, "--dry-run"]
    more = ["--heal", str(tmp_path / "bytes.npy"), "--mean", "0.5", "--std", "0.5", "--size", "8"]
    assert run([*swap, *more, "--fast", "--steps", "2"]) == 0
    assert "normalised by mean 0.5 and deviation 0.5, as given" in flat(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("wish", "line"),
    [
        (["--size", "8"], "--size: size, mean and deviation are those of pictures, and the data "),
        (["--size", "8,8,8"], "--size: (8, 8, 8) is no height and width of pictures"),
        (["--size", "8.5"], "--size: '8.5' is no list of numbers"),
        (["--size", "5000"], "--size: (5000,) is no height and width of pictures up to 4096"),
        (["--mean", "124"], "--mean: (124.0,) is no mean of pixels in 0 to 1"),
        (["--mean", "0.5"], "--mean: mean is given, and std is not"),
        (["--std", "0.5"], "--std: std is given, and mean is not"),
        (["--mean", "nan"], "--mean: (nan,) is no mean of pixels in 0 to 1"),
        (["--std", "1,0"], "--std: (1.0, 0.0) is no deviation of pixels in 0 to 1"),
    ],
)
def test_numbers_of_pictures_that_do_not_fit_are_refused(
    files: Path, capsys: pytest.CaptureFixture[str], wish: list[str], line: str
) -> None:
    assert run(healing(files, "--dry-run", *wish)) == 2
    assert flat(capsys.readouterr().err).startswith(f"error: {line}")


def test_wishes_of_a_healing_need_one(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replace", str(files / "net.pt"), *RULE, "--dry-run", "--steps", "3"]) == 2
    assert "--steps is for a healing, and there is none\n  fix: add `--heal D`" in (
        capsys.readouterr().err
    )


@pytest.mark.ci
@pytest.mark.slow
def test_drawn_pictures_are_optimised_where_steps_are_given(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = healing(files, "--stages", "closed", "--dry-run", "--samples", "64", "--steps", "3")
    call[call.index("--data") + 1] = "none"
    assert run([*call, "--minutes", "5"]) == 0
    said = flat(capsys.readouterr().out)
    assert "drawn pictures, 8x8, optimised" in said
    assert "they were optimised in 3 steps to the statistics of the batch norms" in said


@pytest.mark.slow
def test_linear_map_beside_a_module_is_written_and_examined(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swap = ["replace", str(files / "net.pt"), "--match", "mix", "--with", "CBAM", *INPUT, *ALLOW]
    assert run([*swap, "-q", "--fast", "-o", str(tmp_path / "cbam.pt")]) == 0
    call = healing(files, "--stages", "closed", "--metric", "error", "--bypass", "-o")
    call[1] = str(tmp_path / "cbam.pt")
    out = tmp_path / "healed.pt"
    assert run([*call, str(out)]) == 0
    said = flat(capsys.readouterr().out)
    assert "mix: beside it is a linear map (bypass): Conv2d(8, 8, " in said
    assert "fresh, to be trained" not in said
    assert run(["verify", str(out)]) == 0
    assert run(["check", str(out), "--around", "mix", "--with", "ECA", *INPUT, *ALLOW, "-q"]) == 0
    assert run(["revert", str(out), "--partial", *ALLOW, "-o", str(tmp_path / "back.pt")]) == 0
    back = package.load(tmp_path / "back.pt", allow=[ALLOW[1]])
    was = package.load(tmp_path / "cbam.pt", allow=[ALLOW[1]])
    assert back.state_dict().keys() == was.state_dict().keys()
    call[1] = str(out)
    capsys.readouterr()
    assert run([*call[:-1], "--dry-run", "--format", "json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert [site["path"] for site in again["healing"]["sites"]] == ["mix"]  # the map is a part
    assert again["params"]["before"] == again["params"]["after"]
    more = ["--heal", str(files / "data.npy"), "--bypass", "--steps", "1", "--fast"]
    assert run([*swap, *more, "-o", str(tmp_path / "both.pt")]) == 0
    both = package.load(tmp_path / "both.pt", allow=[ALLOW[1]])
    assert "mix.bypass.module.weight" in both.state_dict()


def test_report_is_not_written_over_the_file_to_go_on_from(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "x.pt.resume"
    more = ["--stages", "inherit", "-o", str(tmp_path / "x.pt"), "--report", str(kept)]
    assert run(healing(files, *more)) != 0
    assert "the file to go on from" in capsys.readouterr().err
    assert not kept.exists()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_numbers_of_a_file_in_half_precision_are_said_to_be_of_a_copy(half: torch.dtype) -> None:
    net = classifier().to(half)
    other = copy.deepcopy(net)
    package.replace(other, match="mix", with_="ECA", inputs=[(2, 3, 8, 8)])
    outcome = package.heal(other, against=net, data=[pictures(64)], stages=("inherit",))
    assert outcome.healing is not None
    held = str(half).removeprefix("torch.")
    said = f"all numbers are those of a copy in float32: the file holds {held}, which rounds them"
    assert outcome.healing.notes[-1] == said


def flat(text: str) -> str:
    return " ".join(text.split())


def test_a_single_process_has_no_parts_of_a_model(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(healing(files, "--dry-run", "--shard")) == 2
    assert "there is one process" in capsys.readouterr().err
