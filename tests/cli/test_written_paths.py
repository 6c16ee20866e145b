"""No command overwrites what it reads, or writes two things to one place; nothing is lost."""

import json
import os
from hashlib import sha256
from io import StringIO
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from modswap.cli.app import run
from tests.commands import Command, Ran, no_file_above
from tests.models import GatedNet
from tests.recipes import UNEXAMINED

HEAD = f"version: 1\nallow: ['tests.models.*']\ninputs: [{{shape: [1, 3, 16, 16]}}]\n{UNEXAMINED}"
RULE = "replace: [{match: space_attention, with: SEBlock, layout: NCHW, args: {channel: 16}}]\n"
FACTORY = "from tests.models import GatedNet\n\n\ndef build():\n    return GatedNet()\n"


@pytest.fixture
def modswap(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run the command in a folder with checkpoints of each kind, recipes and links."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    model = GatedNet().eval()
    torch.save(model, "net.pt")
    for folder in ("sub", "A/B"):
        Path(folder).mkdir(parents=True)
    save_file(model.state_dict(), "A/B/model.safetensors")
    Path("A/precious.txt").write_text("precious")
    Path("nets.py").write_text(FACTORY)
    Path("swap.yaml").write_text(HEAD + RULE)
    Path("weights.yaml").write_text(f"{HEAD}model: {{factory: 'nets.py:build'}}\n{RULE}")
    Path("own.yaml").write_text(f"checkpoint: net.pt\n{HEAD}{RULE}")
    Path("broken.yaml").write_text("checkpoint: net.pt\nnonsense: 1\n")
    Path("sums").write_text(f"{sha256(Path('net.pt').read_bytes()).hexdigest()}  net.pt\n")
    Path("link.pt").symlink_to("net.pt")
    os.link("net.pt", "hard.pt")

    def call(*args: str) -> Ran:
        code = run(args)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


def everything() -> dict[str, bytes | str]:
    """Return the content of every file, and the target of every link, below this folder."""
    found: dict[str, bytes | str] = {}
    for place in Path().rglob("*"):
        if place.is_symlink():
            found[str(place)] = str(place.readlink())
        elif place.is_file():
            found[str(place)] = place.read_bytes()
    return found


REPLACE = ("replace", "net.pt", "-c", "swap.yaml", "-o", "out.pt")
CHECK = ("check", "net.pt", "-c", "swap.yaml")
DATA = ("replace", "A/B", "-c", "weights.yaml", "--no-forward", "-o", "new")


@pytest.mark.each_once
@pytest.mark.parametrize("form", ["table", "json", "github"])
@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("args", "report"),
    [
        (CHECK, "net.pt"),
        (CHECK, "./sub/../net.pt"),
        (CHECK, "link.pt"),
        (CHECK, "hard.pt"),
        (CHECK, "swap.yaml"),
        (("check", "link.pt", "-c", "swap.yaml"), "net.pt"),
        (("check", "none.pt", "-c", "swap.yaml"), "swap.yaml"),
        (("check", "net.pt", "-c", "broken.yaml"), "broken.yaml"),
        (("check", "net.pt", "-c", "none.yaml"), "net.pt"),
        (("check", "own.yaml"), "net.pt"),
        (("check", "own.yaml"), "own.yaml"),
        (("check", "broken.yaml"), "net.pt"),
        (("check", "own.yaml", "swap.yaml"), "swap.yaml"),
        (("check", "swap.yaml", "own.yaml"), "hard.pt"),
        (("check", "A/B", "-c", "weights.yaml"), "nets.py"),
        (("check", "A/B", "-c", "swap.yaml", "--model", "nets:build"), "nets.py"),
        (("check", "A/B", "-c", "swap.yaml", "--model", "nets.py:build"), "sub/../nets.py"),
        (("check", "A/B", "-c", "weights.yaml"), "A/B/model.safetensors"),
        (("check", "A/B", "-c", "weights.yaml"), "A/B/report.txt"),
        ((*CHECK, "--lock"), "modswap.lock"),
        ((*CHECK, "--lock", "--lock-file", "sub/l"), "sub/l"),
        ((*CHECK, "--input", "nonsense"), "net.pt"),
        ((*REPLACE, "--digest", "sums"), "sums"),
        (("verify", "net.pt", "--digest", "sums"), "sums"),
        (("verify", "net.pt"), "hard.pt"),
        (REPLACE, "net.pt"),
        (REPLACE, "out.pt"),
        (REPLACE, "sub/../out.pt"),
        ((*REPLACE, "--max-memory", "nonsense"), "out.pt"),
        (DATA, "new/report.txt"),
        (DATA, "nets.py"),
        (DATA, "weights.yaml"),
    ],
)
def test_report_overwrites_nothing_that_is_used(
    modswap: Command, args: tuple[str, ...], report: str, form: str
) -> None:
    before = everything()
    if args[0] == "verify" and form == "github":
        form = "json"

    ran = modswap(*args, "--report", report, "--format", form)

    assert ran.code in {2, 3}, ran
    assert "error: " in ran.err
    assert everything() == before


