"""`modswap sweep` on real files: its tables, its JSON and its refusals.

Covers: cli.sweeping, cli.commands.sweep, ops.jobs.sweep, ops.jobs.trials.processes,
ops.jobs.trials.work, ops.sweep.sweep.
"""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modswap.cli.app import run
from modswap.core.asked.healing import HealingRequest
from modswap.core.asked.job import Policy, Subject, SweepJob
from modswap.core.errors import ShapeError
from modswap.core.progress import Progress
from modswap.core.swept.record import SiteTrial, TrialResult
from modswap.ops.jobs import sweep as jobs_sweep
from modswap.ops.jobs.sweep import open_bench, sweep_file
from modswap.ops.jobs.trials.processes import run_in_processes
from modswap.ops.rule_call import recipe_of_call
from modswap.ops.sweep import together, trial
from modswap.ops.sweep.bench import TrialBench
from tests.ops.heal.nets import classifier, pictures

ALLOW = ["--allow", "tests.ops.heal.nets.*"]
INPUT = ["--input", "2,3,8,8"]
RULE = ["--match", "mix", "--with", "BRA", "--set", "n_win=2", "--grid", "topk=1,3"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    torch.save(classifier(), folder / "net.pt")
    np.save(folder / "data.npy", pictures().numpy())
    return folder


def call(files: Path, *more: str, rule: list[str] = RULE) -> list[str]:
    data = ["--data", str(files / "data.npy")]
    return ["sweep", str(files / "net.pt"), *rule, *data, *INPUT, *ALLOW, *more]


def test_every_option_is_measured_at_every_site(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(call(files, "--match", "stem.0", "--samples", "96"))

    said = " ".join(capsys.readouterr().out.split())
    assert code == 0
    assert "data.npy, as they are: 77 to learn from, 19 held out to judge" in said
    assert "mix topk=3 0." in said
    assert "fails stem.0 BRA topk=1, BRA topk=3: the site turns (2, 3, 8, 8) into" in said
    assert "OK 2 of 4 trials measured in" in said


def test_json_has_every_trial(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(call(files, "--samples", "64", "--with", "ACmix", "--format", "json"))

    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [(one["module"], one["args"], one["base"]) for one in data["trials"]] == [
        ("BRA", {"topk": 1}, {"n_win": 2}),
        ("BRA", {"topk": 3}, {"n_win": 2}),
        ("ACmix", {}, {}),
    ]
    assert all(0 < one["error"] < 1 and one["holds"] for one in data["trials"])
    assert data["inputs"] == "(2, 3, 8, 8)"
    assert [one["how"] for one in data["trials"]] == ["closed", "closed", "inherited"]


def test_sweep_in_which_nothing_holds_fails(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = ["--match", "mix", "--with", "BRA", "--set", "n_win=2", "--grid", "topk=9"]

    assert run(call(files, rule=rule)) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "FAILED mix: none of 1 trials holds; the first: --grid topk: topk is 9" in shown
    assert run(call(files, "--format", "json", rule=rule)) == 1
    found = capsys.readouterr()
    assert json.loads(found.out)["error"]["code"] == 1
    assert "error: mix: none of 1 trials holds" in found.err


def test_chosen_sites_are_written_as_a_recipe_that_holds(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "best.yaml"
    more = ["--choose", "1", "--max-params", "1k", "--save-recipe", str(saved), "--samples", "64"]
    assert run(call(files, *more, "--format", "json")) == 0
    data: dict[str, Any] = json.loads(capsys.readouterr().out)

    best = min(data["trials"], key=lambda one: one["error"])
    assert data["choice"]["trials"] == [{"site": "mix", "module": "BRA", "args": best["args"]}]
    together = data["choice"]["together"]
    assert together["params"] == data["before"]["params"] + best["added"]["params"]
    assert together["memory"] == data["before"]["memory"] + best["added"]["memory"]
    assert run(["check", str(files / "net.pt"), "-c", str(saved), "--fast", *ALLOW]) == 0
    assert "OK  the swap of 1 site" in capsys.readouterr().out
    assert "expect: 1" in saved.read_text()


def test_choice_that_there_is_not_fails(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "best.yaml"
    more = ["--choose", "1", "--max-flops", "1k", "--save-recipe", str(saved), "--samples", "64"]

    assert run(call(files, *more)) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "FAILED --max-flops: 1 of the sites take " in said
    assert not saved.exists()


def test_trials_that_are_done_are_not_run_again(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    kept = tmp_path / "sweep.resume"
    more = ["--resume", str(kept), "--samples", "64", "--format", "json"]
    ran: list[str] = []
    tried = trial._tried

    def counted(bench: Any, one: SiteTrial) -> TrialResult:
        ran.append(one.words)
        if one.words == "topk=2":
            raise KeyboardInterrupt
        return tried(bench, one)

    monkeypatch.setattr(trial, "_tried", counted)
    wider = [*RULE[:-1], "topk=1,2,3"]
    assert run(call(files, *more, rule=wider)) == 130
    first = json.loads(capsys.readouterr().out)
    assert (first["interrupted"], first["planned"], ran) == (True, 3, ["topk=1", "topk=2"])
    assert "--resume goes on" in first["notes"][-1]
    ran.clear()

    assert run(call(files, *more)) == 0
    second = json.loads(capsys.readouterr().out)
    assert ran == ["topk=3"]
    assert second["trials"][0] == first["trials"][0]
    page = tmp_path / "sweep.html"
    assert run(call(files, *more[:-1], "html", "--report", str(page))) == 0
    assert ran == ["topk=3"]
    assert "2 of 2 trials measured" in page.read_text()
    assert run(call(files, *more[:2], "--samples", "65")) == 2
    assert "is of another run: its samples was '64', is now '65'" in capsys.readouterr().err


def test_best_trials_are_healed_and_drawn(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    svg = tmp_path / "sweep.svg"
    more = ["--heal-best", "1", "--steps", "2", "--plot", str(svg), "--plot-cost", "params"]

    assert run(call(files, *more, "--samples", "64")) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    head = next(line for line in lines if line[:1] == ["site"])
    rows = [line for line in lines if line[:1] == ["mix"]]
    assert head[-1] == "healed"
    assert [len(row) for row in rows] == [len(head) + 2, len(head) + 1]  # units, and one agreement
    assert 0 < float(rows[0][-1]) <= 1
    assert "parameters added" in svg.read_text()
    other = tmp_path / "other.svg"
    other.write_text("<svg>of another program</svg>")
    assert run(call(files, "--samples", "64", "--plot", str(other))) == 3


class Killed:
    """The work of a sweep whose process is killed at the first try of a trial."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __call__(self, job: SweepJob, progress: Progress) -> TrialBench:
        bench = open_bench(job, progress)
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return bench


@pytest.mark.slow
def test_killed_process_loses_one_trial_which_is_run_again(files: Path, tmp_path: Path) -> None:
    recipe = recipe_of_call({"match": "mix", "with_": "BRA", "args": {"n_win": 2}}, [(2, 3, 8, 8)])
    subject = Subject(files / "net.pt", Policy(("tests.ops.heal.nets.*",)), inputs=recipe.inputs)  # type: ignore[arg-type] # tensors alone
    request = HealingRequest(samples=64)
    grid = (("topk", (1, 2, 3)),)
    job = SweepJob(subject, str(files / "data.npy"), recipe, request, (), grid, jobs=2)
    done: list[TrialResult] = []
    said: list[str] = []
    trials = open_bench(job, said.append).trials()

    run_in_processes(job, Killed(tmp_path / "killed"), trials, done.append, said.append)

    assert sorted(one.trial.words for one in done) == ["topk=1", "topk=2", "topk=3"]
    assert any("1 trials are run again: its process was ended by SIGKILL" in line for line in said)
    alone = sweep_file(replace(job, jobs=1))
    errors = {one.trial.key: one.error for one in alone.results}
    assert {one.trial.key: one.error for one in done} == pytest.approx(errors, rel=1e-4)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (["--match", "mix"], "--with: there is no new module to try; add --with MODULE"),
        (["--with", "BRA"], "--with needs --match as well"),
        ([*RULE, "--grid", "n_win"], "'n_win' is no OPTION=A,B; write --grid topk=1,4,8"),
        ([*RULE, "--grid", "topk=2"], "'topk' is given twice"),
        ([*RULE, "--grid", "auto_pad=true,true"], "has a value twice"),
        ([*RULE, "--grid", "n_win=2,4"], "'n_win' is set, and varied as well"),
        ([*RULE, "--grid", "topq=2,4"], "BRA has no option 'topq'; did you mean 'topk'"),
        (
            ["--match", "mix", "--with", "BRA", "--grid", "topk=a,1"],
            "--grid topk: topk is 'a', expected a whole number of at least 1 or auto; correct",
        ),
        ([*RULE, "--set", "num_heads=x"], "--set num_heads: num_heads is 'x', expected"),
        ([*RULE, "--samples", "16"], "--samples: at most 16 samples are asked for, expected 32"),
        ([*RULE, "--start", "preserve"], "write fresh or inherit"),
        ([*RULE, "--with", "CBAMM"], "--with: no module 'CBAMM' in the catalogue; did you mean"),
        ([*RULE, "--choose", "2"], "--choose: 2 sites are to be chosen, and the rule selects 1"),
        ([*RULE, "--expect", "2"], "expect"),
        ([*RULE, "--plot", "a.png"], "--plot: 'a.png' is no SVG; name FILE.svg"),
        ([*RULE, "--plot-cost", "flop"], "there is no cost 'flop'; did you mean 'flops'"),
        ([*RULE, "--choose", "0"], "'0' is no number of sites; write 3, or 3+ for 3 or more"),
        ([*RULE, "--max-flops", "1G"], "--max-flops: nothing is to be chosen; add --choose K"),
        ([*RULE, "--choose", "1", "--max-params", "1x"], "--max-params: '1x' is no number"),
        (["--match", "mis", "--with", "BRA"], "no module matches 'mis'"),
    ],
)
def test_wrong_call_is_refused(
    files: Path, capsys: pytest.CaptureFixture[str], rule: list[str], message: str
) -> None:
    assert run(call(files, rule=rule)) == 2
    said = capsys.readouterr().err.replace("\n  fix: ", "; ")
    assert message in said


def test_texts_need_a_folder_before_anything_is_tried(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, name in (("--save-recipe", "r.yaml"), ("--plot", "p.svg"), ("--resume", "kept")):
        given = call(files, "--choose", "1", option, str(files / "none" / name))
        assert run(given) == 3
        said = capsys.readouterr()
        assert "make its folder first" in said.err
        assert said.out == ""


@pytest.mark.parametrize("place", ["net.pt", "net.pt/kept", "link", "hard"])
def test_results_are_never_kept_in_what_is_read(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    net = tmp_path / "net.pt"
    net.write_bytes((files / "net.pt").read_bytes())
    (tmp_path / "link").symlink_to("net.pt")
    (tmp_path / "hard").hardlink_to(net)
    if "/" in place:
        net = tmp_path / "folder"
        net.mkdir()
        place = "folder/kept"

    code = run(["sweep", str(net), *RULE, "--data", "none", "--resume", str(tmp_path / place)])

    assert code == 3
    assert "the file to go on from cannot be there: it is " in capsys.readouterr().err
    assert not (tmp_path / "folder" / "kept").exists()


CODE = """
import os
from pathlib import Path
import torch

class Own(torch.nn.Conv2d):
    def __init__(self):
        super().__init__(8, 8, 1)

    def forward(self, x):
        {}
        return super().forward(x)
"""


def written(folder: Path, line: str) -> str:
    (folder / "own_module.py").write_text(CODE.format(line))
    return f"{folder / 'own_module.py'}:Own"


def test_module_that_raises_on_the_data_loses_its_trial_alone(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = written(tmp_path, "assert len(x) == 2, 'two rows'")
    rule = ["--match", "mix", "--with", own, "--with", "ECA"]

    assert run(call(files, "--samples", "64", "--format", "json", rule=rule)) == 0

    one, other = json.loads(capsys.readouterr().out)["trials"]
    assert one["reason"] == "it raised AssertionError: two rows"
    assert one["fix"] == f"mend {own}, or leave it out"
    assert other["holds"]


@pytest.mark.slow
def test_trial_whose_process_dies_is_tried_again_in_the_next_run(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = ["--match", "mix", "--with", "", "--with", "ECA"]
    rule[3] = written(
        tmp_path, f"len(x) == 2 or Path({str(tmp_path / 'ok')!r}).exists() or os._exit(9)"
    )
    more = ["--samples", "64", "--format", "json", "--resume", str(tmp_path / "kept")]

    assert run(call(files, *more, "--jobs", "2", rule=rule)) == 0
    first = json.loads(capsys.readouterr().out)["trials"]
    (tmp_path / "ok").touch()
    assert run(call(files, *more, rule=rule)) == 0
    second = json.loads(capsys.readouterr().out)["trials"]

    assert "exit code 9, 3 times" in first[0]["reason"]
    assert [one["holds"] for one in first] == [False, True]
    assert [one["holds"] for one in second] == [True, True]
    written(tmp_path, "pass")
    assert run(call(files, *more, rule=rule)) == 2
    assert "is of another run" in capsys.readouterr().err


def test_interruption_while_the_best_are_healed_or_the_choice_is_measured_keeps_the_trials(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    def fail(*_: Any) -> Any:
        raise ShapeError("it does not heal", "mix")

    saved = tmp_path / "chosen.yaml"
    more = ["--samples", "64", "--format", "json", "--choose", "1", "--save-recipe", str(saved)]
    more += ["--resume", str(tmp_path / "kept")]
    monkeypatch.setattr(jobs_sweep, "heal_trial", stop)
    assert run(call(files, *more, "--heal-best", "1")) == 130
    healing = json.loads(capsys.readouterr().out)
    assert healing["choice"]["together"] is None
    assert saved.read_text().count("with: BRA") == 1
    monkeypatch.setattr(jobs_sweep, "heal_trial", fail)
    assert run(call(files, *more, "--heal-best", "1")) == 0
    assert (
        "was not healed: mix: it does not heal" in json.loads(capsys.readouterr().out)["notes"][-1]
    )
    monkeypatch.setattr(together, "measured_together", stop)
    assert run(call(files, *more)) == 130
    stopped = json.loads(capsys.readouterr().out)
    assert [one["holds"] for one in stopped["trials"]] == [True, True]
    assert stopped["interrupted"]


def test_data_are_needed(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["sweep", str(files / "net.pt"), *RULE, *INPUT, *ALLOW]

    assert run(given) == 2
    assert "error: --data: there are no data to learn from" in capsys.readouterr().err
    assert run([*given, "--data", str(files / "none.npy")]) == 3
