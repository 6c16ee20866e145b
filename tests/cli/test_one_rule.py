"""One rule by options of the command line, in place of a recipe."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import modswap
from modswap.cli.app import run

SHAPE = ("--input", "2,8,12,12")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    gates = [nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)]
    torch.save(nn.Sequential(nn.ReLU(), *gates), "net.pt")


def test_rule_is_swapped_and_saved_as_a_recipe() -> None:
    rule = ["--match", "1", "--match", "[23]", "--exclude", "3", "--class", "Conv2d",
            "--with", "SEBlock", "--set", "reduction=2", "--expect", "2"]  # fmt: skip

    saved = ["--save-recipe", "one.yaml", "-q"]
    assert run(["replace", "net.pt", *rule, *SHAPE, "-o", "out.pt", *saved]) == 0

    assert yaml.safe_load(Path("one.yaml").read_text()) == {
        "version": 1,
        "inputs": [{"shape": [2, 8, 12, 12]}],
        "replace": [
            {
                "match": ["1", "[23]"],
                "exclude": ["3"],
                "class": ["Conv2d"],
                "with": "SEBlock",
                "args": {"reduction": 2},
                "expect": 2,
            }
        ],
    }
    model = modswap.load("out.pt")
    assert isinstance(model, nn.Sequential)
    assert [type(layer).__name__ for layer in model] == ["ReLU", "SEBlock", "SEBlock", "Conv2d"]
    assert run(["check", "net.pt", "-c", "one.yaml", "-q"]) == 0


def test_rule_is_checked_without_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "net.pt", "--match", "1", "--with", "ECA", *SHAPE]) == 0
    assert "OK  the swap of 1 site" in capsys.readouterr().out


@pytest.mark.one_in(2)
@pytest.mark.parametrize("asked", [(), ("--input", "auto")])
def test_input_is_found_said_and_saved(
    asked: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    rule = ["--match", "1", "--with", "ECA", "--save-recipe", "a.yaml", "--format", "json"]

    assert run(["check", "net.pt", *rule, *asked]) == 0

    said = json.loads(capsys.readouterr().out)
    why = "a usual one, with the sizes of the first layer '1'"
    inputs = [{"shape": [1, 8, 224, 224]}]
    assert said["input_found"] == {"input": "(1, 8, 224, 224)", "why": why, "inputs": inputs}
    assert f"no input was given: took (1, 8, 224, 224), {why}" in said["notes"]
    assert yaml.safe_load(Path("a.yaml").read_text())["inputs"] == inputs


def test_several_given_inputs_are_saved_as_one_call() -> None:
    Path("pair.py").write_text(
        "from torch import nn\nclass Pair(nn.Module):\n"
        "    def __init__(self): super().__init__(); self.gate = nn.Conv2d(8, 8, 1)\n"
        "    def forward(self, x, y): return self.gate(x + y)\n"
    )
    torch.save({"gate.weight": torch.zeros(8, 8, 1, 1), "gate.bias": torch.zeros(8)}, "w.pt")
    rule = ["--match", "gate", "--with", "ECA", "--model", "pair.py:Pair", *SHAPE, *SHAPE]

    assert run(["check", "w.pt", *rule, "--save-recipe", "a.yaml", "-q"]) == 0

    saved = yaml.safe_load(Path("a.yaml").read_text())["inputs"]
    assert saved == [{"args": [{"shape": [2, 8, 12, 12]}] * 2}]
    assert run(["check", "w.pt", "-c", "a.yaml", "--model", "pair.py:Pair", "-q"]) == 0


def test_advice_names_options(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [nn.Sequential(nn.Conv2d(8, 8, 1)) for _ in range(4)]
    torch.save(nn.Sequential(*blocks), "deep.pt")

    assert run(["check", "deep.pt", "--match", "**", "--with", "ECA", *SHAPE]) == 2

    said = capsys.readouterr().err
    assert "add `--class` to take modules of one kind, such as `--class Sequential`" in said
    assert "class:" not in said


@pytest.mark.parametrize("form", ["table", "json"])
def test_mistyped_path_is_answered_once(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential()
    model.add_module("first", nn.Conv2d(8, 8, 1))
    model.add_module("second", nn.Conv2d(8, 8, 1))
    torch.save(model, "named.pt")
    rule = ["--match", "secnd", "--with", "ECA", *SHAPE, "--format", form]

    assert run(["check", "named.pt", *rule]) == 2

    said = capsys.readouterr()
    text = json.loads(said.out)["error"]["fix"] if form == "json" else said.err
    assert "would pass with: `--match second`" in text
    assert (form, text.count("second")) in {("json", 1), ("table", 1), ("table", 2)}


def test_rule_needs_no_pass_where_none_is_wanted() -> None:
    rule = ["--match", "1", "--with", "ECA", "--no-forward"]

    assert run(["replace", "net.pt", *rule, "-o", "out.pt", "-q"]) == 0
    assert Path("out.pt").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--match", "1"], "--match: --match needs --with as well\n  fix: add --with MODULE"),
        (["--with", "ECA"], "--with needs --match as well\n  fix: add --match PATTERN"),
        (["--set", "a=1"], "--set needs --match as well"),
        (["--match", "1", "--with", "ECA", "-c", "a.yaml"], "a recipe and --match, --with exclude"),
        (["--match", "1", "--with", "ECA", "--set", "k"], "--set: 'k' is no OPTION=VALUE"),
        (["--match", "1", "--with", "ECA", "--set", "k="], "--set: 'k=' is no OPTION=VALUE"),
        (["--match", "1", "--with", "ECA", "--set", "k=1", "--set", "k=2"], "'k' is given twice"),
        (["--match", "1", "--with", "ECA", "--set", "k=8:"], "quote it: --set \"k='…'\""),
        (["--match", "1", "--with", "ECA", "--expect", "["], "fix: write a whole number"),
        (["--match", "1", "--with", "ECA", "--set", "=k"], "--set: '=k' is no OPTION=VALUE"),
        (["--match", "1", "--with", "ECA", "--set", "k=["], "--set k: '[' is no YAML value"),
        (["--match", "1", "--with", "ECA", "--set", "k=a\nb: 1"], "is no YAML value"),
        (["--match", "1", "--with", "ECA", "--set", "k=!!python/name:os.system"], "no YAML value"),
        (["--match", "1", "--with", "ECA", "--set", "sise=3", *SHAPE], "--set sise: ECA has no"),
        (["--match", "1", "--with", "ECA", "--expect", "two", *SHAPE], "error: --expect: "),
        (["--match", "1", "--with", "EKA", *SHAPE], "--with: no module 'EKA' in the catalogue"),
        (["--match", "zzz", "--with", "ECA", *SHAPE], "--match: no module matches 'zzz'"),
        (["--match", "[", "--with", "ECA", *SHAPE], "error: --match: "),
        (["--match", "1", "--with", "ECA", "--input", "auto", *SHAPE], "finds every tensor of the"),
        (["--match", "1", "--with", "ECA", "--input", "1,x"], "--input: '1,x' is not a shape"),
        (["--save-recipe", "a.yaml"], "--save-recipe: there is no rule to save"),
        ([], "-c: there is no recipe"),
    ],
)
def test_wrong_rule_names_its_option(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["replace", "net.pt", *args, "-o", "out.pt"]) == 2

    said = capsys.readouterr()
    assert message in said.err + said.out
    assert not Path("out.pt").exists()


@pytest.mark.parametrize("option", ["--fix", "--lock", "--locked"])
def test_option_that_needs_a_file_is_refused(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", "net.pt", "--match", "1", "--with", "ECA", option]) == 2
    assert f"{option} needs a recipe in a file" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "tree", "init"])
def test_call_of_a_model_is_read_also_where_the_file_needs_none(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = ("--match", "1", "--with", "ECA", *SHAPE) if command == "check" else ()

    assert run([command, "net.pt", *rule, "--model", "a:b(open('x'))"]) == 2

    assert "error: --model: `open('x')` is no literal" in capsys.readouterr().err


def test_rule_for_several_files_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "net.pt", "b.pt", "--match", "1", "--with", "ECA"]) == 2
    assert "2 files and one rule" in capsys.readouterr().err


def test_swap_that_does_not_hold_saves_nothing() -> None:
    Path("shrink.py").write_text(
        "from torch import nn\nclass Half(nn.Module):\n    def forward(self, x): return x[:, :4]\n"
    )
    rule = ["--match", "1", "--with", "shrink.py:Half", "--save-recipe", "a.yaml"]

    assert run(["check", "net.pt", *rule, *SHAPE, "-q"]) == 1
    assert not Path("a.yaml").exists()


@pytest.mark.parametrize("target", ["net.pt", "notes.md"])
def test_saved_recipe_replaces_no_other_file(target: str) -> None:
    Path("notes.md").write_text("# mine\n")
    before = Path(target).read_bytes()
    rule = ["--match", "1", "--with", "ECA", *SHAPE, "--save-recipe", target]

    assert run(["check", "net.pt", *rule]) == 3
    assert Path(target).read_bytes() == before


def test_edit_that_would_pass_is_offered_as_an_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("narrow.py").write_text(
        "from torch import nn\nclass Narrow(nn.Conv2d):\n"
        "    def __init__(self): super().__init__(8, 4, 1)\n"
    )
    rule = ["--match", "1", "--with", "narrow.py:Narrow", *SHAPE]

    assert run(["check", "net.pt", *rule]) == 1

    said = capsys.readouterr()
    assert "would pass with: `--adapt`" in " ".join((said.out + said.err).split())
    assert run(["check", "net.pt", *rule, "--adapt"]) == 0


@pytest.mark.parametrize("form", ["github", "sarif", "junit", "json"])
def test_reports_name_no_file_that_is_none(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    rule = ["--match", "zzz", "--with", "ECA", *SHAPE, "--format", form]

    assert run(["check", "net.pt", *rule]) == 2

    out = capsys.readouterr().out
    assert "no module matches" in out
    assert "file=<command" not in out
    if form == "sarif":
        found = json.loads(out)["runs"][0]["results"][0].get("locations", [])
        places = [one["physicalLocation"]["artifactLocation"]["uri"] for one in found]
        assert all("command" not in place for place in places)