def test_report_says_what_it_would_overwrite(modswap: Command) -> None:
    ran = modswap(*CHECK, "--report", "hard.pt", "--format", "json")

    assert ran == (
        3,
        "",
        (
            "error: hard.pt: the report cannot be there: it is the input itself\n"
            "  fix: name another file: the input is never overwritten\n"
        ),
    )


@pytest.mark.parametrize("args", [("tree", "net.pt"), ("catalogue",)])
def test_reports_of_other_commands_overwrite_no_checkpoint(
    modswap: Command, args: tuple[str, ...]
) -> None:
    before = everything()

    assert modswap(*args, "--report", "hard.pt").code == 3

    assert everything() == before


@pytest.mark.each_once
@pytest.mark.parametrize("form", ["table", "json"])
@pytest.mark.parametrize("command", ["replace", "data"])
@pytest.mark.parametrize(
    ("source", "out"),
    [
        ("A/B", "A"),
        ("A/B", "."),
        ("A/B", "A/B"),
        ("A/B", "A/B/inner"),
        ("A/B", "A/B/../../A"),
        ("A/B/model.safetensors", "A/B/model.safetensors"),
        ("A/B/model.safetensors", "A/B"),
        ("net.pt", "hard.pt"),
        ("net.pt", "link.pt"),
        ("link.pt", "net.pt"),
        ("net.pt", "sub/../net.pt"),
    ],
)
def test_force_never_overwrites_the_input(
    modswap: Command, source: str, out: str, command: str, form: str
) -> None:
    before = everything()
    more = ("--no-forward",) if command == "data" else ()

    ran = modswap(
        "replace", source, "-c", "weights.yaml", "-o", out, "--force", "--format", form, *more
    )

    assert ran.code == 3
    assert everything() == before


def test_code_and_recipes_are_no_targets(modswap: Command) -> None:
    Path("nets").write_text(FACTORY)  # no ending: a checkpoint would be written there
    Path("nets.py").unlink()
    Path("recipe").write_text(HEAD + RULE)
    before = everything()

    for out, args in {
        "recipe": ("-c", "recipe"),
        "sub/../recipe": ("-c", "recipe"),
    }.items():
        ran = modswap("replace", "net.pt", *args, "-o", out, "--force")
        assert ran.code == 3
        assert "it is the recipe itself" in ran.out + ran.err

    assert everything() == before


def test_target_of_a_link_in_the_input_is_kept(modswap: Command) -> None:
    Path("blob").write_bytes(Path("A/B/model.safetensors").read_bytes())
    Path("A/B/model.safetensors").unlink()
    Path("A/B/model.safetensors").symlink_to("../../blob")
    Path("blobs").mkdir()
    Path("blobs/config.json").write_text("{}")
    Path("A/B/config.json").symlink_to("../../blobs/config.json")
    before = everything()

    for out in ("blob", "blobs"):
        ran = modswap("replace", "A/B", "-c", "weights.yaml", "-o", out, "--force", "--no-forward")
        assert ran.code == 3

    assert everything() == before


