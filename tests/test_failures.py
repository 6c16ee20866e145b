"""Each failure that a swap can bring, found by name on a small model; a sound swap on it passes."""

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from modswap.cli.app import run
from modswap.ops.examine.drift import UNREAL
from modswap.ops.examine.table import examination_names
from tests.failing_models import (
    KEPT,
    Bare,
    Bert,
    BertClassifier,
    Contiguous,
    DeepBert,
    DeepGpt,
    Gpt,
    LeNet,
    OptionalMask,
    Pretrained,
    Residual,
    Restless,
    Sized,
    TextEncoder,
    UNet,
    Vit,
    state_of,
)
from tests.models import GatedNet, PairNet, TokenNet

MAP = "[{shape: [1, 3, 28, 28]}]"
WORDS = "[{shape: [2, 6], dtype: int64}]"
MASKED = "[{args: [{shape: [2, 6], dtype: int64}, {shape: [2, 6], dtype: int64, fill: ones}]}]"
CACHED = "[{args: [{shape: [2, 4], dtype: int64}, {shape: [2, 3, 16]}]}]"
GATE = "match: space_attention"


def ours(name: str) -> str:
    return f"with: 'tests.failing_models:{name}'"


@dataclass(frozen=True, slots=True)
class Row:
    """A failure, and a sound swap on the same model.

    Args:
        name: The fault, in words.
        build: Makes the model.
        bad: The rule whose swap fails.
        sound: A rule whose swap holds.
        check: Name of the check that has to fail first.
        path: Place of the fault.
        reason: Pattern of the message.
        inputs: The recipe's dummy input.
        verify: The recipe's `verify` for the bad swap.
        more: The same for the sound one.
        args: Options of the command, for both.
    """

    name: str
    build: Callable[[], nn.Module]
    bad: str
    sound: str
    check: str
    path: str
    reason: str
    inputs: str = MAP
    verify: str = "{}"
    more: str = "{}"
    args: tuple[str, ...] = ()


def limited(name: str, bad: str, sound: str, reason: str, where: str = "the model") -> Row:
    """Return the row of one limit of a recipe."""
    return Row(
        name=name,
        build=GatedNet,
        bad=f"{GATE}, with: SEBlock",
        sound=f"{GATE}, with: SEBlock",
        check="limits",
        path=where,
        reason=reason,
        verify=f"{{limits: {{{name}: {bad}}}}}",
        more=f"{{limits: {{{name}: {sound}}}}}",
    )


