"""Outcomes made by hand, for reports."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from modswap.core.decided.blueprint import Choice
from modswap.core.decided.cost import PassCost, cost_finding
from modswap.core.decided.verdict import CaseKey, CaseVerdict, Verdict
from modswap.core.errors import MatchError, RecipeError, ShapeError, UnsafeError, together
from modswap.core.finding import Finding
from modswap.core.healed.agreement import Agreement, Control
from modswap.core.healed.healing import Healing, Measured, SiteHealing, StageResult
from modswap.core.kept.outcome import Amount, Ledger, Outcome, SiteOutcome, Written
from modswap.core.seen.site import Call
from modswap.core.seen.values import NONE, Group, TensorInfo
from modswap.ops.examine.table import EXAMINATIONS

MAP = TensorInfo((1, 512, 14, 14))
IMAGE = CaseKey("(1, 3, 224, 224)")
LOGITS = TensorInfo((1, 2, 224, 224))
CHOICES = (
    Choice("dim", 512, "512 channels observed"),
    Choice("layout", "NCHW", "the same tensor goes through 'space_attention.0' (Conv2d)"),
)


def finding(check: str, *rest: Any, **named: Any) -> Finding:
    """Return a finding with the sentence of its examination, as the bench adds it."""
    about = next(row.about for row in EXAMINATIONS if row.name == check)
    return replace(Finding(check, *rest, **named), about=about)


FEW_FINDINGS: tuple[Finding, ...] = (
    finding("matrix", "", "passed", "7 further cases hold", data={"cases": ["(2, 3, 224, 224)"]}),
    finding("matrix", "", "skipped", "the original itself does not run in 1 cases: float16"),
    finding("reached", "space_attention", "passed", data={"before": 1, "after": 1}),
    finding("reached", "channel_attention", "passed", "it runs now"),
)


def site(path: str) -> SiteOutcome:
    return SiteOutcome(
        path=path,
        aliases=(),
        rule="configs/unetpp_bra.yaml:11:5",
        old_class="torch.nn.modules.container.Sequential",
        old_params=2_360_832,
        new_class="modswap.nn.bilevel_routing_attention.BiLevelRoutingAttention",
        new_params=1_055_744,
        args={"dim": 512, "n_win": 7},
        calls=(Call((MAP,), (), MAP),),
        layout="NCHW",
        choices=CHOICES,
    )


DONE = Outcome(
    command="replace",
    checkpoint="unetpp.pt",
    recipe="configs/unetpp_bra.yaml",
    sites=(site("channel_attention"), site("space_attention")),
    verdict=Verdict((CaseVerdict(IMAGE, LOGITS, LOGITS),), finite=True),
    ledger=Ledger(
        kept=Amount(182, 31_457_280),
        fresh=Amount(12, 8_445_952),
        dropped=Amount(14, 18_890_768),
        proved=True,
    ),
    params_before=9_163_000,
    params_after=6_552_824,
    written=Written(Path("out.pt"), 39_000_000, "5f" * 32, "torch"),
)

CHECKED = replace(
    DONE,
    command="check",
    verdict=Verdict((CaseVerdict(IMAGE, LOGITS, LOGITS),), finite=None, findings=FEW_FINDINGS),
    ledger=replace(DONE.ledger, proved=False) if DONE.ledger else None,
    written=None,
)

SMALLER = TensorInfo((1, 512, 7, 7))
PROBLEMS = (
    Finding(
        "pass",
        "head",
        "failed",
        "output was (1, 2, 224, 224), is now (1, 2, 112, 112)",
        "set `adapt: true`",
    ),
    Finding("pass", "", "failed", "output was (1, 2, 224, 224), is now (1, 2, 112, 112)"),
)
FAILED = replace(
    DONE,
    verdict=Verdict(
        (CaseVerdict(IMAGE, LOGITS, TensorInfo((1, 2, 112, 112)), PROBLEMS),), finite=True
    ),
    ledger=None,
    written=None,
    error=together([ShapeError.of(problem) for problem in PROBLEMS]),
)

ODD = replace(
    DONE,
    checkpoint="a/very/long/folder/name/of/a/checkpoint.safetensors",
    sites=(
        replace(
            site("backbone.stages.3.blocks.11.token_mixer.attention.self"),
            aliases=("teacher.stages.3.blocks.11.token_mixer.attention.self",),
            shared_with=("backbone.stages.2.attention",),
            calls=tuple(
                Call(
                    (TensorInfo((1, n, 64), "bfloat16"),),
                    (("mask", NONE),),
                    Group("tuple", ("0", "1"), (TensorInfo((1, n, 64), "bfloat16"), NONE)),
                )
                for n in (49, 98, 147, 196)
            ),
            layout=None,
            choices=(),
            notes=("frozen, as the old module's parameters were",),
        ),
    ),
    verdict=Verdict(
        (
            CaseVerdict(IMAGE, LOGITS, LOGITS),
            CaseVerdict(CaseKey("(1, 3, 64, 64)", "train", "bfloat16"), LOGITS, None, PROBLEMS[:1]),
        ),
        finite=True,
    ),
    ledger=replace(DONE.ledger, mapped=Amount(3, 900)) if DONE.ledger else None,
    params_before=0,
    notes=("loaded by torch's full unpickler (--trust)",),
    seconds=3.21,
)

DRY = replace(DONE, written=None)
EARLY = Outcome("replace", "net.pt", "swap.yaml", error=ShapeError("what", "gate", "fix"))

FINDINGS: tuple[Finding, ...] = (
    finding("reached", "channel_attention", "passed"),
    finding("reached", "space_attention", "passed"),
    finding("gradients", "channel_attention", "passed"),
    Finding(
        "gradients",
        "space_attention",
        "failed",
        "12 of 12 parameters had gradients, now 11 of 12 have",
        "set `topk` above 0 in its args",
    ),
    finding("finite", "channel_attention", "skipped", "weights were not read"),
    finding("finite", "space_attention", "skipped", "weights were not read"),
    finding("cost", "", "passed", "1.2 → 0.9 GFLOPs of one pass", data={"flops": 900_000_000}),
    finding("matrix", "", "passed"),
    finding("matrix", "", "passed"),
)
EXAMINED = replace(
    CHECKED,
    sites=(
        site("channel_attention"),
        replace(site("space_attention"), rule="configs/unetpp_bra.yaml:15:5"),
    ),
    verdict=Verdict((CaseVerdict(IMAGE, LOGITS, LOGITS),), finite=None, findings=FINDINGS),
    ledger=None,
    error=ShapeError.of(FINDINGS[3]),
    seconds=1.5,
)
HELD = replace(
    CHECKED,
    verdict=Verdict(
        (CaseVerdict(IMAGE, LOGITS, LOGITS),),
        finite=None,
        findings=tuple(one for one in FINDINGS if one.status != "failed"),
    ),
)


def passes(count: int) -> tuple[CaseVerdict, ...]:
    shapes = [TensorInfo((1 + n % 3, 2, 32 * (1 + n), 64)) for n in range(count)]
    modes = ("eval", "train")
    return tuple(
        CaseVerdict(CaseKey(f"({s.shape[0]}, 3, {s.shape[2]}, 64)", modes[n % 2]), s, s)
        for n, s in enumerate(shapes)
    )


PAIR = Group("tuple", ("0", "1"), (LOGITS, NONE))
MANY = replace(
    CHECKED,
    verdict=Verdict((*passes(30), CaseVerdict(CaseKey("(1, 3, 8, 8)"), PAIR, PAIR)), finite=None),
)
MISMATCHED = replace(
    EARLY,
    checkpoint="net.pt",
    error=together(
        [
            MatchError("no module matches 'blocks.*.atn'", "swap.yaml:4:5", "run `modswap tree`"),
            RecipeError("'nwin' is no argument of ECA", "swap.yaml:9:12", "use n_win"),
        ]
    ),
)
REFUSED = Outcome("check", "net.pt", "-", error=UnsafeError("os.system may run", "net.pt", "no"))

# names and sentences that the checkpoint or recipe of another person may contain
WILD = (
    "a]]><b>&\"'%0A%\n::error file=x::y\r\n##[set-env name=z]|`c`[l](http://www.x)"
    "{0}\x00\x1b[31m\x1b]0;t\x07\ud800\uffff\u202e\u2028@team\t<script>*_~$x$ \\"
)
WILD_FINDING = finding("gradients", WILD, "failed", WILD, WILD)
NASTY = replace(
    EXAMINED,
    checkpoint=WILD,
    recipe=WILD,
    sites=(replace(site(WILD), rule=f"{WILD}:7:5", new_class=WILD),),
    verdict=Verdict(
        (CaseVerdict(CaseKey(WILD), LOGITS, None, (Finding("pass", WILD, "failed", WILD, WILD),)),),
        finite=None,
        findings=(
            WILD_FINDING,
            finding("finite", WILD, "skipped", WILD),
            finding("cost", WILD, "passed", WILD),
        ),
    ),
    error=together([ShapeError.of(WILD_FINDING), UnsafeError(f"stop {WILD}", WILD, WILD)]),
)


def beside(path: str, place: str) -> SiteOutcome:
    """Return a site beside which a module was put in."""
    new = f"{path}.bi_level_routing_attention"
    names = (f"{new}.gate", f"{new}.module.wo.weight")
    return replace(site(path), place=place, new_path=new, parameters=names, start="preserve")


PLACES = ("after", "before", "around", "instead", "after")
BESIDE = replace(DONE, sites=tuple(beside(f"stages.{n}", place) for n, place in enumerate(PLACES)))

BEFORE_COST = PassCost(9_163_000, 868_000_000, 48_970_000, 15_600_000, 56_600_000)
AFTER_COST = PassCost(6_552_824, 854_000_000, 49_390_000, 15_500_000, 56_900_000)
COSTS = (
    replace(cost_finding("", BEFORE_COST, AFTER_COST), about="costs"),
    finding("drift", "", "passed", "outputs moved", data={"relative": 1.34e-05, "rows": 0}),
)
MEASURED = replace(
    DONE, verdict=Verdict((CaseVerdict(IMAGE, LOGITS, LOGITS),), finite=True, findings=COSTS)
)


def layer(path: str, number: int, channels: int) -> SiteOutcome:
    """Return a site of a large model."""
    tokens = TensorInfo((1, 196, channels))
    return replace(
        site(f"encoder.layers.{number}.{path}"),
        old_class="transformers.models.vit.modeling_vit.ViTSelfAttention",
        new_class="modswap.nn.self_attention.SelfAttention",
        calls=(Call((tokens,), (), tokens),),
        layout="NLC",
        choices=(),
        notes=("frozen, as the old module's parameters were",) if number > 5 else (),
    )


def _crowd() -> Outcome:
    """Return a swap of many sites that fails in several ways."""
    sites = (
        *(layer("attention", number, 768) for number in range(48)),
        *(layer(f"side{number % 5}", number, 32 * (1 + number)) for number in range(30)),
    )
    failures = tuple(
        finding(
            "gradients", one.path, "failed", "12 parameters had gradients, now 11", "set `topk`"
        )
        for one in sites[:12]
    )
    others = (
        finding("copies", sites[3].path, "failed", "copy.deepcopy raised TypeError: no copy of it"),
        finding("survival", "", "passed", "`train()` loses it", "import modswap\nmodel = 1"),
        finding("matrix", sites[0].path, "passed", "channels_last is lost", "use `contiguous`"),
        *(finding(n, "", "skipped", "it takes 4e+08 multiplications") for n in ("finite", "sizes")),
    )
    errors = [ShapeError.of(one) for one in (*failures, *PROBLEMS, others[0])]
    case = CaseVerdict(IMAGE, LOGITS, TensorInfo((1, 2, 112, 112)), PROBLEMS)
    return replace(
        DONE,
        sites=sites,
        verdict=Verdict((case,), finite=None, findings=(*COSTS, *failures, *others)),
        ledger=None,
        written=None,
        notes=("an input was found: 1,3,224,224, as `pretrained_cfg` of the file says",),
        error=together(errors),
    )


CROWDED = _crowd()
LONG = replace(
    DONE,
    sites=tuple(
        replace(
            site(f"model.{'backbone.' * 8}stages.{n}.token_mixer_of_the_{n}th_block.attention"),
            new_class=f"mynets.AttentionWithAVeryLongNameThatNobodyWouldTypeTwice{n}",
        )
        for n in range(2)
    ),
)

AGREED_BEFORE = Agreement("top-1", 0.1, 0.2, 3.5, 100)
AGREED_AFTER = Agreement("top-1", 0.99, 1.0, 0.02, 100)
HEALING = Healing(
    samples="500 pictures of photos/, 32x32",
    learned=400,
    held=100,
    before=AGREED_BEFORE,
    after=AGREED_AFTER,
    goal=0.99,
    stages=(
        StageResult("inherit", AGREED_BEFORE, 0.1, kept=False),
        StageResult("closed", AGREED_AFTER, 1.5, note="1 of 1 modules fitted"),
        StageResult("norms", AGREED_BEFORE, 0.4, kept=False, note="the statistics of 1 batch norm"),
    ),
    sites=(SiteHealing("conv", 2.5, 0.05, 0.02, ("it holds",)),),
    controls=(Control("dropped", replace(AGREED_BEFORE, confident=None)),),
    notes=("one picture was broken",),
    measured=(Measured("accuracy on labels", 0.9, 0.1, 0.89),),
)
HEALED = replace(DONE, command="heal", healing=HEALING)
