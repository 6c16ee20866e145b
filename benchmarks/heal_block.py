"""What the last block of EfficientNet-Lite0 regains as BiLevelRoutingAttention, fitted at its site.

    python -m benchmarks.heal_block [--steps 1500]

The block (`_blocks.15`, 192 to 320 channels at 7x7, no shortcut) expands, convolves and projects,
with norms and activations between. A loop of this script fits the new module, from random weights,
to what the block gives for 512 crops, which are kept: many more steps than `modswap heal` takes,
for the curve by step. Packages and photographs: benchmarks/heal_models.py.
"""

import argparse
import copy
import time

import torch
from torch import nn

import modswap
from benchmarks.heal_models import ADAPT, BRA, effnet, out

SITE, BATCH, RATE, SHOWN = "_blocks.15", 32, 4e-3, 500


@torch.no_grad()
def pairs(net: nn.Module, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the block gets and gives for crops."""
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    handle = net.get_submodule(SITE).register_forward_hook(
        lambda _, args, output: found.append((args[0].clone(), output.clone()))
    )
    for some in crops.split(32):
        net(some)
    handle.remove()
    return torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])


def main() -> None:
    """Print error and agreement by the steps of the fit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1500)
    steps = parser.parse_args().steps
    bench = effnet()
    if bench is None:
        return
    x, y = pairs(bench.net, bench.learned[0])
    model = copy.deepcopy(bench.net)
    torch.manual_seed(0)
    modswap.replace(model, match=SITE, with_=BRA, inputs=bench.inputs, **ADAPT)
    module = model.get_submodule(SITE)
    optimizer = torch.optim.AdamW(module.parameters(), RATE, weight_decay=0.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.15)
    generator, started = torch.Generator().manual_seed(0), time.process_time()
    variance = (y - y.mean((0, 2, 3), keepdim=True)).square().mean()
    out("steps   error of a batch   agreement, all / confident half")
    for step in range(1, steps + 1):
        chosen = torch.randint(len(x), (BATCH,), generator=generator)
        loss = (module.train()(x[chosen]) - y[chosen]).square().mean() / variance
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        cycle.step()
        if step % SHOWN == 0:
            seconds = time.process_time() - started
            scores = bench.scores(model.eval()).text()
            out(f"{step:5} {float(loss.detach()):18.3f}   {scores} {seconds:6.0f} s of processor")


if __name__ == "__main__":
    main()