ROWS = (
    Row(
        name="a gate that the decoder never calls",
        build=UNet,
        bad="match: 'decoder.*.gate', with: SEBlock",
        sound="match: 'decoder.0.gate', with: SEBlock",
        check="reached",
        path="decoder.1.gate",
        reason="the dummy forward never calls it",
        inputs="[{shape: [1, 3, 32, 32]}]",
    ),
    Row(
        name="a fast path around the new attention",
        build=TextEncoder,
        bad=f"match: 'encoder.layers.*.self_attn', {ours('LouderAttention')}",
        sound=f"match: 'encoder.layers.*.self_attn', {ours('PlainAttention')}",
        check="reached",
        path="encoder.layers.0.self_attn",
        reason="it runs only while hooks watch it",
        inputs="[{shape: [2, 5, 16]}]",
    ),
    Row(
        name="a tensor where a pair was unpacked",
        build=PairNet,
        bad=f"match: attn, {ours('Bare')}",
        sound=f"match: attn, {ours('Pair')}",
        check="fit",
        path="attn",
        reason=r"into tuple\[\(2, 5, 16\), None\], the new module into \(2, 5, 16\)$",
        inputs="[{shape: [2, 5, 16]}]",
    ),
    Row(
        name="another batch layout, hidden by as many samples as tokens",
        build=TokenNet,
        bad=f"match: 'blocks.1.attn', {ours('LengthFirst')}, wants: NLC",
        sound=f"match: 'blocks.1.attn', {ours('Attention')}",
        check="matrix",
        path="blocks.1.attn",
        reason=r"output was \(1, 4, 16\), is now \(4, 1, 16\).*in the same way in 3 further cases",
        inputs="[{shape: [4, 3, 8, 8]}]",
    ),
    Row(
        name="a mask that is ignored",
        build=Bert,
        bad=f"match: block.attn, {ours('Maskless')}",
        sound=f"match: block.attn, {ours('Attention')}",
        check="dependence",
        path="block.attn",
        reason="the new module ignores 'mask'",
        inputs=MASKED,
    ),
    Row(
        name="a mask that the new module does not take",
        build=Bert,
        bad="match: block.attn, with: SelfAttention",
        sound=f"match: block.attn, {ours('Attention')}",
        check="fit",
        path="block.attn",
        reason="it is also given 'mask'",
        inputs=MASKED,
    ),
    Row(
        name="a cache that is ignored",
        build=Gpt,
        bad=f"match: 'blocks.*.attn', {ours('Cacheless')}",
        sound=f"match: 'blocks.*.attn', {ours('CausalAttention')}",
        check="dependence",
        path="blocks.0.attn",
        reason=r"ignores 'cache\[k\]', 'cache\[v\]'",
        inputs=CACHED,
    ),
    Row(
        name="one area alone, by a flatten",
        build=LeNet,
        bad=f"match: mixer, {ours('Spatial')}, wants: NCHW",
        sound="match: mixer, with: SEBlock",
        check="sizes",
        path="mixer.mix",
        reason=r"floor\(\(W \+ 1\) / 2\) = 64 alone; the original took any",
        inputs="[{shape: [2, 1, 16, 16]}]",
    ),
    Row(
        name="a parameter without a gradient",
        build=GatedNet,
        bad=f"{GATE}, {ours('Unused')}",
        sound=f"{GATE}, with: CBAM",
        check="gradients",
        path="space_attention",
        reason="no gradient reaches 'auxiliary.weight', 'auxiliary.bias'",
    ),
    Row(
        name="gradients that are NaN",
        build=GatedNet,
        bad=f"{GATE}, {ours('RootGate')}",
        sound=f"{GATE}, with: ECA",
        check="gradients",
        path="space_attention",
        reason="the gradient of 'conv.weight', 'conv.bias', 'input' is not finite",
    ),
    Row(
        name="an input cut off from its gradient",
        build=GatedNet,
        bad=f"{GATE}, {ours('Detached')}",
        sound=f"{GATE}, with: ConvGate",
        check="gradients",
        path="space_attention",
        reason="the input 'input' moves the output, and no gradient reaches it any more",
    ),
    Row(
        name="samples that mix",
        build=TokenNet,
        bad=f"match: 'blocks.0.attn', {ours('OverBatch')}, wants: NLC",
        sound="match: 'blocks.0.attn', with: MultiHeadSelfAttention",
        check="independence",
        path="blocks.0.attn",
        reason="sample 0 of a batch changes the output of other samples",
        inputs="[{shape: [2, 3, 16, 16]}]",
    ),
    Row(
        name="causality lost",
        build=Gpt,
        bad="match: 'blocks.*.attn', with: SelfAttention, args: {mask: false}",
        sound="match: 'blocks.*.attn', with: SelfAttention, args: {mask: true}",
        check="dependence",
        path="blocks.0.attn",
        reason="causality is lost: token 5 changes output 4",
        inputs=WORDS,
    ),
    Row(
        name="causality lost in the whole model alone",
        build=DeepGpt,
        bad="match: 'blocks.*.mlp', with: SelfAttention",
        sound="match: 'blocks.*.mlp', with: SelfAttention, args: {mask: true}",
        check="dependence",
        path="the model",
        reason="^causality is lost: token 5 changes output 4",
        inputs=WORDS,
    ),
    Row(
        name="padding that is seen",
        build=DeepBert,
        bad="match: block.mlp, with: SelfAttention",
        sound=f"match: block.mlp, {ours('PerToken')}",
        check="dependence",
        path="the model",
        reason=r"^the mask is lost: token 1 is masked and changes output \d, as it did not before$",
        inputs=MASKED,
    ),
    Row(
        name="padding that is seen by a classifier",
        build=BertClassifier,
        bad="match: block.mlp, with: SelfAttention",
        sound=f"match: block.mlp, {ours('PerToken')}",
        check="dependence",
        path="the model",
        reason="^the mask is lost: token 1 is masked and changes the output, as it did not before$",
        inputs=MASKED,
    ),
    Row(
        name="chance in evaluation",
        build=GatedNet,
        bad=f"{GATE}, {ours('DropsAlways')}",
        sound=f"{GATE}, with: SCSE",
        check="determinism",
        path="space_attention",
        reason="the same input gives another output each time",
    ),
    Row(
        name="outputs that are not finite",
        build=Gpt,
        bad=f"match: 'blocks.1.attn', {ours('StrictlyBefore')}",
        sound=f"match: 'blocks.1.attn', {ours('CausalAttention')}",
        check="finite",
        path="blocks.1.attn",
        reason="the output is not finite for normal inputs; the original's was",
        inputs=WORDS,
    ),
    Row(
        name="a buffer written in evaluation",
        build=GatedNet,
        bad=f"{GATE}, {ours('Observer')}, wants: NCHW",
        sound=f"{GATE}, with: CoordinateAttention",
        check="untouched",
        path="space_attention",
        reason="a forward pass in evaluation mode changes 'largest'",
    ),
    Row(
        name="an input that is written into",
        build=Residual,
        bad=f"{GATE}, {ours('WritesInput')}, wants: NCHW",
        sound=f"{GATE}, {ours('WritesWithin')}, wants: NCHW",
        check="untouched",
        path="space_attention",
        reason="a forward pass in evaluation mode changes its input 'input', as none did before: "
        r"the model reads it again \(add\)",
    ),
    Row(
        name="a class token beside a square",
        build=Vit,
        bad="match: 'blocks.*.attn', with: BiLevelRoutingAttention",
        sound="match: 'blocks.*.attn', with: SelfAttention",
        check="fit",
        path="blocks.0.attn",
        reason=r"17 tokens are no map: they look like 4x4 \+ 1 \(a class token\)",
        inputs="[{shape: [1, 3, 16, 16]}]",
    ),
    Row(
        name="a class token that makes a square",
        build=Vit,
        bad="match: 'blocks.*.attn', with: BiLevelRoutingAttention",
        sound="match: 'blocks.*.attn', with: SelfAttention",
        check="fit",
        path="blocks.0.attn",
        reason=r"16 tokens are no map: they look like 3x5 \+ 1 \(a class token\)",
        inputs="[{shape: [1, 3, 12, 20]}]",
    ),
    Row(
        name="a class token given to a grid module of one's own",
        build=Vit,
        bad=f"match: 'blocks.*.attn', {ours('GridConv')}, wants: NCHW",
        sound="match: 'blocks.*.attn', with: SelfAttention",
        check="fit",
        path="blocks.0.attn",
        reason=r"as NCHW: 16 tokens are no map: they look like 3x5 \+ 1 \(a class token\)",
        inputs="[{shape: [1, 3, 12, 20]}]",
    ),
    Row(
        name="words that are as many as a square",
        build=Gpt,
        bad="match: 'blocks.1.attn', with: BiLevelRoutingAttention",
        sound="match: 'blocks.1.attn', with: SelfAttention, args: {mask: true}",
        check="fit",
        path="blocks.1.attn",
        reason="16 tokens do not come from a map that was flattened, as far as the pass shows",
        inputs="[{shape: [1, 16], dtype: int64, fill: {integers: [0, 8]}}]",
    ),
    Row(
        name="a map that is no square, and whose area is one",
        build=TokenNet,
        bad="match: 'blocks.*.attn', with: BiLevelRoutingAttention",
        sound="match: 'blocks.*.attn', with: SelfAttention",
        check="fit",
        path="blocks.0.attn",
        reason="16 tokens are a map of 2x8, which the call does not say",
        inputs="[{shape: [1, 3, 8, 32]}]",
    ),
    Row(
        name="more memory than is allowed",
        build=GatedNet,
        bad=f"{GATE}, {ours('Quadratic')}",
        sound=f"{GATE}, with: SEBlock",
        check="limits",
        path="space_attention",
        reason=r"would take 1\d\d MiB, --max-memory is 32\.0 MiB, this site alone 1\d\d MiB",
        inputs="[{shape: [1, 3, 128, 128]}]",
        args=("--max-memory", "32MiB"),
    ),
    limited("max_params", "1000", "10000", r"parameters 2,866, above verify\.limits\.max_params"),
    limited("max_flops", "1000", "10000000", "floating-point operations 1,085,120, above"),
    limited("max_memory", "100KiB", "1MiB", "training peak 137 KiB, above"),
    limited("max_memory", "1KiB", "1MiB", "max_memory is 1.0 KiB, before anything", "inputs"),
    limited("max_latency", "0.000001", "60000.0", "milliseconds of one pass .* above"),
    limited("min_kept", "0.9", "0.5", "share of the parameters kept 0.546[0-9]*, below"),
    limited("max_drift", "0.0001", "10.0", r"distance of the outputs 0\.4\d*, above"),
)
TABLE = pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{row.name}, {row.path}") for row in ROWS]
)


