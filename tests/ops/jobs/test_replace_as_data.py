"""Swaps without building the model of the file, whose classes do not exist."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import modswap
from modswap.cli.app import run
from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.errors import CheckpointError, ModswapError, RecipeError, ShapeError, UnsafeError
from modswap.core.kept.outcome import Outcome
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.jobs.replace_as_data import replace_unbuilt
from modswap.ops.jobs.tree import read_tree
from tests.models import GatedNet, Keep, SharedNet, Tied

GONE = """
import copy, sys
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.inner = nn.Conv2d(c, c, 1)
        self.width = c

    def forward(self, x):
        return self.inner(x)


class Net(nn.Module):
    def __init__(self, c=16):
        super().__init__()
        self.stem = nn.Conv2d(3, c, 3, padding=1)
        self.block = Block(c)
        self.block.i, self.block.f, self.block.route = 4, -1, [1, 2]
        self.gate = nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU())
        self.nothing = nn.Identity()
        self.head = nn.Conv2d(c, 2, 1)

    def forward(self, x):
        return self.head(self.nothing(self.gate(self.block(self.stem(x)))))


def make():
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.randn(2, 3, 28, 28)).sum().backward()
    optimizer.step()
    torch.save(net, "net.pt")
    torch.save(net, "old.pt", _use_new_zipfile_serialization=False)
    torch.save(nn.DataParallel(net), "wrapped.pt")
    training = {"model": net, "ema": copy.deepcopy(net).half(), "optimizer": optimizer.state_dict()}
    torch.save({**training, "other": nn.Linear(2, 2), "epoch": 3}, "training.pt")


def use(name):
    x = torch.randn(2, 3, 28, 28)
    held = torch.load(name, weights_only=False)
    net = held["model"] if isinstance(held, dict) else getattr(held, "module", held)
    assert net(x).shape == (2, 2, 28, 28)
    if isinstance(held, dict):
        assert {p.dtype for p in held["ema"].parameters()} == {torch.float16}
        optimizer = torch.optim.AdamW(net.parameters())
        optimizer.load_state_dict(held["optimizer"])
        moments = optimizer.state[net.head.weight]["exp_avg"]
        old = torch.load("training.pt", weights_only=False)
        place = [n for n, _ in old["model"].named_parameters()].index("head.weight")
        assert torch.equal(moments, old["optimizer"]["state"][place]["exp_avg"])
        net(x).sum().backward()
        optimizer.step()
    print(type(net.gate).__name__, type(net.block).__name__, getattr(net.block, "i", None))
"""
RULES = """
  - {match: gate, with: BiLevelRoutingAttention, args: {num_heads: 4, n_win: 7}}
  - {match: block, with: ACmix, layout: NCHW, args: {in_planes: 16}}
"""


@pytest.fixture(scope="module")
def gone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files whose classes are in no module that could be imported here."""
    folder = tmp_path_factory.mktemp("gone")
    (folder / "gone_nets.py").write_text(GONE)
    there(folder, "import gone_nets; gone_nets.make()")
    return folder


def there(folder: Path, program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def swap(
    file: Path, rules: str = RULES, out: Path | None = None, policy: Policy | None = None
) -> Outcome:
    recipe = parse_recipe(f"version: 1\nreplace:{rules}\n", "swap.yaml", ".")
    return replace_unbuilt(Job(Subject(file, policy or Policy()), recipe, out))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["training.pt", "net.pt", "old.pt", "wrapped.pt"],
)
def test_modules_whose_classes_are_gone_are_swapped(name: str, gone: Path, tmp_path: Path) -> None:
    out = gone / f"out-{name}"
    out.unlink(missing_ok=True)

    outcome = swap(gone / name, out=out)

    assert outcome.error is None
    assert outcome.verdict is None
    assert "nothing was built or run (--no-forward)" in " ".join(outcome.notes)
    assert outcome.ledger is not None
    assert outcome.ledger.proved
    assert outcome.ledger.kept.tensors >= 4
    assert [site.new_class.rpartition(".")[2] for site in outcome.sites] == [
        "BiLevelRoutingAttention",
        "ACmix",
    ]
    assert "carried over attributes that the host set: f, i, route, width" in outcome.sites[1].notes


