"""New heads: the output of the model changes, and nothing else does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.core.errors import ModswapError, RecipeError, ShapeError
from modswap.core.kept.outcome import Outcome
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.api import replace
from tests.recipes import UNEXAMINED

IMAGE, IDS = "{shape: [2, 3, 16, 16]}", "{shape: [2, 5], dtype: int64, fill: zeros}"
LINEAR = 'with: "torch.nn:Linear", args: {out_features: 7}'
CONV = 'with: "torch.nn:Conv2d", args: {out_channels: 3, kernel_size: 1}'


class Classifier(nn.Module):
    """Class scores of an image, and their features: (N, 3, H, W) -> (N, 8) and (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.head = nn.Sequential(nn.Dropout(), nn.Linear(8, 10))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.stem(x).mean((2, 3))
        return {"features": features, "logits": self.head(features).softmax(1)}


class Segmenter(nn.Module):
    """A map of scores, enlarged: (N, 3, H, W) -> (N, 21, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.head = nn.Conv2d(8, 21, 1)
        self.up = nn.Upsample(scale_factor=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.up(self.head(self.stem(x)))
        return out


class Speaker(nn.Module):
    """Scores of words for each word: (N, L) of whole numbers -> (N, L, 9)."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 8)
        self.head = nn.Linear(8, 9)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.words(ids))
        return out


class Middle(nn.Module):
    """Three linear layers: (N, 4) -> (N, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


def swap(model: nn.Module, rule: str, inputs: str = IMAGE, verify: str = UNEXAMINED) -> Outcome:
    text = f"version: 1\ninputs: [{inputs}]\nreplace: [{{{rule}}}]\n{verify}"
    return replace(model.eval(), parse_recipe(text, "swap.yaml", "."))


@pytest.mark.parametrize(
    ("model", "rule", "inputs", "note"),
    [
        (Classifier, f"match: head.1, {LINEAR}", IMAGE, "output.logits was (2, 10), is now (2, 7)"),
        (Segmenter, f"match: head, {CONV}", IMAGE, "was (2, 21, 16, 16), is now (2, 3, 16, 16)"),
        (
            Segmenter,
            f"match: head, {CONV.replace(': 1', ': [1, 1]')}",
            IMAGE,
            "was (2, 21, 16, 16), is now (2, 3, 16, 16)",
        ),
        (Segmenter, f"match: head, {LINEAR}", IMAGE, "is now (2, 7, 16, 16)"),
        (
            Segmenter,
            "match: head, with: ConvGate, args: {out_channels: 5}, output: changed",
            IMAGE,
            "is now (2, 5, 16, 16)",
        ),
        (Speaker, f"match: head, {LINEAR}", IDS, "output was (2, 5, 9), is now (2, 5, 7)"),
    ],
)
def test_new_head_changes_its_output_and_no_other(
    model: type[nn.Module], rule: str, inputs: str, note: str
) -> None:
    outcome = swap(model(), rule, inputs)

    assert outcome.ok
    (said,) = outcome.notes
    assert said.startswith("outputs changed, as the rule says: output")
    assert said.endswith(f"{note}; no other output did")


def test_new_head_passes_every_examination() -> None:
    outcome = swap(
        Classifier(), f"match: head.1, {LINEAR}", verify="verify: {modes: [eval, train]}"
    )

    assert outcome.ok
    assert outcome.verdict is not None
    assert {found.status for found in outcome.verdict.findings} <= {"passed", "skipped"}


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        (
            f"match: layers.1, {LINEAR}",
            r"its new input: 'layers.1' gave \(2, 8\), now gives \(2, 7\); keep .* 'layers.2' too",
        ),
        (f"match: layers.2, {LINEAR}, adapt: true", "the new module into"),
        (f"match: layers.2, {LINEAR}, adapt: true, output: changed", "`adapt` is false where"),
        ("match: layers.2, with: 'tests.models:Keep', output: other", "output"),
    ],
)
def test_output_that_does_not_fit_is_refused(rule: str, what: str) -> None:
    with pytest.raises(ModswapError, match=what):
        swap(Middle(), rule, "{shape: [2, 4]}")


def test_head_of_as_many_outputs_changes_none() -> None:
    rule = "match: layers.2, with: 'torch.nn:Linear', args: {out_features: 2}"

    assert swap(Middle(), rule, "{shape: [2, 4]}").notes == ()
    said = swap(Middle(), f"{rule}, output: changed", "{shape: [2, 4]}").notes
    assert said == ("no output of the model has another size than before",)


K3 = 'with: "torch.nn:Conv2d", args: {out_channels: 3, kernel_size: 3, padding: 1}'


class Towers(nn.Module):
    """Maps of two towers, with a gate in the middle: (N, 3, H, W) -> (N, 8, H, W) and (N, 4, H, W).

    The second map comes from a module that runs after the first was made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.gate = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 4, 3, padding=1)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.scaled = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.stem(x)
        y = self.norm(y * self.gate(y).sigmoid().mean(1, keepdim=True))
        first = nn.functional.interpolate(self.first(y), scale_factor=2)
        return {"a": first, "b": self.second(y).softmax(1), "c": self.scaled(y) * self.scale}


