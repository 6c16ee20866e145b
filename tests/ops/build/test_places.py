"""Places beside modules: the child's name, and the tensor that is meant."""

from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.core.errors import MatchError, ModswapError, RecipeError, ShapeError
from modswap.core.kept.outcome import Outcome
from modswap.nn.insertion import Insertion
from modswap.ops.recipes import parse_recipe
from tests.recipes import UNEXAMINED


def put_in(model: nn.Module, *rules: str, shape: str = "[2, 8, 12, 12]") -> Outcome:
    lines = "\n".join(f"  - {{{rule}}}" for rule in rules)
    text = f"version: 1\n{UNEXAMINED}inputs: [{{shape: {shape}}}]\ninsert:\n{lines}\n"
    return modswap.replace(model, parse_recipe(text, "swap.yaml", "."))


class Joining(nn.Module):
    """Concatenate a list of maps, as detectors do."""

    def forward(self, maps: list[torch.Tensor], scale: float = 1.0) -> torch.Tensor:
        return torch.cat(maps, 1) * scale


class Several(nn.Module):
    """Return two maps and a number in a dictionary."""

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> dict[str, Any]:
        return {"map": x + skip, "skip": skip, "steps": 3}


class Net(nn.Module):
    """A path and a skip around it, joined twice: (N, 8, H, W) -> (N, 16, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(8, 8, 3, padding=1)
        self.both = Several()
        self.join = Joining()
        self.cbam_taken = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.down(x)
        both = self.both(y, skip=x)
        out: torch.Tensor = self.join([both["map"], both["skip"]])
        return out


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


X = torch.randn(2, 8, 12, 12, generator=torch.Generator().manual_seed(1))


def opened(model: nn.Module) -> nn.Module:
    """Open every gate."""
    for one in model.modules():
        if isinstance(one, Insertion) and one.gate is not None:
            one.gate.data.fill_(1.0)
    return model


@pytest.mark.parametrize(
    ("rule", "name", "changed"),
    [
        ("after: down, with: SEBlock", "down.se_block", [True, False]),
        ("before: join, with: SEBlock, input: [maps, 1]", "join.se_block", [False, True]),
        ("before: join, with: SEBlock, input: [0, 1]", "join.se_block", [False, True]),
        ("before: both, with: SEBlock, input: skip, name: on_skip", "both.on_skip", [True, True]),
        ("after: both, with: SEBlock, output: map", "both.se_block", [True, False]),
        ("around: down, with: ECA", "down.eca", [True, False]),
    ],
)
def test_the_tensor_that_is_meant_is_changed_and_no_other(
    net: Net, rule: str, name: str, changed: list[bool]
) -> None:
    before = net(X)

    outcome = put_in(net, rule)

    assert outcome.sites[0].new_path == name
    assert outcome.ledger is not None
    assert outcome.ledger.dropped.tensors == 0
    assert torch.equal(net(X), before)
    after = opened(net)(X)
    halves = zip(before.chunk(2, 1), after.chunk(2, 1), strict=True)
    assert [not torch.equal(old, new) for old, new in halves] == changed


def test_the_report_names_what_is_new(net: Net) -> None:
    outcome = put_in(net, "after: down, with: ECA", "around: down, with: ECA, start: fresh")

    first, second = outcome.sites
    assert (first.path, first.place, first.new_path) == ("down", "after", "down.eca")
    assert (second.place, second.new_path) == ("around", "down.eca_2")
    assert first.parameters == ("down.eca.gate", "down.eca.module.conv.weight")
    assert second.parameters == ("down.eca_2.module.conv.weight",)
    assert outcome.fresh_parameters() == first.parameters + second.parameters


@pytest.mark.parametrize(
    ("rule", "error", "what"),
    [
        ("after: both, with: ECA", ShapeError, "output is not a tensor: there are map: (2, 8, 12"),
        ("after: both, with: ECA, output: mop", ShapeError, "output mop is no tensor"),
        ("before: join, with: ECA", ShapeError, "input is not a tensor: there are [0, 0]"),
        ("before: join, with: ECA, input: [0, 7]", ShapeError, "input [0, 7] is no tensor"),
        ("after: cbam_taken, with: ECA", ModswapError, "the dummy forward never calls it"),
        ("after: nowhere, with: ECA", MatchError, "no module matches 'nowhere'"),
        ("after: down, with: ECA, name: weight", RecipeError, "has an attribute 'weight' already"),
        ("after: '{down,both}', with: ECA, expect: 3", MatchError, "2 modules match, expected 3"),
        ("after: down, with: ECA, exclude: both", MatchError, "excludes nothing that `after`"),
    ],
)
def test_a_place_that_is_not_there_is_refused_and_the_model_is_as_it_was(
    net: Net, rule: str, error: type[ModswapError], what: str
) -> None:
    before = net(X)

    with pytest.raises(error) as raised:
        put_in(net, rule)

    assert what in raised.value.what
    assert torch.equal(net(X), before)
    assert not [one for one in net.modules() if isinstance(one, Insertion)]


def test_a_module_that_changes_the_shape_replaces_one(net: Net) -> None:
    with pytest.raises(ShapeError) as raised:
        put_in(net, "after: down, with: 'torch.nn:Upsample', args: {scale_factor: 2}")

    assert "what changes the shape replaces a module" in raised.value.fix
    change = {"scale_factor": 2}
    with pytest.raises(ShapeError) as raised:
        modswap.replace(net, match="down", with_="torch.nn:Upsample", args=change, start="preserve")
    assert "replaces a module" not in raised.value.fix


def test_a_number_is_no_place_for_a_module() -> None:
    class Counting(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return x.argmax(1)

    with pytest.raises(ShapeError, match="holds no floating-point numbers"):
        put_in(nn.Sequential(Counting()), "after: '0', with: ECA")


def test_calls_in_several_ways_are_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()
            self.pair = Pair()

        def forward(self, x: torch.Tensor) -> Any:
            self.pair(x, both=False)
            return self.act(self.act(input=x))

    class Pair(nn.Module):
        def forward(self, x: torch.Tensor, both: bool) -> Any:
            return (x, 1) if both else x

    with pytest.raises(ShapeError, match="its calls give it input and 0"):
        put_in(Twice(), "before: act, with: ECA")


def test_two_rules_on_one_module_are_refused_with_both_places() -> None:
    text = (
        "version: 1\ninputs: [{shape: [2, 8, 12, 12]}]\n"
        "replace:\n  - {match: '0', with: ECA}\ninsert:\n  - {after: '0', with: ECA}\n"
    )
    with pytest.raises(MatchError) as raised:
        modswap.replace(nn.Sequential(nn.Conv2d(8, 8, 1)), parse_recipe(text, "swap.yaml", "."))

    assert raised.value.where == "swap.yaml:6:6"
    assert "itself is replaced by the rule at swap.yaml:4:6" in raised.value.what


def test_a_module_inside_a_replaced_one_has_no_place() -> None:
    text = (
        "version: 1\ninputs: [{shape: [2, 8, 12, 12]}]\n"
        "replace:\n  - {match: '0', with: ECA}\ninsert:\n  - {after: '0.0', with: ECA}\n"
    )
    model = nn.Sequential(nn.Sequential(nn.Conv2d(8, 8, 1)))
    with pytest.raises(MatchError, match="is inside '0', which is replaced by the rule at"):
        modswap.replace(model, parse_recipe(text, "swap.yaml", "."))


def test_half_precision_of_the_module_beside_is_kept_for_the_new_one() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 1)).half()

    put_in(model, "after: '0', with: ECA")

    assert {p.dtype for p in model.parameters()} == {torch.float16}


def test_shared_modules_and_shared_rules() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(8, 8, 1)
            self.b = self.a
            self.c = nn.Conv2d(8, 8, 1)

        def forward(self, x: torch.Tensor) -> Any:
            return self.c(self.b(self.a(x)))

    model = Shared()
    before = model(X)
    put_in(model, "after: '{a,c}', with: ECA, share: true")

    assert model.a is model.b
    assert model.a._modules["eca"] is model.c._modules["eca"]
    assert torch.equal(model(X), before)


def test_a_fresh_start_is_in_the_way_from_the_first(net: Net) -> None:
    expected = net(X)

    put_in(net, "after: down, with: ECA, start: fresh")

    assert not torch.equal(net(X), expected)


def test_a_replacement_that_preserves_fades_in(net: Net) -> None:
    before = net(X)
    text = (
        f"version: 1\n{UNEXAMINED}inputs: [{{shape: [2, 8, 12, 12]}}]\n"
        "replace:\n  - {match: down, with: ECA, start: preserve}\n"
    )
    outcome = modswap.replace(net, parse_recipe(text, "swap.yaml", "."))

    (site,) = outcome.sites
    assert (site.place, site.new_path, site.start) == ("instead", "down.eca", "preserve")
    assert torch.equal(net(X), before)
    y = net.down._modules["eca"]
    assert isinstance(y, Insertion)
    expected = y.module(X)
    opened(net)
    torch.testing.assert_close(net.down(X), expected)


class Padded(nn.Module):
    """An encoder of torch that is given a padding mask, and a layer behind it."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> Any:
        padding = torch.arange(x.shape[1]).expand(x.shape[:2]) >= x.shape[1] - 1
        return self.head(self.encoder(x, src_key_padding_mask=padding))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_place_inside_an_encoder_that_packs_tokens_is_refused_and_one_behind_it_is_not() -> None:
    rule: dict[str, Any] = {"with_": "SelfAttention", "args": {"num_heads": 2}}
    rule["inputs"] = [{"shape": [2, 9, 16]}]
    for path in ("encoder.layers.0", "encoder.layers.1.self_attn", "encoder.layers.0.norm1"):
        with pytest.raises(MatchError, match="packs tokens by the padding mask") as raised:
            modswap.insert(Padded().eval(), after=path, **rule)
        assert raised.value.fix == (
            "put it in beside the whole encoder, encoder, or write the file with "
            "encoder.use_nested_tensor = False"
        )

    plain = Padded().eval()
    plain.encoder.use_nested_tensor = False
    verdict = modswap.insert(plain, after="encoder.layers.0", **rule).verdict
    assert verdict is not None
    assert verdict.ok
    model = Padded().eval()
    verdict = modswap.insert(model, after="head", **rule).verdict
    assert verdict is not None
    assert verdict.ok