def test_tree_reads_a_whole_module_of_the_old_format_without_its_classes(gone: Path) -> None:
    new, old = (read_tree(Subject(gone / name)) for name in ("net.pt", "old.pt"))

    assert old.rows == new.rows
    assert old.format == "torch (legacy)"
    assert [wanted.name for wanted in old.wanted] == ["gone_nets.Net", "gone_nets.Block"]


@pytest.mark.slow
def test_dry_run_writes_nothing(gone: Path) -> None:
    outcome = swap(gone / "net.pt")

    assert outcome.error is None
    assert outcome.ledger is not None
    assert outcome.ledger.fresh.tensors > 0
    assert not outcome.ledger.proved
    assert outcome.written is None


def test_command_swaps_what_it_cannot_load(
    gone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "swap.yaml").write_text(f"version: 1\nreplace:{RULES}")
    files = [str(gone / "net.pt"), "-c", str(tmp_path / "swap.yaml"), "-o", str(tmp_path / "o.pt")]

    refused = run(["replace", *files])
    said = capsys.readouterr().err
    done = run(["replace", *files, "--no-forward", "--format", "json"])
    report = json.loads(capsys.readouterr().out)

    assert (refused, done) == (4, 0)
    assert "`replace --no-forward` swaps without building anything" in said
    assert report["ok"]
    assert report["verify"] is None or not report["verify"]["cases"]


@pytest.mark.parametrize("ending", ["pt", "safetensors", "old.pt"])
def test_weights_without_code_are_swapped_by_their_names(ending: str, tmp_path: Path) -> None:
    model = GatedNet()
    file, out = tmp_path / f"net.{ending}", tmp_path / f"out.{ending}"
    if ending == "safetensors":
        save_file(model.state_dict(), file, metadata={"format": "pt", "by": "me"})
    else:
        torch.save(model.state_dict(), file, _use_new_zipfile_serialization=ending == "pt")
    rule = """
  - match: "{space,channel}_attention"
    with: BiLevelRoutingAttention
    layout: NCHW
    args: {dim: 16, num_heads: 4, n_win: 7}
"""

    outcome = swap(file, rule, out)

    assert outcome.error is None
    loaded = modswap.load(out, "tests.models:build_gated")
    assert type(loaded.get_submodule("space_attention")).__name__ == "BiLevelRoutingAttention"
    assert torch.equal(loaded.get_parameter("head.weight"), model.head.weight)
    assert loaded(torch.randn(1, 3, 28, 28)).shape == (1, 2, 14, 14)


def test_second_swap_keeps_the_receipt_of_the_first(tmp_path: Path) -> None:
    rule = "\n  - {match: %s, with: SEBlock, layout: NCHW, args: {channel: 16}}"
    for name, payload in (("flat", GatedNet().state_dict()), ("deep", {"model": GatedNet()})):
        files = [tmp_path / f"{name}{n}.pt" for n in range(3)]
        torch.save(payload, files[0])
        swap(files[0], rule % "space_attention", files[1])

        outcome = swap(files[1], rule % "channel_attention", files[2])

        assert outcome.error is None
        loaded = modswap.load(files[2], "tests.models:build_gated", allow=["tests.models.*"])
        for part in ("space_attention", "channel_attention"):
            assert type(loaded.get_submodule(part)).__name__ == "SEBlock"


def test_half_weights_stay_half(tmp_path: Path) -> None:
    weights = {name: t.half() for name, t in GatedNet().state_dict().items()}
    save_file(weights, tmp_path / "net.safetensors")

    swap(
        tmp_path / "net.safetensors",
        "\n  - {match: space_attention, with: SEBlock, layout: NCHW, args: {channel: 16}}",
        tmp_path / "out.safetensors",
    )

    written = load_file(tmp_path / "out.safetensors")
    assert {t.dtype for n, t in written.items() if n.startswith("space_attention")} == {torch.half}


