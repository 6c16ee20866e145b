"""Starter recipes: the input that is found, the target that is chosen, and the rule that holds.

Covers: starter_text, swap_targets.
"""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.asked.recipe import TensorInput
from modswap.core.errors import UsageError
from modswap.io.formats.container import Container
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.first_input.find import first_pass
from modswap.ops.jobs.replace import check_file
from modswap.ops.jobs.starter import starter_recipe as job
from modswap.ops.jobs.starter.starter_recipe import starter_recipe
from modswap.ops.jobs.starter.swap_targets import kinds_of
from modswap.ops.load.model import Loaded
from modswap.ops.trace.sites import sites_of
from tests.models import GatedNet, PairNet

ALLOW = Policy(allow=("tests.models.*",))


def subject(model: nn.Module, folder: Path, *shape: int) -> Subject:
    torch.save(model, folder / "net.pt")
    return Subject(folder / "net.pt", ALLOW, None, (TensorInput(shape=shape),) if shape else ())


@pytest.mark.slow
@pytest.mark.ci
def test_recipe_shows_the_targets_and_holds(tmp_path: Path) -> None:
    given = subject(GatedNet(), tmp_path)

    text = starter_recipe(given)

    assert "#   space_attention" in text
    assert "16 channels, 112x112" in text
    assert "# No input was given: took (1, 3, 224, 224), a usual one, with the sizes of" in text
    assert '- match: "{channel,space}_attention"' in text
    line = "modswap replace net.pt --match '{channel,space}_attention' --with BiLevelRouting"
    line += "Attention -o OUT --allow 'tests.models.*'"
    assert f"#   {line}  # the same without a recipe" in text
    assert "#   modswap check net.pt -c RECIPE --allow 'tests.models.*'  " in text


def test_command_without_a_recipe_names_the_factory(tmp_path: Path) -> None:
    torch.save(GatedNet().state_dict(), tmp_path / "net.pth")
    shape = TensorInput(shape=(1, 3, 28, 28))
    given = Subject(tmp_path / "net.pth", Policy(), "tests.models:build_gated", (shape,))

    text = starter_recipe(given)

    assert "-o OUT --model tests.models:build_gated  # the same without a recipe" in text
    assert "#   modswap replace net.pth -c RECIPE -o OUT         # the swap" in text


def test_module_whose_name_says_attention_is_taken_before_others(tmp_path: Path) -> None:
    parts = OrderedDict(
        stem=nn.Conv2d(3, 16, 3, padding=1),
        dense=nn.Sequential(nn.Conv2d(16, 16, 1)),  # no `se`, and neither is its class
        attn=nn.Sequential(nn.Conv2d(16, 16, 1)),
    )

    assert '- match: "attn"' in starter_recipe(
        subject(nn.Sequential(parts), tmp_path, 1, 3, 28, 28)
    )


def test_module_with_a_dot_in_its_name_is_no_bug(tmp_path: Path) -> None:
    model = nn.Sequential(OrderedDict(stem=nn.Conv2d(3, 16, 3, padding=1)))
    vars(model)["_modules"]["a.attn.0"] = nn.Sequential(nn.Conv2d(16, 16, 1))

    assert '- match: "a.attn.0.0"' in starter_recipe(subject(model, tmp_path, 1, 3, 28, 28))


def test_tokens_that_make_no_map_get_a_module_for_tokens(tmp_path: Path) -> None:
    parts = OrderedDict(
        norm=nn.LayerNorm(16), attn=nn.Sequential(nn.Linear(16, 16)), head=nn.Linear(16, 2)
    )

    text = starter_recipe(subject(nn.Sequential(parts), tmp_path, 1, 50, 16))

    assert "with: MultiHeadSelfAttention" in text


def test_path_with_special_characters_is_escaped(tmp_path: Path) -> None:
    model = nn.Sequential()
    model.add_module("attn[0]", nn.Sequential(nn.Conv2d(8, 8, 1)))
    given = subject(model, tmp_path, 1, 8, 28, 28)

    text = starter_recipe(given)

    assert "re:attn\\[0\\]" in text
    assert "--match 're:attn\\[0\\]' --with" in text


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Sequential(nn.Flatten(), nn.ReLU()), "no layer shows the shape of an input"),
        (nn.Sequential(nn.Linear(3, 4)), "no module of it takes and gives a map, or tokens"),
    ],
    ids=["no layer", "no target"],
)
def test_file_without_targets_is_refused(tmp_path: Path, model: nn.Module, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        starter_recipe(subject(model, tmp_path))


class Gate(nn.Module):
    """Scales channels by their means: (N, C, H, W) -> the same."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x * self.fc(x.mean((2, 3), keepdim=True)).sigmoid()
        return out


class AttentionBlock(nn.Module):
    """A residual block around a module of some name: (N, 8, H, W) -> the same."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.PReLU(8)
        if name:
            self.add_module(name, Gate())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.norm(self.conv(x)))
        out: torch.Tensor = x + (self.get_submodule(self.name)(y) if self.name else y)
        return out


class AttentionNet(nn.Module):
    """Blocks inside a part whose name says attention: (N, 3, H, W) -> (N, 2)."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.attention = nn.Sequential(*map(AttentionBlock, names))
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.attention(self.stem(x)).mean((2, 3)))
        return out


class TwoInputs(nn.Module):
    """A gate on the sum of two branches: (N, 3, H, W), (N, 1, H, W) -> (N, 2, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.color = nn.Conv2d(3, 8, 1)
        self.depth = nn.Conv2d(1, 8, 1)
        self.gate = Gate()
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, color: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.gate(self.color(color) + self.depth(depth)))
        return out


