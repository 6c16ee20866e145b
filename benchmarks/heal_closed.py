"""What `modswap heal` regains on digits without labels, by stages, and the time of wide sites.

    python -m benchmarks.heal_closed [digits] [stages] [none] [wide] [scenes]

`digits`: a classifier of scikit-learn's digits whose 3x3 convolution on the main path becomes a
module of random weights; 500 digits without labels, three seeds; agreement with the original on
digits that nothing learned from, after the closed form; `stages`: after all of them. `none`: the
same as `digits` at 32x32 with drawn samples, nothing told of the data. `wide`: seconds and peak
memory of the closed form of a 3x3 convolution by its channels.
`scenes`: a 3x3 convolution in the encoder of the demo's UNet++, which `modswap demo` writes to
modswap-demo/unetpp.pt, becomes BiLevelRoutingAttention; Dice on the labels of 400 scenes that
nothing learned from, after a healing without labels.
"""

import copy
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

import modswap
from benchmarks.heal import ROWS, TEST, classifier, out
from modswap.core.kept.outcome import Outcome
from modswap.nn import ACmix, BiLevelRoutingAttention
from modswap.nn.linear_forms import form_of
from modswap.nn.linear_forms.form import solve
from modswap.nn.linear_forms.moments import Moments
from modswap.ops.demo.data import CLASSES, Scenes, make_scenes
from modswap.ops.demo.run import TRAIN
from modswap.ops.heal.samples import HeldSamples

LEARNED = 500
WIDE = (128, 256, 512, 1024)


def samples(seed: int, side: int) -> HeldSamples:
    """Return the digits in the order of a seed, (N, 1, side, side)."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16
    if side != pictures.shape[-1]:
        pictures = nn.functional.interpolate(pictures, (side, side), mode="bilinear")
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))
    return HeldSamples((pictures[order],), labels=torch.tensor(found.target)[order])


def run(seed: int, side: int, data: object, wishes: Sequence[dict[str, object]]) -> None:
    """Print agreement on test digits after a healing with each of some wishes, for both rows."""
    known = samples(seed, side)
    net = classifier(known, seed)
    test = known.args[0][-TEST:]
    for name, build in ROWS.items():
        for wish in wishes:
            torch.manual_seed(seed)
            model = copy.deepcopy(net)
            model[1][0] = build().eval()  # type: ignore[index] # a stage
            swapped = agreed(net, model, test)
            started = time.process_time()
            given = [known.args[0][:LEARNED]] if data is None else data
            inputs = [(1, 1, side, side)]
            outcome = modswap.heal(model, against=net, data=given, inputs=inputs, **wish)
            seconds = time.process_time() - started
            told = " ".join(f"{key}={value}" for key, value in wish.items()) or "default"
            values = f"{swapped:8.3f} {agreed(net, model, test):8.3f} {share(outcome):8.3f}"
            out(f"{f'{name}, seed {seed}, {told}':52}{values} {seconds:6.1f} s of processor")


def agreed(net: nn.Module, model: nn.Module, x: torch.Tensor) -> float:
    """Return the share of inputs that both put into one class."""
    with torch.no_grad():
        return float((net(x).argmax(1) == model(x).argmax(1)).float().mean())


def share(outcome: Outcome) -> float:
    """Return the share of the site's variance that is the new module's own."""
    assert outcome.healing is not None  # noqa: S101 - it was healed
    return outcome.healing.sites[0].share or 0.0


def digits() -> None:
    """Print what real digits regain."""
    out(f"{'500 digits without labels':52} swapped   healed    share")
    closed: dict[str, object] = {"stages": ("closed",)}
    for seed in range(3):
        run(seed, 8, None, [closed, {**closed, "damp": 3.0}])


def stages() -> None:
    """Print what real digits regain by all stages."""
    out(f"{'500 digits without labels':52} swapped   healed    share")
    for seed in range(3):
        run(seed, 8, None, [{}])


def none() -> None:
    """Print what drawn samples regain."""
    out(f"{'no data, 32x32':52} swapped   healed    share")
    for seed in range(3):
        run(seed, 32, "none", [{"stages": ("closed",)}])


def wide() -> None:
    """Print seconds and memory of the closed form by the channels of the site."""
    out(f"{'closed form of a 3x3 convolution':36} moments    solved   memory")
    for channels in WIDE:
        for module in (
            BiLevelRoutingAttention(channels, n_win=7, layout="NCHW"),
            ACmix(channels, channels),
        ):
            wide_one(module.eval(), channels)


@torch.no_grad()
def wide_one(module: nn.Module, channels: int) -> None:
    """Print the numbers of one module."""
    conv = nn.Conv2d(channels, channels, 3, padding=1)
    form = form_of(module)
    assert form is not None  # noqa: S101 - both rows have one
    x = torch.randn(32, channels, 14, 14)
    started = time.monotonic()
    moments = Moments(channels, channels, form.taps, form.centre)
    for some in x.split(8):
        moments.add(some, conv(some), form.seen)
    between = time.monotonic()
    with torch.enable_grad():
        solution = solve(form, moments.fitting(biased=form.biased))
    form.put(solution.parts, solution.bias)
    seconds = between - started, time.monotonic() - between
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    name = f"{type(module).__name__}, {channels} channels"
    out(f"{name:36} {seconds[0]:5.1f} s  {seconds[1]:6.1f} s  {peak:4.1f} GiB so far")


UNETPP, SCENES = Path("modswap-demo/unetpp.pt"), 400
SCENE_SITES = ("encoder.3.3", "encoder.2.3", "encoder.1.3", "encoder.0.3")


def scenes() -> None:
    """Print what convolutions in the encoder of the demo's UNet++ regain, one at a time."""
    net = modswap.load(UNETPP).eval()
    learned, unseen = make_scenes(TRAIN, SCENES)
    out(f"UNet++: {SCENES} scenes without labels, Dice on the labels of {SCENES} others")
    out(f"{'the original':36} {dice(net, unseen):8.4f}")
    out(f"{'':36}  swapped   healed    share")
    for name, wish in (("closed", {"stages": ("closed",)}), ("all stages", {"until": 1.0})):
        for site in SCENE_SITES:
            model, inputs = copy.deepcopy(net), [(2, 3, 32, 32)]
            torch.manual_seed(0)
            args = {"n_win": 4, "auto_pad": True}
            row = "BiLevelRoutingAttention"
            modswap.replace(model, match=site, with_=row, args=args, inputs=inputs)
            swapped, started = dice(model, unseen), time.process_time()
            given = [learned.images[:SCENES]]
            done = modswap.heal(model, against=net, data=given, inputs=inputs, **wish)
            seconds = time.process_time() - started
            values = f"{swapped:8.4f} {dice(model, unseen):8.4f} {share(done):8.3f}"
            out(f"{f'{site}, {name}':36} {values} {seconds:6.0f} s of processor")


@torch.no_grad()
def dice(net: nn.Module, given: Scenes) -> float:
    """Return the mean Dice of the digits' classes in the maps of scenes."""
    found = torch.cat([net(images).argmax(1) for images in given.images.split(50)])
    scores = []
    for each in range(1, CLASSES):
        own, wanted = found == each, given.labels == each
        scores.append(2 * int((own & wanted).sum()) / max(int(own.sum() + wanted.sum()), 1))
    return sum(scores) / len(scores)


PARTS = {"digits": digits, "stages": stages, "none": none, "wide": wide, "scenes": scenes}


if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
