"""Calls of the command with wrong options."""

from collections.abc import Iterator

from tests.fixes.files import FILES
from tests.fixes.refused import ALLOW, CLASS_TOKEN, GATED, Refused, command, one_rule


def options() -> Iterator[Refused]:
    yield one_rule("option: pattern", GATED, "spase_attention", "SEBlock")
    yield one_rule("option: regular expression", GATED, "(space|channel)_attention", "SEBlock")
    yield one_rule("option: shape", "strided", "down", "SEBlock")
    yield one_rule(
        "option: heads", GATED, "*_attention", "BiLevelRoutingAttention", "--set", "num_heads=5"
    )
    yield one_rule(
        "option: argument", GATED, "*_attention", "BiLevelRoutingAttention", "--set", "num_head=4"
    )
    yield one_rule("option: tokens", CLASS_TOKEN, "blocks.*.attn", "BiLevelRoutingAttention")
    yield one_rule("option: layout", "encoder", "layers.*.linear1", "MultiHeadSelfAttention")
    yield one_rule("option: unknown layout", "square", "mix", "SEBlock")
    yield one_rule("option: square", "square", "mix", "tests.models:ChannelsLastMixer")
    yield one_rule("option: head", GATED, "head", "ConvGate", "--set", "out_channels=7")
    yield one_rule("option: never called", "many calls", "{unused,mix.conv}", "SEBlock")
    yield one_rule("option: expect", GATED, "*_attention", "SEBlock", "--expect", "3")
    yield one_rule("option: set", GATED, "*_attention", "SEBlock", "--set", "reduction")
    yield one_rule(
        "option: set twice",
        GATED,
        "*_attention",
        "SEBlock",
        "--set",
        "reduction=4",
        "--set",
        "reduction=2",
    )
    yield one_rule("option: start", GATED, "*_attention", "SEBlock", "--start", "inherited")
    yield one_rule("option: start donor", GATED, "*_attention", "SEBlock", "--start", "donor")
    yield one_rule(
        "option: preserve and a shape", "strided", "down", "SEBlock", "--start", "preserve"
    )
    whole = ("check", *ALLOW, "--match", "head", "--with", "SEBlock")
    yield command("input: no shape", GATED, *whole, "--input", "1x3x28x28")
    yield command("input: a word", GATED, *whole, "--input", "a,b")
    yield command("input: dtype", GATED, *whole, "--input", "1,3,28,28:float")
    yield command("input: channels", GATED, *whole, "--input", "1,4,28,28")
    yield command(
        "input: auto and a shape", GATED, *whole, "--input", "auto", "--input", "1,3,28,28"
    )
    yield command("input: two", GATED, *whole, "--input", "1,3,28,28", "--input", "1,3,28,28")
    yield command("no rule", GATED, "check", *ALLOW, "--input", "1,3,28,28")
    yield command("no with", GATED, "check", *ALLOW, "--match", "head")
    yield command("no match", GATED, "check", *ALLOW, "--with", "SEBlock")
    yield command("recipe and a rule", GATED, *whole, "-c", "swap.yaml", recipe="version: 1")
    yield command("no such recipe", GATED, "check", *ALLOW, "-c", "other.yaml")
    yield command("not allowed", GATED, "check", "--match", "head", "--with", "SEBlock")
    yield command(
        "wrongly allowed",
        GATED,
        "check",
        "--match",
        "head",
        "--with",
        "SEBlock",
        "--allow",
        "tests.models.Gated",
    )
    yield command(
        "allow: no name",
        GATED,
        "check",
        "--match",
        "head",
        "--with",
        "SEBlock",
        "--allow",
        "GatedNet",
    )
    yield command(
        "allow: everything", GATED, "check", "--match", "head", "--with", "SEBlock", "--allow", "*"
    )
    yield command(
        "alias",
        GATED,
        "check",
        "--match",
        "head",
        "--with",
        "SEBlock",
        "--alias",
        "tests.models.GatedNet",
    )
    yield command("command", GATED, "chekc")
    yield command("an option", GATED, *whole, "--inputs", "1,3,28,28")
    yield command("a format", GATED, *whole, "--format", "jsn")
    yield command("an exclusion", GATED, *whole, "--exclude", "haed")
    swap = ("replace", *ALLOW, "--input", "1,3,28,28", "--match", "head", "--with", "SEBlock")
    yield command("output: none", GATED, *swap)
    yield command("output: there", GATED, *swap, "-o", "there.pt")
    yield command("output: the input", GATED, *swap, "-o", "net.pt")
    yield command("output: a folder that is not there", GATED, *swap, "-o", "no/out.pt")
    yield command("output: no forward", GATED, *swap, "-o", "out.pt", "--no-forward")
    yield command("tree: input", GATED, "tree", "--input", "1,4,28,28", *ALLOW)
    yield command("tree: not allowed", GATED, "tree", "--input", "1,3,28,28")
    yield command("init: input", GATED, "init", "--input", "1,4,28,28", *ALLOW)
    yield command("init: not allowed", GATED, "init", "-o", "init.yaml")
    yield command("init: there", GATED, "init", "--input", "1,3,28,28", "-o", "there.pt", *ALLOW)
    yield command("revert: nothing", GATED, "revert", "-o", "out.pt", *ALLOW)
    yield command("finalize: nothing", GATED, "finalize", "-o", "out.pt", *ALLOW)
    yield command("code: nothing", GATED, "code", *ALLOW)
    yield command("explain: path", GATED, "explain")


def files() -> Iterator[Refused]:
    """Yield calls with files whose weights are not those of the model, or that hold none."""
    build = ("--model", "tests.models:build_gated")
    swap = ("--input", "1,3,28,28", "--match", "space_attention", "--with", "SEBlock")
    yield command("file: no factory", "weights", "check", *swap)
    yield command("file: no factory, replace", "weights", "replace", *swap, "-o", "out.pt")
    yield command("file: no factory, tree", "weights", "tree", "--input", "1,3,28,28")
    yield command("file: no factory, init", "weights", "init", "-o", "init.yaml")
    for name in FILES:
        if name != "weights":
            yield command(f"file: {name}", name, "check", *build, *swap)
    for model in (
        "tests.models:bild_gated", "tests.models.build_gated", "tests.model:build_gated",
        "nets.py:build", "tests.models:build_nothing", "tests.models:build_failing",
        "tests.models:build_gated(channel=16)", "tests.models:build_gated(channels=8)",
        "tests.models:build_gated(channels=x)", "build_gated", "tests.models:Strided",
    ):  # fmt: skip
        yield command(f"factory: {model}", "weights", "check", "--model", model, *swap)
    for option, value in (
        ("--rename", "head"),
        ("--device", "gpu"), ("--seed", "x"), ("--report", "no/page.html"), ("--jobs", "0"),
        ("--max-memory", "much"), ("--start", "donor:none.pt:head"),
    ):  # fmt: skip
        yield command(f"option: {option} {value}", "weights", "check", *build, *swap, option, value)
