"""The real command: exit codes, standard output and error, files.

Covers: app, options, outcomes, session, commands.catalogue, commands.check, commands.demo,
commands.finalize, commands.init, commands.replace, commands.revert, commands.schema, commands.tree.
"""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from modswap.cli.app import COMMANDS, run
from modswap.cli.session import Session
from modswap.core.asked.schema import recipe_schema
from modswap.core.errors import MatchError, ShapeError, together
from modswap.core.seen.joint import Joint
from modswap.nn.inserted_site import put_in
from modswap.nn.insertion import Insertion
from modswap.ops.examine.table import examination_names
from modswap.report.json_shapes import report_schema
from tests.commands import Command, Ran
from tests.models import GatedNet, build_gated
from tests.recipes import UNEXAMINED

RECIPE = """\
version: 1
inputs: [{shape: [1, 3, 28, 28]}]
replace:
  - match: "{space,channel}_attention"
    with: BiLevelRoutingAttention
"""
QUICKLY = RECIPE + UNEXAMINED
ALLOW = ["--allow", "tests.models.*"]


def listing(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.fixture
def modswap(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run the command in a folder that holds a checkpoint and a recipe."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    torch.manual_seed(0)
    torch.save(GatedNet().eval(), "net.pt")
    save_file(GatedNet().state_dict(), "net.safetensors")
    Path("swap.yaml").write_text(QUICKLY)

    def call(*args: str) -> Ran:
        code = run(args)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


# -- the main job


def test_replace_writes_and_reports(modswap: Command) -> None:
    Path("swap.yaml").write_text(RECIPE)

    ran = modswap("replace", "net.pt", "-c", "swap.yaml", "-o", "out.pt", *ALLOW)

    assert ran.code == 0, ran.err
    assert Path("out.pt").is_file()
    assert "BiLevelRoutingAttention" in ran.out
    assert "equal bit for bit" in ran.out
    assert "OK  2 sites swapped in net.pt" in ran.out
    assert ran.err == ""


def test_dry_run_writes_nothing(modswap: Command) -> None:
    ran = modswap("replace", "net.pt", "-c", "swap.yaml", "--dry-run", *ALLOW)

    assert ran.code == 0, ran.err
    assert "a dry run, nothing was written" in ran.out
    assert listing(Path()) == ["net.pt", "net.safetensors", "swap.yaml"]


def test_fast_runs_the_passes_alone_and_says_so(modswap: Command) -> None:
    Path("swap.yaml").write_text(RECIPE)

    ran = modswap("check", "net.pt", "-c", "swap.yaml", "--fast", "--format", "json", *ALLOW)

    verify = json.loads(ran.out)["verify"]
    assert (ran.code, verify["ok"]) == (0, True)
    assert [found["check"] for found in verify["checks"]] == list(examination_names())
    assert {found["status"] for found in verify["checks"]} == {"skipped"}
    assert modswap("replace", "net.pt", "-c", "swap.yaml", "-o", "o.pt", "--fast", *ALLOW).code == 0
    both = modswap("check", "net.pt", "-c", "swap.yaml", "--fast", "--thorough", *ALLOW)
    assert both.code == 2
    assert "--fast and --thorough exclude each other" in both.err


def test_check_writes_nothing(modswap: Command) -> None:
    ran = modswap("check", "net.pt", "-c", "swap.yaml", *ALLOW)

    assert ran.code == 0, ran.err
    assert "the swap of 2 sites by swap.yaml holds; nothing was written" in ran.out
    assert "only shapes were computed" in ran.out


def test_json_is_one_object_on_standard_output(modswap: Command) -> None:
    ran = modswap("replace", "net.pt", "-c", "swap.yaml", "-o", "o.pt", "--format", "json", *ALLOW)

    data = json.loads(ran.out)
    assert (data["ok"], data["error"], data["output"]["file"]) == (True, None, "o.pt")
    assert data["recipe"] == "swap.yaml"


def test_error_as_json_is_one_object_and_a_sentence(modswap: Command) -> None:
    ran = modswap("check", "net.pt", "-c", "swap.yaml", "--format", "json")

    data = json.loads(ran.out)
    assert ran.code == 4
    assert data["ok"] is False
    assert data["error"]["code"] == 4
    assert "--allow tests.models.GatedNet" in data["error"]["fix"]
    assert ran.err.startswith("error: net.pt: to load it")


def test_failed_verification_ends_with_one_and_names_the_module(modswap: Command) -> None:
    Path("moody.yaml").write_text(
        "version: 1\ninputs: [{shape: [2, 3, 28, 28]}]\nverify: {modes: [train]}\n"
        "replace: [{match: head, with: 'tests.models:Moody', args: {out_channels: 2}}]\n"
    )

    ran = modswap("replace", "net.pt", "-c", "moody.yaml", "-o", "o.pt", "--format", "json", *ALLOW)

    assert ran.code == 1
    assert json.loads(ran.out)["error"]["where"] == "head"
    assert "error: head: output was (2, 2, 14, 14), is now (2, 2, 7, 7)" in ran.err
    assert not Path("o.pt").exists()


def test_failed_table_says_what_and_where(modswap: Command) -> None:
    Path("moody.yaml").write_text(
        "version: 1\ninputs: [{shape: [2, 3, 28, 28]}]\nverify: {modes: [train]}\n"
        "replace: [{match: head, with: 'tests.models:Moody', args: {out_channels: 2}}]\n"
    )

    ran = modswap("check", "net.pt", "-c", "moody.yaml", *ALLOW)

    assert ran.code == 1
    assert "FAILED  moody.yaml, net.pt" in ran.out
    assert "head: output was" in ran.out


def test_weights_need_a_factory(modswap: Command) -> None:
    ran = modswap("check", "net.safetensors", "-c", "swap.yaml")

    assert ran.code == 2
    assert ran.err.startswith("error: net.safetensors: it holds weights without code\n  fix: say")


def test_factory_of_a_file_builds_the_model(modswap: Command) -> None:
    Path("nets.py").write_text("from tests.models import GatedNet as build\n")

    ran = modswap(
        "replace", "net.safetensors", "-c", "swap.yaml", "--model", "nets.py:build",
        "-o", "o.safetensors",
    )  # fmt: skip

    assert ran.code == 0, ran.err


def test_input_of_the_command_line_replaces_the_recipes(modswap: Command) -> None:
    ran = modswap(
        "check", "net.pt", "-c", "swap.yaml", "--input", "2,3,42,42", "--format", "json", *ALLOW
    )

    assert json.loads(ran.out)["sites"][0]["calls"] == [
        {"input": [[2, 16, 21, 21]], "output": [[2, 16, 21, 21]]}
    ]


def test_recipe_of_standard_input_is_read(
    modswap: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(QUICKLY))

    assert modswap("check", "net.pt", "-c", "-", *ALLOW).code == 0


def test_recipe_may_allow_what_its_user_wrote(modswap: Command) -> None:
    Path("swap.yaml").write_text(QUICKLY + "allow: tests.models.*\n")

    assert modswap("check", "net.pt", "-c", "swap.yaml").code == 0


@pytest.mark.parametrize("allow", ["builtins.*", "[tests.models.*, os.*]"])
def test_recipe_may_not_allow_parts_of_python(allow: str, modswap: Command) -> None:
    Path("swap.yaml").write_text(QUICKLY + f"allow: {allow}\n")

    found = modswap("check", "net.pt", "-c", "swap.yaml")

    assert found.code == 2
    assert re.search(
        r"swap\.yaml:\d+:\d+: '(builtins|os)\.\*' would allow parts of Python", found.err
    )


def test_recipe_inside_a_file_allows_nothing(modswap: Command) -> None:
    Path("swap.yaml").write_text(QUICKLY + "allow: tests.models.*\n")
    modswap("replace", "net.pt", "-c", "swap.yaml", "-o", "out.pt")

    assert modswap("tree", "out.pt", "--input", "1,3,28,28").code == 4


def test_report_goes_to_a_file(modswap: Command) -> None:
    ran = modswap(
        "check", "net.pt", "-c", "swap.yaml", "--format", "json", "--report", "r.json", *ALLOW
    )

    assert ran.out == ""
    assert json.loads(Path("r.json").read_text())["ok"] is True


def test_report_that_cannot_be_written_is_reported(modswap: Command) -> None:
    ran = modswap("check", "net.pt", "-c", "swap.yaml", "--report", "none/r.txt", *ALLOW)

    assert ran.code == 3
    assert "none/r.txt: it cannot be written: No such file or directory" in ran.err


def test_quiet_says_nothing_when_all_is_well(modswap: Command) -> None:
    assert modswap("check", "net.pt", "-c", "swap.yaml", "-q", *ALLOW) == Ran(0, "", "")


@pytest.mark.each_once
@pytest.mark.parametrize(
    "command",
    # `code` starts a process to prove what it prints: tests/cli/test_code.py
    [one.__name__ for one in COMMANDS if one.__name__ not in {"demo", "code"}],
)
@pytest.mark.parametrize(
    "options",
    [
        *("-q --no-color", "-v"),
        *(pytest.param(o, marks=pytest.mark.slow) for o in ("--quiet", "--verbose")),
    ],
)
def test_every_command_takes(modswap: Command, command: str, options: str) -> None:
    subjects = {
        "tree": ["net.pt"],
        "init": ["net.pt", "--input", "1,3,28,28", *ALLOW],
        "replace": ["net.pt", "-c", "swap.yaml", "--dry-run", *ALLOW],
        "check": ["net.pt", "-c", "swap.yaml", *ALLOW],
        "verify": ["net.pt"],
        "diff": ["net.pt", "net.pt"],
        "explain": ["ECA", "--no-time"],
        "revert": ["beside.pt", "--dry-run"],
        "finalize": ["faded.pt", "--dry-run", "--at", "1", *ALLOW],
        "heal": ["faded.pt", "--against", "net.pt", "--data", "x.npy", "--dry-run", *ALLOW],
        "sweep": [
            "net.pt",
            "--match",
            "head",
            "--with",
            "ACmix",
            "--adapt",
            "--data",
            "x.npy",
            *ALLOW,
        ],
    }
    if command in {"heal", "sweep"}:
        np.save("x.npy", np.ones((40, 3, 28, 28), np.float32))
    if command in {"finalize", "heal"}:
        Path("faded.yaml").write_text(
            QUICKLY.replace("BiLevelRoutingAttention", "ECA\n    start: preserve")
        )
        assert not modswap("replace", "net.pt", "-c", "faded.yaml", "-o", "faded.pt", *ALLOW).code
    if command == "revert":
        model = GatedNet()
        put_in(model.stem, "eca", Insertion(nn.Identity(), Joint("after", "add")))
        torch.save(model, "beside.pt")

    ran = modswap(command, *subjects.get(command, ()), *options.split())

    assert ran.code == 0, ran.err
    quiet = {"replace", "check", "finalize", "heal", "revert", "verify", "diff", "sweep"}
    silent = command in quiet and "q" in options
    assert bool(ran.out) is not silent


@pytest.mark.parametrize("command", ["catalogue", "schema"])
def test_what_is_printed_can_go_to_a_file(modswap: Command, command: str) -> None:
    printed = modswap(command)
    written = modswap(command, "--report", "there.txt")

    assert (written.code, written.out) == (0, "")
    assert Path("there.txt").read_text() == printed.out


def test_verbose_shows_the_steps(modswap: Command) -> None:
    ran = modswap("check", "net.pt", "-c", "swap.yaml", "-v", *ALLOW)

    assert "… loading net.pt" in ran.err
    assert "… verification pass" in ran.err


@pytest.mark.slow
def test_quiet_demo_prints_its_steps_without_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    for name, value in (("TRAIN", 40), ("TEST", 8)):
        monkeypatch.setattr(f"modswap.ops.demo.run.{name}", value)

    code = run(["demo", str(tmp_path / "here"), "--width", "2", "--steps", "1", "-q"])

    said = capsys.readouterr().out
    assert code == 0
    assert "before the swap" in said
    assert "OK  2 sites swapped" not in said


# -- several recipes


@pytest.mark.slow
def test_recipes_name_their_own_checkpoint(modswap: Command) -> None:
    for name in ("one", "two"):
        Path(f"{name}.yaml").write_text(QUICKLY + "checkpoint: net.pt\nallow: tests.models.*\n")

    ran = modswap("check", "one.yaml", "two.yaml")

    assert ran.code == 0, ran.err
    assert "2 of 2 recipes hold" in ran.out


@pytest.mark.slow
def test_one_wrong_recipe_of_several_does_not_stop_the_others(modswap: Command) -> None:
    Path("one.yaml").write_text(QUICKLY + "checkpoint: nett.pt\n")
    Path("two.yaml").write_text(QUICKLY + "checkpoint: net.pt\nallow: tests.models.*\n")

    ran = modswap("check", "one.yaml", "two.yaml", "--format", "json")

    first, second = json.loads(ran.out)
    assert ran.code == 3
    assert "did you mean 'net.pt'" in first["error"]["fix"]
    assert second["ok"] is True


def test_recipe_without_a_checkpoint_is_reported(modswap: Command) -> None:
    ran = modswap("check", "swap.yaml")

    assert ran.code == 2
    assert "swap.yaml: the recipe names no checkpoint" in ran.err


def test_checkpoint_without_a_recipe_is_reported(modswap: Command) -> None:
    ran = modswap("check", "net.pt")

    assert ran.code == 2
    assert "modswap check net.pt -c RECIPE" in ran.err


def test_several_files_with_one_recipe_are_reported(modswap: Command) -> None:
    assert modswap("check", "net.pt", "net.safetensors", "-c", "swap.yaml").code == 2


# -- wrong calls


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["chek"], 2, "error: no such command: chek\n  fix: did you mean 'check'?"),
        (["zzz"], 2, "error: no such command: zzz\n  fix: see `modswap --help`"),
        (["--versio"], 2, "error: no such option: --versio\n  fix: did you mean `--version`?"),
        (["replace", "net.pt", "--confg", "x"], 2, "fix: did you mean `--config`?"),
        (["replace"], 2, "error: missing"),
        (["replace", "net.pt", "-c", "swap.yaml"], 2, "error: -o: there is no file to write"),
        (["replace", "net.pt", "-c", "none.yaml", "-o", "o.pt"], 3, "none.yaml: no such recipe"),
        (["replace", "nett.pt", "-c", "swap.yaml", "-o", "o.pt"], 3, "did you mean 'net.pt'?"),
        (["replace", "net.pt", "-c", "swap.yaml", "-o", "net.pt", "--force"], 3, "input itself"),
        (["replace", "net.pt", "-c", "swap.yaml", "-o", "swap.yaml"], 3, "recipe itself"),
        (["tree", "net.pt", "--input", "1,3,8,8"], 4, "--allow tests.models.GatedNet"),
        (
            ["tree", "net.pt", "--input", "1,x"],
            2,
            "error: --input: '1,x' is not a shape\n  fix: wr",
        ),
        (["tree", "net.pt", "--input", "1,0"], 2, "error: --input: '1,0' has a size below 1"),
        (["tree", "net.pt", "--input", f"1,{2**63}"], 2, "has a size beyond what a tensor can"),
        (["tree", "net.pt", "--input", "1,3:flaot32"], 2, "did you mean 'float32'"),
        (["tree", "net.pt", "--input", "1,3:zz"], 2, "use one of float32, float64"),
        (["tree", "net.pt", "--alias", "a"], 2, "error: --alias: 'a' is not OLD=NEW"),
        (["tree", "net.pt", "--alias", "a=b/c.N"], 2, "error: --alias: 'b/c.N' is no dotted name"),
        (["tree", "net.pt", "--allow", "torch.*"], 2, "error: --allow: 'torch.*' would allow"),
        (["tree", "net.pt", "--allow", "*"], 2, "error: --allow: '*' is no package.module.Class"),
        (["tree", "net.pt", "--match", "a..b"], 2, "error: --match: 'a..b' has an empty segment"),
        (["tree", "net.pt", *ALLOW, "--match", "stm"], 2, "did you mean 'stem'?"),
        (["tree", "net.pt", *ALLOW, "--match", "zzz"], 2, "fix: leave --match out"),
        (["tree", "net.pt", "--format", "jsn"], 2, "did you mean 'json'?"),
        (["tree", "net.pt", "--format", "xml"], 2, "use one of table, json"),
        (["tree", "net.safetensors", "--input", "1,3,8,8"], 2, "shapes need a model"),
        (["catalogue", "BiLevelRoutingAtention"], 2, "did you mean 'BiLevelRoutingAttention'?"),
        (["init", "net.pt", "-o", "swap.yaml"], 3, "swap.yaml: it exists"),
    ],
)
def test_wrong_call_is_reported_in_one_form(
    modswap: Command, args: list[str], code: int, said: str
) -> None:
    ran = modswap(*args)

    assert ran.code == code
    assert ran.err.startswith("error: ")
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_bug_of_ours_ends_with_seventy_and_asks_for_a_report(
    modswap: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("modswap.core.asked.schema.recipe_schema", lambda _: 1 / 0)

    ran = modswap("schema")

    assert ran.code == 70
    assert "ZeroDivisionError" in ran.err
    assert "please report it" in ran.err


# -- looking around


def test_alone_it_prints_help(modswap: Command) -> None:
    ran = modswap()

    assert ran.code == 0
    assert all(command.__name__ in ran.out for command in COMMANDS)


def test_version_is_printed(modswap: Command) -> None:
    assert modswap("--version").out.startswith("modswap ")


def test_tree_shows_paths_and_shapes(modswap: Command) -> None:
    ran = modswap("tree", "net.pt", "--input", "1,3,28,28", "--depth", "1", *ALLOW)

    assert ran.code == 0, ran.err
    assert "space_attention" in ran.out
    assert "(1, 16, 14, 14) → (1, 16, 14, 14)" in ran.out
    assert "space_attention.0" not in ran.out


def test_tree_of_weights_shows_the_modules_that_names_imply(modswap: Command) -> None:
    ran = modswap("tree", "net.safetensors", "--match", "*_attention")

    assert ran.code == 0
    assert "2,352" in ran.out
    assert "classes are unknown" in ran.out


def test_tree_of_weights_with_a_factory_knows_classes(modswap: Command) -> None:
    ran = modswap("tree", "net.safetensors", "--model", "tests.models:build_gated")

    assert "Conv2d" in ran.out


def test_tree_as_json_lists_modules(modswap: Command) -> None:
    data = json.loads(modswap("tree", "net.pt", "--format", "json", *ALLOW).out)

    assert data["modules"][1]["path"] == "stem"
    assert data["format"] == "torch"


@pytest.mark.slow
def test_starter_recipe_works_unchanged(modswap: Command) -> None:
    ran = modswap("init", "net.pt", "-o", "first.yaml", *ALLOW)

    assert ran.code == 0, ran.err
    text = Path("first.yaml").read_text()
    assert "#   space_attention" in text
    assert "16 channels, 112x112" in text
    assert modswap("check", "net.pt", "-c", "first.yaml", *ALLOW).code == 0


def test_starter_recipe_is_printed_without_a_file(modswap: Command) -> None:
    ran = modswap("init", "net.safetensors", "--model", "tests.models:build_gated")

    assert ran.code == 0, ran.err
    assert "factory: tests.models:build_gated" in ran.out


def test_starter_recipe_needs_an_input_that_fits(modswap: Command) -> None:
    ran = modswap("init", "net.pt", "--input", "1,5,8,8", *ALLOW)

    assert ran.code == 2
    assert "no dummy input fits; tried: (1, 5, 8, 8)" in ran.err


def test_catalogue_lists_rows_and_describes_one(modswap: Command) -> None:
    assert "BiLevelRoutingAttention" in modswap("catalogue").out
    told = modswap("catalogue", "BiLevelRoutingAttention").out
    assert "arXiv:2303.08810" in told
    assert "n_win" in told
    data = json.loads(modswap("catalogue", "--format", "json").out)
    assert data[0]["name"] == "BiLevelRoutingAttention"


def test_catalogue_page_in_docs_is_the_one_that_the_program_prints(modswap: Command) -> None:
    page = Path(__file__).parents[2].joinpath("docs", "catalogue.md").read_text(encoding="utf-8")

    assert modswap("catalogue", "--format", "markdown").out == page


def test_errors_that_differ_in_their_places_are_one(capsys: pytest.CaptureFixture[str]) -> None:
    errors = [ShapeError(f"it does not fit at b.{n}", f"b.{n}.c", "adapt it") for n in range(12)]

    Session().complain(
        together([*errors, MatchError("a", "s.yaml:1"), MatchError("a", "s.yaml:2")])
    )

    assert capsys.readouterr().err.splitlines() == [
        "error: b.0–11.c ×12: it does not fit at b.0", "  fix: adapt it",
        "error: s.yaml:1: a", "error: s.yaml:2: a",
    ]  # fmt: skip


def test_schema_is_json(modswap: Command) -> None:
    assert json.loads(modswap("schema").out) == recipe_schema(examination_names())
    assert json.loads(modswap("schema", "report").out) == report_schema()
    wrong = modswap("schema", "reprot")
    assert (wrong.code, "did you mean 'report'?" in wrong.err) == (2, True)


# -- as a process of its own


def process(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, check=False)


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "args", [[], ["--help"], ["replace", "--help"], ["schema"], ["chek"]], ids=" ".join
)
def test_no_torch_is_imported_before_it_is_needed(args: list[str]) -> None:
    program = (
        "import sys\nfrom modswap.cli.app import run\n"
        f"run({args!r})\nassert 'torch' not in sys.modules, 'torch was imported'\n"
    )

    done = process("-c", program)

    assert done.returncode == 0, done.stderr