@pytest.mark.parametrize("used", ["swap.yaml", "nets.py"])
def test_folder_that_holds_the_recipe_or_its_code_is_kept(modswap: Command, used: str) -> None:
    Path("new").mkdir()
    Path("new/modswap.json").write_text('{"recipe": "as if modswap wrote the folder"}')
    Path("new", used).write_bytes(Path(used).read_bytes())
    Path("other.yaml").write_text(f"{HEAD}model: {{factory: 'new/nets.py:build'}}\n{RULE}")
    recipe = "new/swap.yaml" if used == "swap.yaml" else "other.yaml"
    before = everything()

    ran = modswap("replace", "A/B", "-c", recipe, "-o", "new", "--force", "--no-forward")

    assert ran.code == 3
    assert "is inside it" in ran.out + ran.err
    assert everything() == before


@pytest.mark.parametrize("place", ["r.txt", "new"])
def test_link_that_appears_meanwhile_is_not_followed_to_the_input(
    modswap: Command, place: str
) -> None:
    target = "A/B/model.safetensors" if place == "r.txt" else "A/B"
    Path("nets.py").write_text(
        f"import os\n{FACTORY}".replace("return", f"os.symlink('{target}', '{place}'); return")
    )
    before = everything()

    ran = modswap(
        "replace", "A/B", "-c", "weights.yaml", "-o", "new", "--force", "--report", "r.txt"
    )

    assert ran.code == 3
    assert "it is the input itself" in ran.err or "it is inside the input" in ran.err
    assert {name: held for name, held in everything().items() if name in before} == before
    assert Path(place).is_symlink()


