"""What shapes cannot show: each fault is found at its site, and a sound swap passes."""

import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.core.asked.recipe import Recipe
from modswap.core.errors import ShapeError
from modswap.core.finding import Finding
from modswap.core.seen.site import Call
from modswap.core.seen.values import NONE, Group, TensorInfo
from modswap.io.recipe.reader import parse_recipe
from modswap.nn import CATALOGUE
from modswap.ops.examine.alone.inputs import shrunk
from modswap.ops.examine.bench import Bench, examined
from modswap.ops.examine.table import EXAMINATIONS
from modswap.ops.swap import prepare, verified
from tests.models import GatedNet, SharedNet, TokenNet

DIM = 16


class Wrap(nn.Module):
    """A model of one block after a layer: what the site is given is made by `call`."""

    def __init__(self, block: nn.Module, call: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.stem = nn.Linear(DIM, DIM)
        self.block = block
        self.call = call or (lambda block, x: block(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.call(self.block, self.stem(x))
        result: torch.Tensor = out[0] if isinstance(out, tuple) else out
        return result


class Masked(nn.Module):
    """Attention with a mask of keys: (N, L, E), (N, L) -> (N, L, E)."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        bias = mask[:, None, :] if mask.is_floating_point() else (~mask[:, None, :]).float() * -1e4
        weights = (x @ x.transpose(1, 2) / 4 + bias).softmax(-1)
        out: torch.Tensor = self.proj(weights @ x)
        return out


class Maskless(nn.Module):
    """Takes the mask and does nothing with it."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.proj(x)
        return out


class Scales(Maskless):
    """Scales its output by the mask, which hides no key."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = (x @ x.transpose(1, 2) / 4).softmax(-1)
        out: torch.Tensor = self.proj(weights @ x) * (1 + mask[..., None].float())
        return out


class Cached(nn.Module):
    """Attends to a cache of keys and values: (N, L, E), cache -> (N, L, E)."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor, *, cache: dict[str, torch.Tensor]) -> torch.Tensor:
        k, v = torch.cat([cache["k"], x], 1), torch.cat([cache["v"], x], 1)
        out: torch.Tensor = self.proj((x @ k.transpose(1, 2) / 4).softmax(-1) @ v)
        return out


class Cacheless(nn.Module):
    """Takes the cache and does nothing with it."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor, *, cache: dict[str, torch.Tensor]) -> torch.Tensor:
        out: torch.Tensor = self.proj(x)
        return out


class Causal(nn.Module):
    """Attention to what lies before: (N, L, E) -> (N, L, E)."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.proj(
            nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
        )
        return out


class MixesSecond(nn.Module):
    """Adds the mean over the second axis, which is a batch where tokens come first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x.mean(1, keepdim=True)


class TokensFirst(nn.Module):
    """A block between an embedding of whole numbers and a head: (N, L) -> (N, L, E)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(8, DIM)
        self.block = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.block(self.embed(x).transpose(0, 1))
        return out.transpose(0, 1)


class Mixes(nn.Module):
    """Subtracts the mean over the batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0, keepdim=True)


class OneOnly(nn.Module):
    """Takes one sample at a time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(1, x.shape[1], DIM)


class Draws(nn.Module):
    """Adds noise in every mode."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x)


class DrawsUnused(nn.Module):
    """Draws from Python's generator what it does not use."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        random.random()
        return x * 2


class Counts(nn.Module):
    """Writes a buffer in every mode."""

    seen: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return x * self.seen


class Overwrites(nn.Module):
    """Doubles its input in place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2)


class OverwritesNothing(nn.Module):
    """Writes into its input what stands there."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp_(-1e9, 1e9) * 2


class CountsInto(nn.Module):
    """Writes a buffer and its input."""

    seen: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return x.mul_(2) * 3


class Unused(nn.Module):
    """Has a layer that the forward pass forgets."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(DIM, DIM)
        self.forgotten = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.used(x)
        return out


class Detached(nn.Module):
    """Cuts its input off."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.detach() * 2


class NotFinite(nn.Module):
    """The logarithm of negative numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.log()


class NotFiniteBack(nn.Module):
    """A finite output, whose gradient is not: the root's slope at zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + (x - x.detach()).abs().sqrt()


class TrainingDies(nn.Module):
    """Raises in training mode."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise RuntimeError("no training here")
        return x * 2


class Switches(nn.Module):
    """Sets its own flag."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.training = True
        return x * 2


class Pair(nn.Module):
    """Multi-head attention of another make, which takes all that torch's takes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(DIM, 2, batch_first=True)

    def forward(self, query: Any, key: Any, value: Any, **options: Any) -> Any:
        return self.inner(query, key, value, **options)


class PairOfQuery(nn.Module):
    """Takes keys, values and masks, and uses the query alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(DIM, DIM)

    def forward(self, query: Any, key: Any, value: Any, **options: Any) -> Any:
        return self.inner(query), None


def recipe(with_: str, match: str = "block", shape: str = "[1, 6, 16]", more: str = "") -> Recipe:
    text = (
        f"version: 1\ninputs: [{{shape: {shape}}}]\n"
        f'replace:\n  - {{match: "{match}", with: "{with_}"{more}}}\n'
    )
    return parse_recipe(text, "swap.yaml", ".")


def examine(model: nn.Module, wanted: Recipe, *, unreal: bool = True) -> list[Finding]:
    prepared = prepare(model, wanted, unreal=unreal)
    with verified(model, prepared, lambda _: None) as standing:
        assert standing.verdict.ok, standing.verdict.problems
        bench = Bench(model, prepared, standing.after, standing.old, wanted)
        found = examined(standing.verdict, bench, EXAMINATIONS).findings
    mine = ["gradients", "independence", "determinism", "finite", "untouched", "dependence"]
    return [one for one in found if one.check in mine]


def failed(found: list[Finding]) -> list[tuple[str, str]]:
    return [(one.check, one.path) for one in found if one.status == "failed"]


def here(cls: type[nn.Module]) -> str:
    return f"tests.ops.examine.test_behaviour:{cls.__name__}"


def with_mask(dtype: torch.dtype) -> Callable[..., Any]:
    return lambda block, x: block(x, torch.ones(x.shape[:2], dtype=dtype, device=x.device))


def with_cache(block: nn.Module, x: torch.Tensor) -> Any:
    return block(x, cache={"k": x[:, :3] * 2, "v": x[:, :3] * 3})


def attended(block: nn.Module, x: torch.Tensor) -> Any:
    padding = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
    mask = torch.zeros(x.shape[1], x.shape[1], device=x.device)
    return block(x, x, x, key_padding_mask=padding.float(), attn_mask=mask, need_weights=False)


def crossed(block: nn.Module, x: torch.Tensor) -> Any:
    return block(x, x * 2, x * 3, need_weights=False)


@pytest.mark.parametrize("unreal", [True, False])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_a_mask_that_the_new_module_ignores_is_named(dtype: torch.dtype, unreal: bool) -> None:
    model = Wrap(Masked(), with_mask(dtype))

    found = examine(model, recipe(here(Maskless)), unreal=unreal)

    (fault,) = [one for one in found if one.status == "failed"]
    assert (fault.check, fault.path, fault.data) == ("dependence", "block", {"ignored": ["mask"]})
    assert "ignores 'mask'" in fault.what


def test_a_mask_that_moves_the_output_and_hides_nothing_is_lost() -> None:
    found = examine(Wrap(Masked(), with_mask(torch.bool)), recipe(here(Scales)))

    (fault,) = [one for one in found if one.status == "failed"]
    assert (fault.check, fault.path) == ("dependence", "block")
    assert fault.what.startswith("the mask is lost: token 1 is masked and changes output")


@pytest.mark.parametrize(
    ("new", "changed", "fix"),
    [
        (Overwrites, ["its input 'input'"], "take `inplace=True`"),
        (OverwritesNothing, ["its input 'input'"], "take `inplace=True`"),
        (CountsInto, ["'seen'", "its input 'input'"], "away; write only where `self.training`"),
    ],
)
def test_an_input_that_is_written_into_is_told(
    new: type[nn.Module], changed: list[str], fix: str
) -> None:
    model = Wrap(nn.Linear(DIM, DIM), lambda block, x: x + block(x))

    found = examine(model, recipe(here(new)))

    (fault,) = [one for one in found if one.status == "failed"]
    assert (fault.check, fault.path, fault.data) == ("untouched", "block", {"changed": changed})
    assert fix in fault.fix


def halves(block: nn.Module, x: torch.Tensor) -> Any:
    first, second = x[..., : DIM // 2], x[..., DIM // 2 :]
    return torch.cat([first * 1, block(second) * 2], -1)


def needed_to_go_backward(block: nn.Module, x: torch.Tensor) -> Any:
    return block(x.sigmoid())


@pytest.mark.parametrize(
    ("model", "harm"),
    [
        (Wrap(nn.Linear(DIM, DIM), needed_to_go_backward), "training raises"),
        (nn.Sequential(OrderedDict(block=nn.Linear(DIM, DIM))), "the model's own input"),
        (Wrap(nn.Linear(DIM, DIM), lambda block, x: x * block(x)), "reads it again (mul)"),
        (Wrap(nn.Linear(DIM, DIM)), ""),
        # what it is given is let go, and others are made in its place
        (Wrap(nn.Linear(DIM, DIM), lambda block, x: (block(x * 1) + 1) * x.cos().sin()), ""),
        (Wrap(nn.Linear(DIM, DIM), lambda block, x: block(x.relu()) + 1), "training raises"),
        (Wrap(nn.Linear(DIM // 2, DIM // 2), halves), ""),
        (Wrap(nn.Linear(DIM, DIM), lambda block, x: (block(x) + 1, x.view(-1))), ""),
    ],
    ids=[
        "backward",
        "caller",
        "read again",
        "nothing",
        "let go",
        "backward of relu",
        "other half",
        "view",
    ],
)
def test_writing_into_an_input_fails_only_where_that_does_harm(model: nn.Module, harm: str) -> None:
    found = examine(model, recipe(here(Overwrites)))

    (told,) = [one for one in found if one.check == "untouched"]
    assert told.status == ("failed" if harm else "passed")
    assert (harm or "which nothing reads afterwards") in told.what


def test_an_input_that_the_original_wrote_into_as_well_is_sound() -> None:
    found = examine(Wrap(Overwrites()), recipe(here(OverwritesNothing)))

    assert failed(found) == []


def test_a_cache_that_the_new_module_ignores_is_named() -> None:
    found = examine(Wrap(Cached(), with_cache), recipe(here(Cacheless)))

    (fault,) = [one for one in found if one.status == "failed"]
    assert fault.data == {"ignored": ["cache[k]", "cache[v]"]}


@pytest.mark.parametrize(
    ("block", "call"),
    [(Masked, with_mask(torch.bool)), (Masked, with_mask(torch.float32)), (Cached, with_cache)],
)
def test_the_same_module_again_is_sound(
    block: Callable[[], nn.Module], call: Callable[..., Any]
) -> None:
    found = examine(Wrap(block(), call), recipe(here(block)))  # type: ignore[arg-type] # they are classes

    assert {one.status for one in found if one.path} == {"passed"}


def test_masks_of_multi_head_attention_are_named_when_ignored() -> None:
    model = Wrap(nn.MultiheadAttention(DIM, 2, batch_first=True), attended)

    found = examine(model, recipe(here(PairOfQuery)))

    (fault,) = [one for one in found if one.status == "failed"]
    assert fault.data == {"ignored": ["key_padding_mask", "attn_mask"]}


@pytest.mark.parametrize("call", [attended, crossed])
def test_multi_head_attention_of_another_make_is_sound(call: Callable[..., Any]) -> None:
    model = Wrap(nn.MultiheadAttention(DIM, 2, batch_first=True), call)

    found = examine(model, recipe(here(Pair)))

    assert {one.status for one in found if one.path} == {"passed"}


def test_keys_and_values_that_are_not_the_query_are_missed() -> None:
    model = Wrap(nn.MultiheadAttention(DIM, 2, batch_first=True), crossed)

    found = examine(model, recipe(here(PairOfQuery)))

    (fault,) = [one for one in found if one.status == "failed"]
    assert fault.data == {"ignored": ["key", "value"]}


def test_causality_that_is_lost_is_told_with_its_tokens() -> None:
    found = examine(Wrap(Causal()), recipe("SelfAttention", more=", args: {mask: false}"))

    (fault,) = [one for one in found if one.status == "failed"]
    assert (fault.check, fault.path) == ("dependence", "block")
    assert fault.what.startswith("causality is lost: token 5 changes output 4")


def test_causality_that_is_kept_passes() -> None:
    found = examine(Wrap(Causal()), recipe("SelfAttention", more=", args: {mask: true}"))

    assert {one.status for one in found} == {"passed"}


class Words(nn.Module):
    """Blocks over words with a mask of what is seen, or of what is hidden: (N, L), (N, L)."""

    def __init__(self, attention: nn.Module, *, hides: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, DIM)
        self.attention = attention
        self.block = nn.Linear(DIM, DIM)
        self.hides = hides

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        seen = ~mask.bool() if self.hides else mask.bool()
        out: torch.Tensor = self.block(x + self.attention(x, seen))
        return out


class Padded(nn.Module):
    """Attention to keys that are seen; where there is none, to all: (N, L, E) -> (N, L, E)."""

    def __init__(self, *, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        shown = seen[:, None, :].expand(-1, x.shape[1], -1)
        shown = shown.tril() if self.causal else shown
        scores = (x @ x.transpose(1, 2) / 4).masked_fill(~shown, -1e30)
        return scores.softmax(-1) @ x


class Pairs(nn.Module):
    """Lets each token see itself and the next: (N, L, E) -> (N, L, E)."""

    def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        return x + x.roll(-1, 1)


def words(
    attention: nn.Module, with_: str, *, hides: bool = False, more: str = ""
) -> list[Finding]:
    fill = "zeros" if hides else "ones"
    text = (
        "version: 1\ninputs: [{args: [{shape: [2, 6], dtype: int64}, "
        f"{{shape: [2, 6], dtype: bool, fill: {fill}}}]}}]\n"
        f'replace:\n  - {{match: block, with: "{with_}"{more}}}\n'
    )
    torch.manual_seed(0)
    return examine(Words(attention, hides=hides), parse_recipe(text, "swap.yaml", "."))


CAUSAL_ARGS = ", args: {mask: true}"
LINEAR_ARGS = f", args: {{in_features: {DIM}, out_features: {DIM}}}"


@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize(
    ("causal", "more", "what"),
    [
        (False, "", "the mask is lost: token 1 is masked and changes output"),
        (True, "", "causality is lost: token 5 changes output 4"),
        (True, CAUSAL_ARGS, "the mask is lost: token 1 is masked and changes output"),
    ],
)
def test_a_model_as_a_whole_loses_its_mask_or_its_causality(
    causal: bool, more: str, what: str, hides: bool
) -> None:
    found = words(Padded(causal=causal), "SelfAttention", hides=hides, more=more)

    (fault,) = [one for one in found if one.status == "failed"]
    assert (fault.check, fault.path) == ("dependence", "")
    assert fault.what.startswith(what)


@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_a_layer_of_each_token_keeps_masks_and_causality(causal: bool, hides: bool) -> None:
    found = words(Padded(causal=causal), "torch.nn:Linear", hides=hides, more=LINEAR_ARGS)

    assert {one.status for one in found} == {"passed"}


def test_tokens_that_mixed_before_are_no_order_and_unused_masks_hide_nothing() -> None:
    found = words(Pairs(), "SelfAttention")

    assert {one.status for one in found} == {"passed"}


class Halves(nn.Module):
    """Joins words with a style: (N, L), (N, L, E / 2) -> (N, L, E)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, DIM // 2)
        self.block = nn.Linear(DIM, DIM)

    def forward(self, tokens: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.block(torch.cat([self.embed(tokens), style], -1))
        return out


class FirstHalf(nn.Module):
    """Looks at the first half of the channels alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[..., : DIM // 2] * 2, x[..., : DIM // 2]], -1)


def test_an_input_that_the_swapped_model_ignores_is_told_of_the_whole() -> None:
    text = (
        "version: 1\ninputs: [{args: [{shape: [2, 6], dtype: int64}, {shape: [2, 6, 8]}]}]\n"
        f'replace:\n  - {{match: block, with: "{here(FirstHalf)}"}}\n'
    )

    found = examine(Halves(), parse_recipe(text, "swap.yaml", "."))

    (fault,) = [one for one in found if one.check == "dependence" and one.status == "failed"]
    assert (fault.path, fault.data) == ("", {"ignored": ["style"]})
    assert fault.what.startswith("the swapped model ignores 'style'")


def test_a_site_that_loses_its_mask_is_not_told_again_of_the_whole() -> None:
    found = examine(Wrap(Masked(), with_mask(torch.bool)), recipe(here(Maskless)))

    whole = [(one.status, one.what) for one in found if (one.check, one.path) == ("dependence", "")]
    assert whole == [("skipped", "a site fails it")]


def test_model_in_memory_is_examined_and_as_it_was_after_a_failure() -> None:
    model = Wrap(Causal())
    before = dict(model.named_modules())
    wanted = recipe(here(Unused))

    with pytest.raises(ShapeError, match="no gradient reaches 'forgotten"):
        modswap.replace(model, wanted)

    assert dict(model.named_modules()) == before
    verify = wanted.verify.model_copy(update={"skip": ("gradients",)})
    modswap.replace(model, wanted.model_copy(update={"verify": verify}))
    assert isinstance(model.block, Unused)


@pytest.mark.parametrize(
    ("new", "checks", "what"),
    [
        (Mixes, ["independence"], "sample 0 of a batch changes the output of other samples"),
        (OneOnly, ["independence"], "a batch of 2 is refused"),
        (Draws, ["determinism", "untouched"], "gives another output each time"),
        (DrawsUnused, ["untouched"], "changes the global random state"),
        (Counts, ["untouched"], "changes 'seen'"),
        (Switches, ["untouched"], "changes the training flag"),
        (Unused, ["gradients"], "no gradient reaches 'forgotten.weight', 'forgotten.bias'"),
        (Detached, ["gradients"], "the input 'input' moves the output, and no gradient reaches it"),
        (NotFinite, ["finite"], "the output is not finite"),
        (NotFiniteBack, ["gradients"], "the gradient of 'input' is not finite"),
        (TrainingDies, ["gradients"], "it raises in training mode"),
    ],
)
def test_fault_of_a_module_alone_is_found(
    new: type[nn.Module], checks: list[str], what: str
) -> None:
    found = examine(Wrap(nn.Linear(DIM, DIM)), recipe(here(new)))

    at_site = [one for one in found if one.path and one.status == "failed"]
    assert set(checks) <= {one.check for one in at_site}
    assert any(what in one.what for one in at_site)


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (Counts, {"untouched"}),
        (NotFinite, {"finite"}),
    ],
)
def test_one_fault_is_told_by_one_check(new: type[nn.Module], told: set[str]) -> None:
    found = examine(Wrap(nn.Linear(DIM, DIM)), recipe(here(new)))

    assert {one.check for one in found if one.status == "failed"} == told


def test_a_model_that_mixes_samples_as_a_whole_is_told() -> None:
    found = examine(Wrap(nn.Linear(DIM, DIM)), recipe(here(Mixes)))

    assert ("independence", "") in failed(found)


def test_samples_are_told_apart_where_the_original_passes_its_input_on() -> None:
    mixed = examine(Wrap(nn.Dropout()), recipe(here(Mixes)))
    sound = examine(Wrap(nn.Identity()), recipe("SelfAttention"))

    assert ("independence", "block") in failed(mixed)
    assert {one.status for one in sound} == {"passed"}


def test_a_model_that_takes_long_is_not_run_as_a_whole() -> None:
    model = nn.Sequential(nn.Conv2d(3, 512, 3), nn.Conv2d(512, 512, 3), nn.Identity())

    found = examine(model, recipe("SEBlock", "2", "[1, 3, 24, 24]"))

    (told, *_) = [one for one in found if not one.path]
    assert (told.status, "a run takes 9.5e+08 multiplications" in told.what) == ("skipped", True)


def test_a_skipped_check_leaves_the_others() -> None:
    text = (
        "version: 1\ninputs: [{shape: [1, 6, 16]}]\nverify: {skip: [gradients, independence]}\n"
        f'replace:\n  - {{match: block, with: "{here(Mixes)}"}}\n'
    )

    found = examine(Wrap(nn.Linear(DIM, DIM)), parse_recipe(text, "swap.yaml", "."))

    assert {one.check for one in found} == {"dependence", "determinism", "finite", "untouched"}


class Table(nn.Module):
    """Has an index table of two MiB."""

    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(1 << 18, dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def test_a_site_that_cannot_be_run_alone_is_skipped_with_the_reason() -> None:
    found = examine(Wrap(Table()), recipe(here(Mixes)))

    at_site = [one for one in found if one.path]
    assert {one.status for one in at_site} == {"skipped"}
    assert "its buffer 'table' holds 2097152 bytes that are not read" in at_site[0].what


def test_a_site_of_large_tensors_is_skipped_with_the_reason() -> None:
    model = Wrap(nn.Linear(DIM, DIM))

    found = examine(model, recipe(here(Mixes), shape="[1, 800000, 16]"))

    assert {one.status for one in found} == {"skipped"}
    assert "its tensors are larger than 32 MiB" in found[0].what


def test_the_model_is_as_it_was() -> None:
    torch.manual_seed(0)
    model = Wrap(Masked(), with_mask(torch.bool)).train()
    wanted = recipe(here(Maskless))
    prepared = prepare(model, wanted)
    with verified(model, prepared, lambda _: None) as standing:
        bench = Bench(model, prepared, standing.after, standing.old, wanted)
        modules = dict(model.named_modules())
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        drawn = torch.get_rng_state(), random.getstate()

        examined(standing.verdict, bench, EXAMINATIONS)

        assert dict(model.named_modules()) == modules
        assert all(torch.equal(state[name], now) for name, now in model.state_dict().items())
        assert (torch.equal(drawn[0], torch.get_rng_state()), random.getstate()) == (True, drawn[1])
        everything = [*model.modules(), *standing.old.values()]
        assert all(one.training and not one._forward_pre_hooks for one in everything)
        assert all(p.grad is None for p in model.parameters())


def two_convolutions() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 3, padding=1))


SITES: list[tuple[Callable[[], nn.Module], str, str]] = [
    (GatedNet, "{space,channel}_attention", "[1, 3, 32, 32]"),
    (TokenNet, "blocks.*.attn", "[1, 3, 32, 32]"),
    (SharedNet, "first", "[1, 8, 14, 14]"),
    (two_convolutions, "1", "[2, 3, 16, 16]"),
]


@pytest.mark.parametrize("site", range(len(SITES)))
@pytest.mark.parametrize("name", CATALOGUE)
def test_no_row_of_the_catalogue_raises_an_alarm(name: str, site: int) -> None:
    build, match, shape = SITES[site]
    torch.manual_seed(0)

    found = examine(build(), recipe(name, match, shape))

    assert [(one.check, one.path, one.what) for one in found if one.status != "passed"] == []


@pytest.mark.parametrize("name", CATALOGUE)
def test_no_row_replaced_by_another_of_itself_raises_an_alarm(name: str) -> None:
    torch.manual_seed(0)
    model = GatedNet()
    wanted = recipe(name, "space_attention", "[1, 3, 32, 32]")
    examine(model, wanted)
    again = recipe(name, "space_attention", "[1, 3, 32, 32]", ", layout: NCHW")

    found = examine(model, again)

    assert [(one.check, one.path, one.what) for one in found if one.status != "passed"] == []


def test_time_is_bounded_by_work_and_not_by_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1))
    swap = recipe("SEBlock", "[12]", "[1, 3, 16, 16]")
    monkeypatch.setattr("modswap.ops.examine.alone.bounds.MAX_SITES_MACS", 30_000)

    found = examine(wide, swap)

    skipped = {one.path for one in found if "those before it" in one.what}
    assert skipped == {"2"}


def test_large_maps_are_rehearsed_small_unless_a_module_takes_their_size_alone() -> None:
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, 64, 64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.weight

    seen = Call((TensorInfo((1, 8, 64, 64)), TensorInfo((1, 8))), (), TensorInfo((1, 8, 64, 64)))
    assert str(shrunk(seen, "NCHW").args[0]) == "(1, 8, 16, 16)"
    assert shrunk(seen, None) == seen
    pair = Call((Group("list", ("0",), (TensorInfo((1, 64, 64, 8)),)),), (), NONE)
    assert str(shrunk(pair, "NHWC").args[0]) == "list[(1, 16, 16, 8)]"
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Sized(), nn.Conv2d(3, 3, 1))

    found = examine(model, recipe("SEBlock", "1", "[1, 3, 64, 64]", ", layout: NCHW"))

    assert [one.what for one in found if one.path == "1" and one.status != "passed"] == []


class RaisesOnValues(nn.Module):
    """Reads behind the end, which tensors without data do not notice."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., torch.arange(x.shape[-1]) + 1] * self.weight


class Dense(nn.Module):
    """Compares every place of a map with every other."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(2)
        shares = (flat.transpose(1, 2) @ flat).softmax(-1)
        y: torch.Tensor = (flat @ shares).reshape(x.shape)
        return y * self.weight


def test_module_that_raises_on_real_values_alone_is_found_once() -> None:
    found = examine(Wrap(Causal()), recipe(here(RaisesOnValues)))

    (fault,) = [one for one in found if one.status == "failed"]
    assert (fault.check, fault.path) == ("finite", "block")
    assert "on real values it raises, as the original does not: IndexError" in fault.what


def test_run_that_would_take_much_memory_is_left_out() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1))
    wanted = recipe(here(Dense), "1", "[1, 3, 91, 91]", ", layout: NCHW, wants: NCHW")

    told = {one.what for one in examine(model, wanted) if one.path == "1"}

    assert len(told) == 1
    assert "it was not run by itself: a run takes" in told.pop()


class Prefix(nn.Module):
    """Attention in which the first token sees itself, and all others see all."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device)
        seen[0, 1:] = False
        return nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=seen)


class SamePrefix(Prefix):
    """The same under another name."""


def test_what_the_original_saw_of_later_tokens_is_no_causality_that_is_lost() -> None:
    found = examine(Wrap(Prefix()), recipe(here(SamePrefix)))

    assert failed(found) == []


@pytest.mark.parametrize(("new", "status"), [(MixesSecond, "failed"), (nn.Tanh, "passed")])
def test_samples_of_whole_numbers_that_mix_are_found_in_the_model(
    new: type[nn.Module], status: str
) -> None:
    name = f"torch.nn:{new.__name__}" if new is nn.Tanh else here(new)
    text = (
        "version: 1\ninputs: [{shape: [3, 5], dtype: int64, fill: {integers: [0, 8]}}]\n"
        f"replace: [{{match: block, with: '{name}'}}]\n"
    )

    found = examine(TokensFirst(), parse_recipe(text, "swap.yaml", "."))

    (told,) = [one for one in found if (one.check, one.path) == ("independence", "")]
    assert told.status == status