def loaded(model: nn.Module) -> Loaded:
    return Loaded(model.eval(), Container("torch", Path("net.pt"), model, ()))


def first_paths(model: nn.Module, *shape: int) -> list[str]:
    """Return the sites of the likeliest kind."""
    given = Subject(Path("net.pt"), inputs=(TensorInput(shape=shape),) if shape else ())
    traced = first_pass(loaded(model), given).traced
    return [site.path for site in kinds_of(model, sites_of(model, (traced,)))[0].sites]


@pytest.mark.parametrize("name", ["gate", "sa", "ca", "mixer", "token_mixer", "self_attn1", "cSE"])
def test_innermost_module_is_preferred_and_all_of_its_kind(name: str) -> None:
    paths = first_paths(AttentionNet(name, name), 1, 3, 16, 16)

    assert paths == [f"attention.0.{name}", f"attention.1.{name}"]


def test_block_norm_activation_and_subnet_are_not_likely() -> None:
    parts = OrderedDict(stem=nn.Conv2d(3, 8, 1), body=nn.Sequential(AttentionBlock("")))

    assert first_paths(nn.Sequential(parts), 1, 3, 16, 16) == ["body.0.conv"]


class LiteMLA(Gate):
    """Linear attention, by the name that its paper gives it."""


def test_attention_whose_class_alone_says_so_is_taken_before_convolutions() -> None:
    parts = OrderedDict(main=LiteMLA(), conv=nn.Conv2d(8, 8, 3, padding=1))
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(parts))

    assert first_paths(model, 1, 3, 16, 16) == ["1.main"]


class Language(nn.Module):
    """A model of tokens whose head has the weights of its embedding: (N, L) -> (N, L, 200)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(200, 8)
        self.proj = nn.Linear(8, 8)
        self.feed = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.back = nn.Linear(16, 8)
        self.head = nn.Linear(8, 200, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.back(self.feed(self.proj(self.embed(tokens)))))
        return out


def test_linear_layers_come_last_and_a_head_with_tied_weights_never() -> None:
    model = Language()
    given = Subject(Path("net.pt"), inputs=(TensorInput(shape=(1, 9), dtype="int64"),))
    traced = first_pass(loaded(model), given).traced

    kinds = kinds_of(model, sites_of(model, (traced,)))

    paths = [site.path for kind in kinds for site in kind.sites]
    assert paths == ["feed", "proj", "feed.0", "back"]


def test_attention_that_gives_a_pair_is_a_target_with_adapt(tmp_path: Path) -> None:
    given = subject(PairNet(), tmp_path, 1, 5, 16)

    text = starter_recipe(given)

    assert '- match: "attn"' in text
    assert "    adapt: true\n" in text
    assert check_file(Job(given, parse_recipe(text, "first.yaml", "."))).ok


@pytest.mark.slow
def test_pattern_takes_all_of_a_kind_and_holds(tmp_path: Path) -> None:
    given = subject_of(AttentionNet("gate", "gate"), tmp_path, (1, 3, 28, 28))

    text = starter_recipe(given)

    assert '  - match: "attention.*.gate"\n    expect: 2\n' in text
    assert "#   attention.0.gate  Gate, NCHW, 8 channels, 14x14\n" in text
    assert "norm" not in text


def subject_of(model: nn.Module, folder: Path, *shapes: tuple[int, ...]) -> Subject:
    torch.save(model.eval(), folder / "net.pt")
    inputs = tuple(TensorInput(shape=shape) for shape in shapes)
    return Subject(folder / "net.pt", Policy(allow=(f"{__name__}.*",)), None, inputs)


@pytest.mark.slow
def test_several_inputs_of_one_call_are_written_as_one_call(tmp_path: Path) -> None:
    given = subject_of(TwoInputs(), tmp_path, (1, 3, 28, 28), (1, 1, 28, 28))

    text = starter_recipe(given)

    assert "  - args: [{shape: [1, 3, 28, 28]}, {shape: [1, 1, 28, 28]}]\n" in text
    own = Subject(given.file, given.policy)
    assert check_file(Job(own, parse_recipe(text, "first.yaml", "."))).ok


@pytest.mark.slow
def test_model_that_keeps_no_shape_is_given_a_rule_with_adapt(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1))
    given = subject(model, tmp_path, 1, 3, 28, 28)

    text = starter_recipe(given)

    assert "    adapt: true\n" in text
    assert "# Modules whose output differs from their input: a rule needs `adapt: true`" in text
    assert check_file(Job(given, parse_recipe(text, "first.yaml", "."))).ok


def test_rule_that_drops_most_of_a_model_is_not_proposed(tmp_path: Path) -> None:
    whole = nn.Sequential(*(nn.Conv2d(8, 8, 9, padding=4) for _ in range(4)))
    parts = OrderedDict(stem=nn.Conv2d(3, 8, 1), attn=whole, gate=Gate(), head=nn.Conv2d(8, 2, 1))
    given = subject_of(nn.Sequential(parts), tmp_path, (1, 3, 14, 14))

    assert '- match: "gate"' in starter_recipe(given)


def test_search_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "RULE_SECONDS", -1.0)

    with pytest.raises(UsageError, match="none of 2 modules that keep their shape"):
        starter_recipe(subject(GatedNet(), tmp_path, 1, 3, 28, 28))


class Late(nn.Module):
    """Attention of (length, batch, channels)."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.attn(x, x, x, need_weights=False)[0]
        return out


def test_attention_of_tokens_that_come_first_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"; 'attn' is not among them: it is given \(length, "):
        starter_recipe(subject_of(Late(), tmp_path, (5, 2, 8)))
