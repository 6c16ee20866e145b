"""What is advised about inputs that a new module does not take."""

from dataclasses import replace

import pytest

from modswap.core.errors import ShapeError
from modswap.core.seen.values import Plain, Value
from modswap.nn.fit.further_inputs import CACHE, INSIDE, MASKED, OWN
from modswap.nn.fit.inputs import read_inputs
from tests.nn.sites import call, group, number, site, tensor

TOKENS = tensor(2, 9, 16)
RATE = Plain("float", "0.2")
MASK = f"hides tokens, which the new module would see: {OWN}, or {MASKED}"
PLACE = f"holds positions, which the new module would not know: {OWN}, or {INSIDE}"
NUMBER = f"is a number that the host sets, and training may need it: {OWN}, or {INSIDE}"
CONDITION = f"says what to compute, which the new module would not know: {OWN}, or {INSIDE}"
HOLDS = f"holds further tensors: {OWN}, or {INSIDE}"


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("attention_mask", tensor(2, 9), f"attention_mask {MASK}"),
        ("attn_mask", tensor(9, 9), f"attn_mask {MASK}"),
        ("src_key_padding_mask", tensor(2, 9, dtype="bool"), f"src_key_padding_mask {MASK}"),
        ("keymask", tensor(2, 9), f"keymask {MASK}"),
        ("x_mask", group(tensor(2, 9), tensor(2, 9)), f"x_mask {MASK}"),
        ("alibi", tensor(2, 4, 9, 9), f"alibi {MASK}"),
        ("visible", tensor(2, 9, dtype="bool"), f"visible {MASK}"),
        ("past", Plain("DynamicCache", "<cache>"), CACHE),
        ("drop_connect_rate", RATE, f"drop_connect_rate {NUMBER}"),
        ("stage", number(3), f"stage {NUMBER}"),
        ("pos_embed", tensor(1, 9, 16), f"pos_embed {PLACE}"),
        ("rotary_emb", group(tensor(9, 4), tensor(9, 4)), f"rotary_emb {PLACE}"),
        ("relPos", tensor(9, 4), f"relPos {PLACE}"),
        ("temb", tensor(2, 64), f"temb {CONDITION}"),
        ("encoder_hidden_states", tensor(2, 7, 16), f"encoder_hidden_states {CONDITION}"),
        ("features", group(tensor(2, 7), tensor(2, 4)), f"features {HOLDS}"),
        ("other", tensor(2, 5), f"{OWN}, or {INSIDE}"),
        ("kind", Plain("str", "'b'"), f"{OWN}, or {INSIDE}"),
    ],
)
def test_input_by_keyword_or_position_is_named_with_what_to_do(
    name: str, value: Value, fix: str
) -> None:
    by_name = site(call(TOKENS, **{name: value}), layout="NLC")
    by_position = replace(site(call(TOKENS, value), layout="NLC"), names=("x", name))

    with pytest.raises(ShapeError, match=f"it is also given '{name}', ") as first:
        read_inputs(by_name)
    with pytest.raises(ShapeError, match=rf"also given input 1 \('{name}'\), ") as second:
        read_inputs(by_position)

    assert first.value.fix == second.value.fix
    assert first.value.fix.startswith(fix)
    assert first.value.fix.endswith("and `exclude` leaves the site out")


def test_input_of_an_unknown_name_is_named_by_its_position() -> None:
    with pytest.raises(ShapeError, match="also given input 1, ") as masked:
        read_inputs(site(call(TOKENS, tensor(2, 9, dtype="bool")), layout="NLC"))
    with pytest.raises(ShapeError, match="also given input 1, ") as unknown:
        read_inputs(site(call(tensor(2, 16, 3, 3), tensor(3, 3))))

    assert masked.value.fix.startswith(f"input 1 {MASK}; `input: 0` in the rule uses that one")
    assert unknown.value.fix.startswith(f"{OWN}, or {INSIDE}; `input: 0` in the rule uses that")