class Ran(NamedTuple):
    code: int
    data: Mapping[str, Any]

    @property
    def noted(self) -> list[tuple[str, str, str]]:
        """Return the findings that a sound swap does not have: not passed, or slower."""
        return [
            (found["check"], found["path"], found["what"])
            for found in self.data["verify"]["checks"]
            if (found["status"] != "passed" or "memory_format" in found["data"])
            and found["what"] != UNREAL
        ]


Checking = Callable[..., Ran]


@pytest.fixture
def check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Checking:
    """Run `modswap check` on a model and a rule; return the exit code and the report."""
    monkeypatch.chdir(tmp_path)

    def call(model: nn.Module, rule: str, inputs: str, verify: str, *args: str) -> Ran:
        torch.save(model, "net.pt")
        Path("swap.yaml").write_text(
            f"version: 1\nallow: tests.*\ninputs: {inputs}\nverify: {verify}\n"
            f"replace:\n  - {{{rule}}}\n"
        )
        capsys.readouterr()
        code = run(["check", "net.pt", "-c", "swap.yaml", "--format", "json", *args])
        return Ran(code, json.loads(capsys.readouterr().out))

    return call


def only(check: str, verify: str) -> str:
    """Return a `verify` without examinations but one."""
    others = ", ".join(name for name in examination_names() if name != check)
    return verify.replace("{", f"{{skip: [{others}], ", 1)


