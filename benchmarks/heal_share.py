"""What a healing regains where attention has to keep a share of the output's variance.

    python -m benchmarks.heal_share [--steps 160] [--hold 0.05]

A depthwise convolution of EfficientNet-Lite0 becomes BiLevelRoutingAttention, which inherits it,
attention stronger or weaker beside it, and its last layer is refitted. Then a loop of this script
fits it, at its site alone or through the rest of the network: the error at the site, that of the
logits, and what attention's share of the variance is below `--hold`. The tool itself has no such
goal; the rows say what the share costs. Packages and photographs: benchmarks/heal_models.py.
"""

import argparse
import copy
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

import modswap
from benchmarks.heal_models import BRA, ONE, Bench, effnet, out
from modswap.ops.heal.closed.fit import inherit_map
from modswap.ops.heal.closed.last_layer import last_layer, refit
from modswap.ops.heal.passes import SiteCall
from modswap.ops.heal.sites import HealedSite

DAMPS = (1.0, 0.7)  # below 1 attention is made stronger
CROPS, BATCH, RATE = 256, 12, 3e-4
LOCAL = 0.3  # weight of the error at the site beside that of the logits
MARGIN = 1.15  # by which the share of a small batch is held above the goal
BLOCK = 7


class Known(NamedTuple):
    """Inputs and outputs of the old module for the crops, the block's inputs, and the logits."""

    x: torch.Tensor
    y: torch.Tensor
    shortcut: torch.Tensor
    logits: torch.Tensor


@torch.no_grad()
def known(net: nn.Module, crops: torch.Tensor) -> Known:
    """Return what the original gives at the site and at its end."""
    found: list[list[torch.Tensor]] = [[], [], []]
    block, site = net.get_submodule(f"_blocks.{BLOCK}"), net.get_submodule(ONE[0])

    def note(_: nn.Module, args: Any, output: torch.Tensor) -> None:
        found[0].append(args[0].clone())
        found[1].append(output.clone())

    handles = [
        site.register_forward_hook(note),
        block.register_forward_pre_hook(lambda _, args: found[2].append(args[0].clone())),
    ]
    logits = torch.cat([net(some) for some in crops.split(32)])
    for handle in handles:
        handle.remove()
    x, y, shortcut = (torch.cat(parts) for parts in found)
    return Known(x, y, shortcut, logits)


def rest(net: Any, y: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
    """Return the logits of the network from the output of the site on."""
    block = net._blocks[BLOCK]  # noqa: SLF001 - the class has no other way to it
    h = block._bn2(block._project_conv(block._swish(block._bn1(y)))) + shortcut  # noqa: SLF001
    for later in net._blocks[BLOCK + 1 :]:  # noqa: SLF001 - as above
        h = later(h)
    h = net._swish(net._bn1(net._conv_head(h)))  # noqa: SLF001 - as above
    logits: torch.Tensor = net._fc(net._avg_pooling(h).flatten(1))  # noqa: SLF001 - as above
    return logits


def spread(values: torch.Tensor) -> torch.Tensor:
    """Return the squares about the mean over the samples."""
    return (values - values.mean(0, keepdim=True)).square().sum()


def alone(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return what attention gives without the convolution beside it."""
    own = dict(module.named_parameters())
    without = {n: torch.zeros_like(p) if n.startswith("lepe") else p for n, p in own.items()}
    given: torch.Tensor = torch.func.functional_call(module, without, (x,))
    return given


def inherited(bench: Bench, had: Known, damp: float) -> tuple[nn.Module, nn.Module]:
    """Return a model whose new module inherits the old one, with its last layer refitted."""
    model = copy.deepcopy(bench.net)
    torch.manual_seed(0)
    modswap.replace(model, match=list(ONE), with_=BRA, inputs=bench.inputs)
    module = model.eval().get_submodule(ONE[0])
    site = HealedSite(ONE[0], ONE, bench.net.get_submodule(ONE[0]), module, module)
    with torch.no_grad():
        inherit_map(site, damp)
    pairs = zip(had.x.split(32), had.y.split(32), strict=True)
    calls = [SiteCall((x,), {}, y) for x, y in pairs]
    last = last_layer(module, calls[0])
    assert last is not None  # noqa: S101 - the row has one
    refit(module, last, calls)
    return model, module


def fit(
    model: nn.Module, module: nn.Module, had: Known, loss: Callable[..., torch.Tensor], steps: int
) -> None:
    """Fit a new module by a loss of its outputs."""
    model.requires_grad_(requires_grad=False)
    module.requires_grad_()
    optimizer = torch.optim.AdamW(module.parameters(), RATE, weight_decay=0.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.15)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(len(had.x), (BATCH,), generator=generator)
        optimizer.zero_grad()
        loss(Known(*(each[chosen] for each in had)), model, module).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        cycle.step()


class Trial:
    """The bench, what is known of the original, and the wishes."""

    def __init__(self, bench: Bench, hold: float) -> None:
        self.bench, self.hold = bench, hold
        self.had = known(bench.net, bench.learned[0][:CROPS])
        self.scales = [float(spread(e) / len(e)) for e in (self.had.y, self.had.logits)]

    @torch.no_grad()
    def report(self, name: str, model: nn.Module, module: nn.Module, started: float) -> None:
        """Print a row."""
        x, y = self.had[:2]
        given = torch.cat([module(some) for some in x.split(32)])
        own = torch.cat([alone(module, some) for some in x.split(32)])
        error, share = float((given - y).square().sum() / spread(y)), spread(own) / spread(given)
        seconds = time.process_time() - started
        scores = self.bench.scores(model).text()
        out(f"{name:44} {error:.4f} {float(share):.4f}  {scores} {seconds:6.0f} s of processor")

    def loss(self, model: nn.Module, module: nn.Module, some: Known, end: str) -> Any:
        """Return the error at an end, and what attention's share lacks."""
        given, own = module(some.x), alone(module, some.x)
        local = (given - some.y).square().sum() / BATCH / self.scales[0]
        share = spread(own) / spread(given)
        short = torch.relu(MARGIN * self.hold - share) / self.hold
        if end == "site":
            return local + short
        apart = (rest(model, given, some.shortcut) - some.logits).square().sum()
        return apart / BATCH / self.scales[1] + LOCAL * local + short


def main() -> None:
    """Print a row for each start, and for what the fits make of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--hold", type=float, default=0.05)
    parser.add_argument("--ends", nargs="*", default=["network", "site"])
    told = parser.parse_args()
    bench = effnet()
    if bench is None:
        return
    trial = Trial(bench, told.hold)
    out(f"{'':44} error  share   agreement, all / confident half")
    for damp in DAMPS:
        started = time.process_time()
        model, module = inherited(bench, trial.had, damp)
        trial.report(f"inherited, damp {damp}, last layer refitted", model, module, started)
    for end in told.ends:
        started = time.process_time()
        model, module = inherited(bench, trial.had, DAMPS[0])

        def loss(some: Known, *by: Any, end: str = end) -> torch.Tensor:
            return trial.loss(by[0], by[1], some, end)

        fit(model, module, trial.had, loss, told.steps)
        trial.report(f"then {told.steps} steps by the {end}, share held", model, module, started)


if __name__ == "__main__":
    main()