class Signal(nn.Module):
    """Scores of samples in a row: (N, 3, L) -> (N, 5, L)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(3, 8, 3, padding=1)
        self.head = nn.Conv1d(8, 5, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.stem(x))
        return out


@pytest.mark.parametrize(
    ("model", "rule", "inputs", "note"),
    [
        (Segmenter, f"match: head, {K3}", IMAGE, "was (2, 21, 16, 16), is now (2, 3, 16, 16)"),
        (Towers, f"match: first, {K3}", IMAGE, "a was (2, 8, 32, 32), is now (2, 3, 32, 32)"),
        (Towers, f"match: second, {K3}", IMAGE, "b was (2, 4, 16, 16), is now (2, 3, 16, 16)"),
        (
            Signal,
            f"match: head, {K3.replace('2d', '1d')}",
            "{shape: [2, 3, 20]}",
            "was (2, 5, 20), is now (2, 3, 20)",
        ),
    ],
)
def test_convolution_that_gives_an_output_is_a_head(
    model: type[nn.Module], rule: str, inputs: str, note: str
) -> None:
    outcome = swap(model(), rule, inputs)

    assert outcome.ok
    (said,) = outcome.notes
    assert said.endswith(f"{note}; no other output did")


@pytest.mark.parametrize("match", ["gate", "scaled"])
def test_convolution_that_weights_read_is_no_head(match: str) -> None:
    with pytest.raises(ShapeError, match=r"the new module into \(2, 3, 16, 16\)") as refused:
        swap(Towers(), f"match: {match}, {K3}")
    assert refused.value.fix.endswith(", or set `adapt: true` in its rule")


def test_head_that_loses_rows_as_well_is_refused_unless_the_rule_says_so() -> None:
    rule = f"match: second, {K3.replace(', padding: 1', ', padding: 0')}"

    with pytest.raises(ShapeError, match="such as `padding`; or set `output: changed` in its rule"):
        swap(Towers(), rule)
    assert swap(Towers(), f"{rule}, output: changed").ok


@pytest.mark.parametrize(
    ("rule", "fix"),
    [
        (
            "with: ConvGate, args: {out_channels: 5}",
            "; set `output: changed` in its rule, as for a new head; to keep its output: set",
        ),
        (
            "with: ConvGate, args: {out_channels: 5}, start: preserve",
            "set `adapt: true` in its rule",
        ),
        ("with: 'tests.models:PairAttention'", "as the replaced one does, and not"),
    ],
)
def test_other_output_of_a_last_module_names_the_key_for_heads(rule: str, fix: str) -> None:
    with pytest.raises(ShapeError) as refused:
        swap(Segmenter(), f"match: head, {rule}")
    assert fix in str(refused.value)
    assert ("output: changed" in str(refused.value)) == ("output: changed" in fix)


@pytest.mark.parametrize(
    ("expect", "wrong"),
    [
        ("{logits: [2, 7], output.features: [null, 8]}", ""),
        ("{logits: [2, 8]}", r"output\.logits is \(2, 7\), expected \(2, 8\)"),
        (
            "{logit: [2, 7]}",
            r"no output 'logit' .* gives output\.features, output\.logits",
        ),
    ],
)
def test_outputs_can_be_expected(expect: str, wrong: str) -> None:
    verify = UNEXAMINED.replace("{skip", f"{{expect: {expect}, skip")

    if not wrong:
        assert swap(Classifier(), f"match: head.1, {LINEAR}", verify=verify).ok
        return
    with pytest.raises(ShapeError, match=wrong):
        swap(Classifier(), f"match: head.1, {LINEAR}", verify=verify)


@pytest.mark.parametrize("expect", ["7", "{logits: 7}", "{logits: [0]}", "{logits: [x]}"])
def test_expected_outputs_are_shapes(expect: str) -> None:
    with pytest.raises(RecipeError):
        swap(Classifier(), f"match: head.1, {LINEAR}", verify=f"verify: {{expect: {expect}}}\n")


def test_new_head_is_in_the_written_file(tmp_path: Path) -> None:
    model: Any = Classifier().eval()
    kept = model.stem.weight.clone()
    (tmp_path / "swap.yaml").write_text(
        f"version: 1\ninputs: [{IMAGE}]\nreplace: [{{match: head.1, {LINEAR}}}]\n{UNEXAMINED}"
    )
    recipe = modswap.read_recipe(tmp_path / "swap.yaml")
    modswap.replace(model, recipe)
    modswap.save(model, tmp_path / "out.safetensors", recipe=recipe)

    factory = "tests.ops.test_heads:Classifier"
    loaded: Any = modswap.load(tmp_path / "out.safetensors", model=factory)

    assert loaded.head[1].weight.shape == (7, 8)
    assert torch.equal(loaded.stem.weight, kept)
