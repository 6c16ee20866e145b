"""Refused calls of the command, made of a model and a recipe or options."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from tests.fixes import nets
from tests.fixes.calls import Call
from tests.fixes.files import FILES
from tests.models import (
    KeywordGate,
    ManyCalls,
    PairNet,
    SharedNet,
    Strided,
    Tied,
    TokenNet,
    build_gated,
)
from tests.recipes import UNEXAMINED

ALLOW = ("--allow", "tests.*")
GATED, TOKENS, CLASS_TOKEN = "gated", "tokens", "class token"
MODELS: dict[str, Callable[[], Any]] = {
    GATED: build_gated,
    TOKENS: TokenNet,
    CLASS_TOKEN: lambda: TokenNet(class_token=True),
    "strided": Strided,
    "many calls": ManyCalls,
    "shared": SharedNet,
    "pair": PairNet,
    "tied": Tied,
    "keyword": KeywordGate,
    "encoder": nets.Encoder,
    "decoder": nets.Decoder,
    "signal": nets.Signal,
    "sentence": nets.Sentence,
    "last": nets.ChannelsLast,
    "towers": nets.Towers,
    "volume": nets.Volume,
    "square": nets.Square,
    "masked": nets.Masked,
    **FILES,
}
INPUTS = {
    GATED: "1,3,28,28",
    TOKENS: "2,3,16,16",
    CLASS_TOKEN: "2,3,56,56",
    "strided": "1,8,28,28",
    "many calls": "1,4,8,8",
    "shared": "1,8,8,8",
    "pair": "2,9,16",
    "tied": "2,5:int64",
    "keyword": "1,4,8,8",
    "encoder": "2,9,16",
    "decoder": "2,9,16",
    "signal": "2,4,20",
    "sentence": "2,16:int64",
    "last": "1,3,16,24",
    "towers": "1,3,16,16",
    "volume": "1,3,4,8,8",
    "square": "1,8,8,8",
    "masked": "2,9,16",
}


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that is refused.

    Args:
        name: The kind of fault.
        model: Key of `MODELS`.
        call: The call; its file is net.pt.
    """

    name: str
    model: str
    call: Call


def rule(name: str, model: str, text: str, more: str = "", *, examined: str = "") -> Refused:
    """Return the check of a recipe with one rule; `more` are further lines."""
    shape, _, dtype = INPUTS[model].partition(":")
    given: Any = {"shape": [int(size) for size in shape.split(",")]}
    given |= {"dtype": dtype, "fill": "zeros"} if dtype else {}
    recipe: Any = {"version": 1, "inputs": [given]}
    recipe |= yaml.safe_load(examined or UNEXAMINED)
    recipe["replace"] = [yaml.safe_load(f"{{{text}}}")]
    further = yaml.safe_load(more or "{}")
    if "insert" in further:
        del recipe["replace"]
    recipe |= further
    return Refused(name, model, Call(("check", "net.pt", "-c", "swap.yaml", *ALLOW), recipe))


def command(name: str, model: str, *args: str, recipe: str = "") -> Refused:
    """Return another call of the command; net.pt and --input are added."""
    given = yaml.safe_load(recipe) if recipe else None
    return Refused(name, model, Call((args[0], "net.pt", *args[1:]), given))


def one_rule(name: str, model: str, match: str, *args: str) -> Refused:
    """Return a check without a recipe."""
    shape = f"--input={INPUTS[model]}"
    return command(name, model, "check", shape, *ALLOW, "--match", match, "--with", *args)


SE, BRA, MHSA = "with: SEBlock", "with: BiLevelRoutingAttention", "with: MultiHeadSelfAttention"
BOTH = 'match: "{space,channel}_attention"'
WHOLE = "verify: {}"