@pytest.mark.parametrize("command", ["check", "replace"])
def test_code_that_a_recipe_from_standard_input_names_is_kept(
    modswap: Command, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("sys.stdin", StringIO(Path("weights.yaml").read_text()))
    Path("nets.py").write_text(f'"""\nFAILED  as a report says\n"""\n{FACTORY}')
    before = everything()
    more = ("-o", "new") if command == "replace" else ()

    ran = modswap(command, "A/B", "-c", "-", "--report", "nets.py", *more)

    assert ran.code == 3
    assert "it is the code of 'nets.py:build' itself" in ran.err
    assert everything() == before


@pytest.mark.parametrize("more", [(), ("--fix",)])
def test_recipe_from_a_pipe_is_read_once(modswap: Command, more: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.write(writing, Path("swap.yaml").read_bytes())
    os.close(writing)

    ran = modswap("check", "net.pt", "-c", f"/dev/fd/{reading}", "--report", "r.txt", *more)
    os.close(reading)

    assert ran.code == 0
    assert "OK" in Path("r.txt").read_text()


# -- folders that are replaced


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("files", "what"),
    [
        (["precious.txt"], "holds more than a checkpoint: 'precious.txt'"),
        (["model.safetensors", "precious.txt"], "holds more than a checkpoint: 'precious.txt'"),
        (["model.safetensors", "sub/deep/mine.py"], "holds more than a checkpoint: 'sub/deep/mine"),
        (["model.safetensors", "best.ckpt"], "holds more than a checkpoint: 'best.ckpt'"),
        (["a.json"], "holds more than a checkpoint: 'a.json'"),
        (["x/model.safetensors"], "holds more than a checkpoint: 'x/model.safetensors'"),
        ([".git/config"], "holds more than a checkpoint: '.git/config'"),
        ([], ""),
        (["model.safetensors", "config.json", "README.md", "vocab.txt"], ""),
        (["model.safetensors", "notes of the input.txt"], ""),
        (["modswap.json", "mine.txt"], ""),
        (["modswap.json/not", "mine.txt"], "modswap.json"),
    ],
)
def test_force_replaces_a_folder_only_if_it_is_a_checkpoint(
    modswap: Command, files: list[str], what: str
) -> None:
    Path("A/B/notes of the input.txt").write_text("same in both")
    Path("new/empty").mkdir(parents=True)
    for name in files:
        Path("new", name).parent.mkdir(parents=True, exist_ok=True)
        Path("new", name).write_text(json.dumps({"recipe": name}))
    before = everything()

    assert modswap(*DATA).code == 3  # it exists
    ran = modswap(*DATA, "--force")

    assert ran.code == (3 if what else 0), ran
    assert what in ran.out + ran.err
    if what:
        assert everything() == before
    else:
        assert sorted(path.name for path in Path("new").iterdir()) == [
            "model.safetensors", "modswap.json", "notes of the input.txt",
        ]  # fmt: skip


def test_folder_of_links_loses_no_target(modswap: Command) -> None:
    Path("new").mkdir()
    Path("new/mine").symlink_to("../A/precious.txt")
    before = everything()

    assert modswap(*DATA, "--force").code == 3

    assert everything() == before


# -- other files that are written


@pytest.mark.parametrize("out", ["net.pt", "link.pt", "hard.pt", "nets.py", "sub"])
def test_first_recipe_overwrites_nothing_that_is_used(modswap: Command, out: str) -> None:
    before = everything()

    ran = modswap(
        "init", "net.pt", "--allow", "tests.models.*", "--model", "nets:build", "-o", out, "--force"
    )

    assert ran.code == 3
    assert everything() == before


@pytest.mark.parametrize("file", ["net.pt", "swap.yaml", "hard.pt", "sub", "A/B/l"])
def test_lock_overwrites_nothing_that_is_used(modswap: Command, file: str) -> None:
    before = everything()
    args = ("check", "A/B", "-c", "weights.yaml") if file == "A/B/l" else CHECK

    assert modswap(*args, "--lock", "--lock-file", file).code in {2, 3}

    assert everything() == before


def test_lock_that_a_check_is_held_to_is_not_overwritten(modswap: Command) -> None:
    assert modswap(*CHECK, "--lock").code == 0
    before = everything()

    assert modswap(*CHECK, "--locked", "--report", "modswap.lock").code == 3
    assert modswap(*CHECK, "--locked").code == 0

    assert everything() == before


@pytest.mark.parametrize("summary", ["net.pt", "link.pt", "swap.yaml", "out.pt", "r.txt"])
def test_summary_is_not_added_to_what_is_used(
    modswap: Command, monkeypatch: pytest.MonkeyPatch, summary: str
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", summary)
    before = everything()

    ran = modswap(*REPLACE, "--format", "github", "--report", "r.txt")

    assert ran.code == 3
    assert "the summary (GITHUB_STEP_SUMMARY) cannot be there" in ran.err
    assert everything() == before


def test_report_to_the_summary_is_no_clash_where_no_summary_is_added(
    modswap: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")

    assert modswap("tree", "net.pt", "--report", "summary.md").code == 0

    assert "space_attention" in Path("summary.md").read_text()


def test_recipe_is_still_mended_in_place(modswap: Command) -> None:
    Path("swap.yaml").write_text(f"{HEAD}replace: [{{match: head, with: SEBlock}}]  # mine\n")

    ran = modswap(*CHECK, "--fix", "--report", "r.txt")

    assert ran.code == 0
    assert Path("swap.yaml").read_text().endswith("with: SEBlock, adapt: true}]  # mine\n")


# -- a full disk


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("args", "file"),
    [
        (("tree", "net.pt", "--report", "old"), "old"),
        ((*CHECK, "--report", "old", "--format", "json"), "old"),
        ((*CHECK, "--format", "github"), "summary"),
        (("init", "net.pt", "--allow", "tests.models.*", "-o", "old", "--force"), "old"),
        ((*CHECK, "--lock"), "modswap.lock"),
    ],
)
def test_full_disk_leaves_old_texts_and_no_litter(
    modswap: Command, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], file: str
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary")
    Path("old").write_text("replace: []" if args[0] == "init" else "FAILED  old")
    Path("summary").write_text("summary")
    assert modswap(*CHECK, "--lock").code == 0
    before = everything()

    with no_file_above(100):
        ran = modswap(*args)

    assert ran.code == 3
    assert f"{file}: " in ran.out + ran.err
    assert "no space left" in ran.out + ran.err
    assert everything() == before


# -- texts of others


CONFIG = '{"model_type": "vit", "hidden_size": 32}\n'
INDEX = '{"metadata": {}, "weight_map": {"a": "model.safetensors"}}\n'
FOREIGN = {
    "A/B/config.json": CONFIG,
    "A/B/model.safetensors.index.json": INDEX,
    "A/B/vocab.txt": "[PAD]\n[UNK]\n",
    "A/B/README.md": "# a model\n",
    "A/B/modswap.json": '{"recipe": "version: 1"}',
    "notes.txt": "mine\n",
    "results.xml": "<?xml version='1.0'?><testsuites/>\n",
}
ONE_FILE = ("check", "A/B/model.safetensors", "-c", "weights.yaml")


@pytest.mark.each_once
@pytest.mark.parametrize("form", ["table", "sarif"])
@pytest.mark.parametrize("name", FOREIGN)
def test_report_replaces_no_foreign_text(modswap: Command, name: str, form: str) -> None:
    Path(name).write_text(FOREIGN[name])
    Path("link").symlink_to(name)
    before = everything()

    for report in (name, "link"):
        ran = modswap(*ONE_FILE, "--report", report, "--format", form)
        assert ran.code == 3
        assert "it exists, and is no report of modswap\n  fix: name another file, or" in ran.err

    assert everything() == before


@pytest.mark.parametrize(
    "args",
    [
        ("tree", "A/B/model.safetensors"),
        ("verify", "net.pt"),
        ("catalogue",),
        ("schema",),
        ("replace", "A/B/model.safetensors", "-c", "weights.yaml", "-o", "out.safetensors"),
        ("check", "none.pt", "-c", "weights.yaml", "--format", "json"),
    ],
)
def test_report_of_any_command_replaces_no_foreign_text(
    modswap: Command, args: tuple[str, ...]
) -> None:
    Path("A/B/config.json").write_text(CONFIG)
    before = everything()

    assert modswap(*args, "--report", "A/B/config.json").code == 3

    assert everything() == before


@pytest.mark.slow
def test_report_replaces_reports_of_any_form(modswap: Command) -> None:
    Path("r").touch()  # as mktemp makes it
    names = ("table", "json", "junit", "sarif", "github", "html", "model-explorer")
    forms = [(*CHECK, "--format", name) for name in names]
    lists = [("tree", "net.pt"), ("tree", "net.pt", "--format", "json"), ("verify", "net.pt")]
    runs = [*forms, *lists, ("schema",), ("catalogue", "ECA"), (*CHECK, "--input", "1,5,8,8")]

    for args in (*runs, *reversed(runs)):
        assert modswap(*args, "--report", "r").code == int("--input" in args) * 2, args


def test_report_beside_the_weights_is_made_and_made_again(modswap: Command) -> None:
    for _ in range(2):
        assert modswap("tree", "A/B/model.safetensors", "--report", "A/B/tree.txt").code == 0


def test_report_to_standard_output_replaces_nothing(modswap: Command) -> None:
    with Path("log").open("w+") as log:
        log.write("lines of other programs\n")
        log.flush()

        assert modswap("tree", "net.pt", "--report", f"/dev/fd/{log.fileno()}").code == 0

    assert Path("log").read_text().startswith("lines of other programs\npath ")


@pytest.mark.parametrize("name", [*FOREIGN, "swap.json"])
def test_lock_and_first_recipe_replace_no_foreign_text(modswap: Command, name: str) -> None:
    Path("swap.json").write_text(CONFIG)
    if name in FOREIGN:
        Path(name).write_text(FOREIGN[name])
    before = everything()

    locked = modswap(*CHECK, "--lock", "--lock-file", name)
    first = modswap("init", "net.pt", "--allow", "tests.models.*", "-o", name, "--force")

    assert (locked.code, first.code) == (3, 3)
    assert "it exists, and is no lock file of modswap" in locked.err
    assert "it exists, and is no recipe of modswap" in first.err
    assert everything() == before


@pytest.mark.slow
def test_lock_and_first_recipe_replace_their_own_kind(modswap: Command) -> None:
    Path("empty").touch()
    for file in ("empty", "new.lock", "new.lock"):
        assert modswap(*CHECK, "--lock", "--lock-file", file).code == 0
    Path("own.yaml").write_text("replace: [  # cannot be read\n")
    for _ in range(2):
        ran = modswap("init", "net.pt", "--allow", "tests.models.*", "-o", "own.yaml", "--force")
        assert ran.code == 0


@pytest.mark.parametrize("name", [name for name in FOREIGN if name != "notes.txt"])
def test_summary_is_added_to_no_file_of_a_checkpoint(
    modswap: Command, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    Path(name).write_text(FOREIGN[name])
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", name)
    before = everything()

    ran = modswap(*CHECK, "--format", "github")

    assert ran.code == 3
    assert "the summary (GITHUB_STEP_SUMMARY) cannot be there: " in ran.err
    assert everything() == before