def test_damaged_weights_are_refused_unless_asked_for(modswap: Command) -> None:
    content = bytearray(Path("net.pt").read_bytes())
    content[content.index(b"data/0") + 100] ^= 1
    Path("net.pt").write_bytes(content)
    command = ["replace", "net.pt", "-c", "swap.yaml", "-o", "out.pt", *ALLOW]

    checked = modswap("check", "net.pt", "-c", "swap.yaml", *ALLOW)
    refused = modswap(*command)
    done = modswap(*command, "--no-checksum")

    assert (checked.code, refused.code, done.code) == (0, 3, 0)
    assert "record 'net/data/0' is damaged" in refused.out
    assert not {"out.pt"} - set(listing(Path()))
    assert "its checksums were not compared" in done.out


@pytest.mark.parametrize("form", ["table", "json"])
def test_names_from_a_file_do_nothing_to_the_terminal(modswap: Command, form: str) -> None:
    model = nn.Sequential()
    model.add_module("\x1b[2J\x07", nn.Linear(2, 2))
    torch.save(model, "wild.pt")

    told = modswap("tree", "wild.pt", "--format", form)
    missed = modswap("tree", "wild.pt", "--match", "[2K")

    assert told.code == 0
    for text in (told.out, missed.err):
        assert "\x1b" not in text
        assert "\x07" not in text


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom modswap.cli.app import run\n"
        "run(['--help'])\nheavy = {'torch', 'pydantic', 'rich', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )

    done = process("-c", program)

    assert done.returncode == 0, done.stderr