def everything(check: str, verify: str) -> str:
    """Return a `verify` with every examination."""
    return verify


# slow: other examinations find nothing before the failure, and nothing in a sound swap
EXAMINED = pytest.mark.parametrize(
    "examined", [only, pytest.param(everything, marks=pytest.mark.slow)]
)


def built(row: Row) -> nn.Module:
    torch.manual_seed(0)
    return row.build().eval()


@pytest.mark.one_in(8)
@EXAMINED
@TABLE
def test_failure_is_found_by_its_name_and_place(
    row: Row, examined: Callable[[str, str], str], check: Checking
) -> None:
    ran = check(built(row), row.bad, row.inputs, examined(row.check, row.verify), *row.args)

    error = ran.data["error"]
    assert (ran.code, error["check"], error["where"]) == (1, row.check, row.path)
    assert re.search(row.reason, error["what"]), error["what"]
    assert error["fix"]


@pytest.mark.one_in(8)
@EXAMINED
@TABLE
def test_sound_swap_on_the_same_model_holds(
    row: Row, examined: Callable[[str, str], str], check: Checking
) -> None:
    ran = check(built(row), row.sound, row.inputs, examined(row.check, row.more), *row.args)

    assert (ran.code, ran.data["error"], ran.data["ok"]) == (0, None, True)
    assert ran.noted == []