class Odd(nn.Module):
    """Sites of many kinds, none of them ever called."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.wide = nn.Conv2d(8, 16, 3, padding=1)
        self.strided = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.shrinking = nn.Conv2d(8, 8, 3)
        self.same = nn.Conv2d(8, 8, 3, padding="same")
        self.valid = nn.Conv2d(8, 8, 3, padding="valid")
        self.tied = nn.Linear(8, 8)
        self.tied.weight = self.linear.weight
        self.rows = nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 1), nn.GroupNorm(2, 8))
        self.only = nn.Sequential(nn.ReLU())
        self.strange = nn.Sequential(nn.Conv2d(8, 8, 1), Keep())
        self.lazy = nn.LazyConv2d(8, 1)
        self.keep = Keep()


@pytest.mark.parametrize(
    ("match", "more", "error", "what"),
    [
        ("linear", "", ShapeError, "the layout of its tensors is not known"),
        ("keep", "layout: NCHW", ShapeError, "the number of its channels is not known from a Keep"),
        (
            "only",
            "layout: NCHW",
            ShapeError,
            "the number of its channels is not known from a Sequential",
        ),
        (
            "strange",
            "layout: NCHW",
            ShapeError,
            "the number of its channels is not known from a Sequential",
        ),
        (
            "lazy",
            "layout: NCHW",
            ShapeError,
            "channels is not known from a LazyConv2d",
        ),
        ("wide", "", ShapeError, r"it changes its map \(8 to 16 channels\)"),
        ("strided", "", ShapeError, "it changes the size of its map"),
        ("shrinking", "", ShapeError, "it changes the size of its map"),
        ("valid", "", ShapeError, "it changes the size of its map"),
        ("same", "args: {dim: 9, n_win: 7}", ShapeError, "dim"),
        ("nowhere", "", ModswapError, "no module matches 'nowhere'"),
        ("{wide,strided}", "", ShapeError, "it changes"),
    ],
)
def test_what_only_a_pass_could_show_is_refused(
    match: str, more: str, error: type[ModswapError], what: str, tmp_path: Path
) -> None:
    torch.save(Odd(), tmp_path / "odd.pt")
    more = f", {more}" if more else ""

    with pytest.raises(error, match=what):
        swap(
            tmp_path / "odd.pt",
            f"\n  - {{match: '{match}', with: BiLevelRoutingAttention{more}}}",
            policy=Policy(trust=True),
        )


@pytest.mark.parametrize(
    ("match", "rule"),
    [
        ("same", "with: ACmix"),
        ("rows", "with: BiLevelRoutingAttention, args: {n_win: 7}"),
        ("linear", "with: SelfAttention, layout: NLC"),
        ("norm", "with: SelfAttention, layout: NLC"),
        ("linear", "with: BiLevelRoutingAttention, args: {n_win: 7}, layout: NHWC"),
        ("linear", "with: BiLevelRoutingAttention, layout: NLC, grid: [4, 6]"),
        ("keep", "with: 'tests.models:Keep'"),
    ],
)
def test_what_the_old_layers_tell_suffices(match: str, rule: str, tmp_path: Path) -> None:
    torch.save(Odd(), tmp_path / "odd.pt")

    outcome = swap(
        tmp_path / "odd.pt",
        f"\n  - {{match: '{match}', {rule}}}",
        tmp_path / "out.pt",
        Policy(trust=True),
    )

    assert outcome.error is None


def test_tokens_are_a_map_only_if_the_rule_says_so(tmp_path: Path) -> None:
    torch.save(Odd(), tmp_path / "odd.pt")
    rule = "{match: linear, with: SEBlock, layout: NLC}"

    with pytest.raises(ShapeError, match=r"SEBlock takes maps, .*; set `grid: \[H, W\]`"):
        swap(tmp_path / "odd.pt", f"\n  - {rule}", policy=Policy(trust=True))


def test_option_that_follows_from_the_size_of_a_map_has_to_be_given(tmp_path: Path) -> None:
    torch.save(nn.ModuleDict({"a": nn.Conv2d(8, 8, 1)}), tmp_path / "net.pt")

    with pytest.raises(ShapeError, match="n_win would follow from the size of its map"):
        swap(tmp_path / "net.pt", "\n  - {match: a, with: BiLevelRoutingAttention}")


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ("with: 'torch.nn:Conv2d'", "refused its args for 'a'"),
        ("with: 'tests.models:Nowhere'", "Nowhere"),
    ],
)
def test_class_of_the_users_own_has_to_be_given_all_its_arguments(
    rule: str, what: str, tmp_path: Path
) -> None:
    torch.save(nn.ModuleDict({"a": nn.Conv2d(8, 8, 1)}), tmp_path / "net.pt")

    with pytest.raises(RecipeError, match=what):
        swap(tmp_path / "net.pt", f"\n  - {{match: a, {rule}}}")


def test_shared_instance_is_put_at_every_site_and_stored_once(tmp_path: Path) -> None:
    torch.save(GatedNet(), tmp_path / "net.pt")

    swap(
        tmp_path / "net.pt",
        "\n  - {match: '{space,channel}_attention', with: BiLevelRoutingAttention, share: true, "
        "args: {n_win: 7}}",
        tmp_path / "out.pt",
    )

    loaded: Any = modswap.load(tmp_path / "out.pt", allow=["tests.models.*"])
    assert loaded.space_attention is loaded.channel_attention


def test_aliases_get_the_same_module_and_ties_stay(tmp_path: Path) -> None:
    torch.save(SharedNet(), tmp_path / "shared.pt")
    torch.save(Tied(), tmp_path / "tied.pt")
    paths = [row.path for row in read_tree(Subject(tmp_path / "shared.pt")).rows if row.alias_of]
    assert paths

    outcome = swap(
        tmp_path / "shared.pt",
        f"\n  - {{match: {paths[0]}, with: SEBlock, layout: NCHW, args: {{channel: 8}}}}",
        tmp_path / "out.pt",
    )

    assert outcome.error is None
    assert outcome.sites[0].aliases == (paths[0],)


def test_another_ending_is_refused(tmp_path: Path) -> None:
    torch.save(GatedNet(), tmp_path / "net.pt")

    outcome = swap(
        tmp_path / "net.pt",
        "\n  - {match: space_attention, with: BiLevelRoutingAttention, args: {n_win: 7}}",
        tmp_path / "out.safetensors",
    )

    assert isinstance(outcome.error, CheckpointError)
    assert "cannot be rewritten as data in another format" in outcome.error.what


class Runs:
    """Its pickle calls a function."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("touch canary",)