@pytest.mark.ci
@pytest.mark.slow
def test_importing_the_package_imports_no_torch() -> None:
    done = process("-c", "import modswap, sys; assert 'torch' not in sys.modules; modswap.load")

    assert done.returncode == 0, done.stderr


@pytest.mark.ci
@pytest.mark.slow
def test_interruption_ends_with_130_and_leaves_nothing(tmp_path: Path) -> None:
    torch.save(build_gated(), tmp_path / "net.pt")
    (tmp_path / "slow.py").write_text(
        "import time\nfrom tests.models import Keep\n"
        "class Slow(Keep):\n    def forward(self, x):\n        time.sleep(5)\n        return x\n"
    )
    (tmp_path / "swap.yaml").write_text(
        "version: 1\ninputs: [{shape: [1, 3, 8, 8]}]\n"
        "replace: [{match: head, with: 'slow.py:Slow', layout: NCHW, wants: NCHW}]\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-m", "modswap", "replace", "net.pt", "-c", "swap.yaml", "-o", "out.pt",
         "-v", *ALLOW],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert child.stderr is not None
    for line in child.stderr:
        if "building" in line:
            break
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)

    with child.stderr:
        code = child.wait(timeout=30)

    assert code == 130
    assert {"out.pt"}.isdisjoint(listing(tmp_path))
    assert not list(tmp_path.glob(".*part"))


@pytest.mark.slow
def test_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    torch.save(nn.Sequential(*(nn.Linear(4, 4) for _ in range(3000))), tmp_path / "net.pt")

    done = subprocess.run(
        f"{sys.executable} -m modswap tree net.pt | head -n 1",
        shell=True, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0
    assert done.stderr == ""