def test_a_tensor_where_a_pair_was_unpacked_is_not_found_at_a_batch_of_two() -> None:
    model = PairNet()
    model.attn = Bare()  # type: ignore[assignment] # that is what goes wrong

    assert model(torch.randn(2, 5, 16)).shape == (2, 5, 16)
    for batch in (1, 3):
        with pytest.raises(ValueError, match="values to unpack"):
            model(torch.randn(batch, 5, 16))


# -- notes of checks that hold


def test_host_that_would_lose_the_swap_is_reported_with_lines_that_keep_it(check: Checking) -> None:
    rule = f"{GATE}, with: SEBlock"

    survival = only("survival", "{}")

    told = check(Pretrained().eval(), rule, MAP, survival)
    plain = check(GatedNet().eval(), rule, MAP, survival)

    (found,) = [one for one in told.data["verify"]["checks"] if one["check"] == "survival"]
    assert (told.code, found["status"]) == (0, "passed")
    assert "`Pretrained.from_pretrained` builds the model" in found["what"]
    assert [one for one in plain.data["verify"]["checks"] if one["check"] == "survival"] == []
    assert run(["replace", "net.pt", "-c", "swap.yaml", "-o", "out.pt", "-q"]) == 0
    names: dict[str, Any] = {}
    exec(found["fix"], names)
    assert type(names["model"].space_attention).__name__ == "SEBlock"
    assert type(Pretrained.from_pretrained("out.pt").space_attention) is nn.Sequential


def test_memory_format_that_is_lost_is_reported_and_no_failure(check: Checking) -> None:
    ran = check(
        GatedNet().eval(),
        f"'match': '*_attention', {ours('Contiguous')}",
        MAP,
        only("matrix", "{}"),
    )

    (noted,) = ran.noted
    assert (ran.code, noted[:2]) == (0, ("matrix", "channel_attention"))
    assert noted[2].startswith("channels_last is lost: its output has another memory format")


def test_memory_format_that_the_original_loses_is_not_reported(check: Checking) -> None:
    model = GatedNet().eval()
    model.space_attention = Contiguous(16)  # type: ignore[assignment] # a gate as well

    assert check(model, f"{GATE}, {ours('Contiguous')}", MAP, only("matrix", "{}")).noted == []


@pytest.mark.parametrize("path", ["by_place", "by_name"])
def test_input_that_is_not_passed_on_is_reported_once(path: str, check: Checking) -> None:
    model = OptionalMask().eval()

    told = check(model, f"match: {path}, with: SelfAttention", WORDS, only("reached", "{}"))
    plain = check(model, f"match: {path}, {ours('Attention')}", WORDS, only("reached", "{}"))

    notes = [
        [one for site in ran.data["sites"] for one in site["notes"] if "passed on" in one]
        for ran in (told, plain)
    ]
    assert notes == [["mask is not passed on: a call that sets it is refused"], []]
    assert (told.code, plain.code) == (0, 0)


def test_sizes_and_requests_that_are_not_passed_on_are_not_reported(check: Checking) -> None:
    ran = check(Sized().eval(), "match: attn, with: SelfAttention", WORDS, only("reached", "{}"))

    assert (ran.code, ran.noted) == (0, [])
    assert not any("not passed on" in one for one in ran.data["sites"][0]["notes"])


# -- state that a check does not change


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("module", "code"), [("SEBlock", 0), ("tests.failing_models:DropsAlways", 1)]
)
def test_check_changes_no_state_of_the_model_and_of_the_process(
    module: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = KEPT["model"] = Restless()
    model.stem.eval()
    model.head.register_forward_hook(lambda *_: None)
    torch.save(model.state_dict(), "net.pth")
    Path("swap.yaml").write_text(
        f"version: 1\ninputs: {MAP}\nreplace: [{{{GATE}, with: '{module}'}}]\n"
    )
    before = state_of(model, "space_attention")
    drawn = torch.get_rng_state(), random.getstate()

    ended = run(
        ["check", "net.pth", "-c", "swap.yaml", "--model", "tests.failing_models:kept_model", "-q"]
    )

    assert ended == code
    assert state_of(model, "space_attention") == before
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert random.getstate() == drawn[1]