def test_name_that_runs_code_is_not_written_again(tmp_path: Path) -> None:
    torch.save({"model": GatedNet(), "extra": Runs()}, tmp_path / "net.pt")
    rule = "\n  - {match: space_attention, with: BiLevelRoutingAttention, args: {n_win: 7}}"

    outcome = swap(tmp_path / "net.pt", rule, tmp_path / "out.pt")

    assert isinstance(outcome.error, UnsafeError)
    assert "it names what can run any code: posix.system" in outcome.error.what
    assert not (tmp_path / "out.pt").exists()
    assert not Path("canary").exists()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x80\x02" + b"x" * 40, "a pickle"),
        (b"plain text", "a text file"),
    ],
)
def test_file_of_another_kind_is_reported(content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(content)

    with pytest.raises(CheckpointError, match=what):
        swap(tmp_path / "net.pt")


def test_file_without_a_model_is_reported(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "net.pt")

    with pytest.raises(CheckpointError, match="no model or weights are found in it"):
        swap(tmp_path / "net.pt")


def test_pickle_that_cannot_be_read_as_data_is_reported(tmp_path: Path) -> None:
    torch.save(GatedNet(), tmp_path / "net.pt", pickle_protocol=4)

    with pytest.raises(CheckpointError, match="its pickle cannot be read as data"):
        swap(tmp_path / "net.pt")


def test_old_file_that_is_cut_short_is_reported(gone: Path, tmp_path: Path) -> None:
    content = (gone / "old.pt").read_bytes()
    last = 8 + 4 * 2  # the head's bias behind its count
    for length in (len(content) - 3, len(content) - last - 40, len(content) - last + 3):
        (tmp_path / "net.pt").write_bytes(content[:length])

        with pytest.raises(CheckpointError, match="cut short"):
            swap(tmp_path / "net.pt")
