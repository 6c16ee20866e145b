"""A refused command is printed again with the option that it lacks, ready to paste."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from modswap.cli.again import command_again, shell_word
from modswap.cli.app import run
from modswap.core.errors import UnsafeError, UsageError
from tests.models import GatedNet

RULE = ["--match", "{channel,space}_attention", "--with", "ECA", "--set", "k_size=3"]
RECIPE = "version: 1\ncheckpoint: {}\nreplace: [{{match: stem, with: ECA, adapt: true}}]\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    torch.save(GatedNet().eval(), "my net.pt")
    save_file(GatedNet().eval().state_dict(), "net.safetensors")


def again(capsys: pytest.CaptureFixture[str], *args: str, code: int) -> list[str]:
    """Run a command that is refused, and return the words of the command that is printed."""
    assert run(args) == code
    (line,) = (one for one in capsys.readouterr().err.splitlines() if one.startswith("  run"))
    return shlex.split(line.partition(": ")[2])


@pytest.mark.one_in(2)
@pytest.mark.parametrize("command", ["replace", "check"])
def test_rule_of_options_is_printed_whole_and_goes_on_as_pasted(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [command, "my net.pt", *RULE, "--input", "1,3,28,28", "-q"]
    asked += ["-o", "o'ut.pt"] if command == "replace" else []

    words = again(capsys, *asked, code=4)

    assert words == ["modswap", *asked, "--allow", "tests.models.GatedNet"]
    assert run(words[1:]) == 0


@pytest.mark.parametrize("command", ["init", "tree"])
def test_other_commands_print_themselves(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [command, "my net.pt", "--input", "1,3,28,28"]

    words = again(capsys, *asked, code=4)

    assert words == ["modswap", *asked, "--allow", "tests.models.GatedNet"]


@pytest.mark.slow
def test_recipes_of_several_files_print_one_command(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.yaml", "b.yaml"):
        Path(name).write_text(RECIPE.format("my net.pt"))

    words = again(capsys, "check", "a.yaml", "b.yaml", code=4)

    assert words == ["modswap", "check", "a.yaml", "b.yaml", "--allow", "tests.models.GatedNet"]


@pytest.mark.parametrize(
    "asked",
    [
        ("check", "net.safetensors", *RULE),
        ("replace", "net.safetensors", *RULE, "-o", "out.safetensors"),
        ("init", "net.safetensors"),
        ("tree", "net.safetensors", "--input", "auto"),
    ],
    ids=lambda asked: asked[0],
)
def test_weights_without_code_ask_for_a_factory(
    asked: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    words = again(capsys, *asked, code=2)

    assert words == ["modswap", *asked, "--model", "FACTORY"]


def test_name_that_can_run_any_code_is_never_proposed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("evil.pt").write_bytes(Path("my net.pt").read_bytes())
    torch.save({"model": GatedNet(), "run": subprocess.run}, "evil.pt")

    assert run(["check", "evil.pt", *RULE]) == 4

    said = capsys.readouterr().err
    assert "  run" not in said
    assert "can run any code" in said


def test_report_for_programs_has_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "my net.pt", *RULE, "--format", "json"]) == 4

    said = capsys.readouterr()
    options = ["--allow", "tests.models.GatedNet"]
    assert json.loads(said.out)["error"]["retry"] == options
    assert f"  run: {shlex.join(['modswap', 'check', 'my net.pt', *RULE, '--format', 'json'])}" in (
        said.err
    )


def test_github_reads_no_command_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.yaml").write_text(RECIPE.format("my net.pt"))

    assert run(["check", "a.yaml", "--format", "github"]) == 4

    assert "  run" not in capsys.readouterr().err


def error(*options: str) -> UnsafeError:
    return UnsafeError("what", "net.pt").with_retry(*options)


@pytest.mark.parametrize(
    ("args", "options", "expected"),
    [
        (["check", "--", "-net.pt"], ["--allow", "a.B"], "modswap check --allow a.B -- -net.pt"),
        (["--no-color", "tree", "a"], ["--allow", "a.B"], "modswap --no-color tree a --allow a.B"),
        (["replace", "a"], ["--no-forward"], "modswap replace a --no-forward"),
        (["check", "a"], ["--no-forward"], ""),
        (["check", "a"], [], ""),
        ([], [], ""),
    ],
)
def test_options_go_where_the_command_takes_them(
    args: list[str], options: list[str], expected: str
) -> None:
    assert command_again(args, [error(*options)]) == (f"run: {expected}" if expected else "")


def test_options_of_several_errors_are_printed_once() -> None:
    errors = [error("--allow", "a.B", "--allow", "a.C"), error("--allow", "a.B"), error()]

    assert command_again(["tree", "a"], errors) == "run: modswap tree a --allow a.B --allow a.C"


def test_placeholders_are_said() -> None:
    moved = error("--alias", "__main__.Net=yourmodule.Net")
    weights = UsageError("what", "net.pt").with_retry("--model", "FACTORY")

    assert command_again(["tree", "a"], [moved]).startswith("run, with the name of your module: ")
    assert command_again(["tree", "a"], [weights]).startswith("run, with your own FACTORY: ")


@pytest.mark.parametrize(
    "word",
    [
        "plain", "two words", "it's", '"quoted"', "**.{a,b}_c", "re:^a$", "$HOME `ls`", "", "a\\b",
        "a\nb", "tab\t", "\x1b[31m", "zero\u200bwidth", "::error::x", "##[x]", "é", "\udcff.pt",
    ],
)  # fmt: skip
def test_word_comes_back_from_a_shell_and_is_visible(word: str) -> None:
    shown = shell_word(word)

    said = subprocess.run(
        ["bash", "-c", f"printf %s {shown}"], capture_output=True, check=True
    ).stdout
    assert said == word.encode("utf-8", "surrogateescape")
    assert shown.isprintable()
    assert not shown.lstrip("'").startswith("::")
