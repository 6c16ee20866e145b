"""Whether `modswap sweep` ranks sites as healing them does, and in which share of the time.

    python -m benchmarks.sweep [digits] [scenes] [usual] [docs]

`digits`: a residual classifier of scikit-learn's digits with ten 3x3 convolutions. `scenes`: the
UNet++ of `modswap demo`, ten of its 3x3 convolutions. At each site alone a new module is tried as
`modswap sweep` does, then healed by all stages, no goal. Spearman's rank correlation is that of
the error with the agreement on held-out samples (of equal ones, with its error), and for
comparison those of the errors at the block around the site and at the site itself. `usual`: the
share of the time at three sites of the digits, healed with as many steps as a user's are. Results
of the first two are kept in benchmarks/results/sweep.json; `docs` writes the tables and the plots
of docs/sweep.md from it.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import modswap
from benchmarks.heal import out
from benchmarks.heal_closed import samples
from modswap.core.asked.healing import HealingRequest
from modswap.core.swept.choice import Budgets, ChoiceRequest, choose
from modswap.core.swept.record import SweepResult
from modswap.ops.demo.data import make_scenes
from modswap.ops.heal.data.taker import Taker
from modswap.ops.rule_call import recipe_of_call
from modswap.ops.run.inputs import calls_of
from modswap.ops.sweep.bench import SweepWishes, bench_of
from modswap.ops.sweep.trial import heal_trial, run_trial
from modswap.report.swept.plot import sweep_svg
from modswap.seeds import seeded

RESULTS = Path(__file__).parent / "results" / "sweep.json"
SAMPLES, STEPS = 500, 100  # digits; steps of each fitted stage of a healing, a quarter of the usual
SCENES, SCENE_STEPS = 320, 25
UNETPP = Path("modswap-demo/unetpp.pt")
TEST = 599  # digits
SCENE_SITES = (
    *(f"encoder.{i}.3" for i in range(5)),
    *(f"nested.{name}.3" for name in ("x0_1", "x1_1", "x2_1", "x0_2", "x0_4")),
)


@dataclass(frozen=True, slots=True)
class Size:
    """The samples of a sweep, and the steps of each fitted stage of a healing."""

    samples: int = SAMPLES
    steps: int = STEPS


class Residual(nn.Module):
    """Two 3x3 convolutions with norms beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map of the shape of the input."""
        y = self.norm1(self.conv1(x)).relu()
        z: torch.Tensor = (x + self.norm2(self.conv2(y))).relu()
        return z


def residual_classifier(channels: int = 32) -> nn.Sequential:
    """Return a network of five residual blocks, trained on the digits that do not test."""
    known = samples(0, 8)
    with seeded(0):
        stem = (nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())
        first, second = ([Residual(channels) for _ in range(n)] for n in (2, 3))
        tail = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
        net = nn.Sequential(*stem, *first, nn.MaxPool2d(2), *second, *tail)
        optimizer = torch.optim.AdamW(net.parameters(), 4e-3)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=300)
        for _ in range(300):
            batch = known.batch(torch.randint(known.count - TEST, (64,)).tolist())
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(*batch.args), batch.labels).backward()
            optimizer.step()
            cycle.step()
        return net.eval()


def digits() -> dict[str, Any]:
    """Return the results for the classifier of digits."""
    net = residual_classifier()
    known = samples(0, 8).args[0]
    with torch.no_grad():
        test = samples(0, 8)
        right = (net(known[-TEST:]).argmax(1) == test.labels[-TEST:]).float().mean()  # type: ignore[index] # it has labels
    out(f"digits: a residual classifier, {float(right):.3f} right on {TEST} digits")
    return {
        name: ranked(net, known[:SAMPLES], (2, 1, 8, 8), "**.{conv1,conv2}", name)
        for name in ("BiLevelRoutingAttention", "ACmix")
    }


def usual() -> None:
    """Print the share of the time at three sites that are healed with the usual steps."""
    net, known = residual_classifier(), samples(0, 8).args[0]
    size = Size(steps=HealingRequest().fit_steps)
    for name in ("BiLevelRoutingAttention", "ACmix"):
        ranked(net, known[:SAMPLES], (2, 1, 8, 8), ["3.conv1", "6.conv2", "8.conv2"], name, size)


def scenes() -> dict[str, Any]:
    """Return the results for the UNet++ of the demo."""
    if not UNETPP.exists():
        raise SystemExit(f"{UNETPP} is missing: `modswap demo` makes it")
    net = modswap.load(UNETPP)
    learned, _ = make_scenes(SCENES, 1)
    name = "BiLevelRoutingAttention"
    size = Size(SCENES, SCENE_STEPS)
    return {name: ranked(net, learned.images, (2, 3, 32, 32), list(SCENE_SITES), name, size)}


def ranked(
    net: nn.Module,
    data: torch.Tensor,
    shape: Sequence[int],
    match: Any,
    module: str,
    size: Size = Size(),
) -> list[dict[str, Any]]:
    """Try and heal a module at every site; print and return the numbers of each."""
    args = {"n_win": 4, "auto_pad": True} if module == "BiLevelRoutingAttention" else {}
    recipe = recipe_of_call({"match": match, "with_": module, "args": args}, [shape])
    request = HealingRequest(samples=size.samples, steps=size.steps, until=1.0)
    bench = bench_of(Taker(net, calls_of(recipe.inputs)[0]), SweepWishes(recipe, [data], request))
    found = []
    out(f"{module:32} error   block   site    agreement  error   s: trial  healing")
    for trial in bench.trials():
        result = run_trial(bench, trial)
        healed = heal_trial(bench, result)
        assert healed.healed is not None  # noqa: S101 - it was healed
        row = {
            "site": trial.site,
            "error": result.error,
            "at_block": result.at_block,
            "at_site": result.at_site,
            "how": result.how,
            "block": result.block,
            "metric": healed.healed.metric,
            "agreement": healed.healed.value,
            "healed_error": healed.healed.error,
            "seconds": result.seconds,
            "healing_seconds": healed.healing_seconds,
        }
        found.append(row)
        out(
            f"{trial.site:32} {result.error:.5f} {result.at_block:.4f} {result.at_site:.4f} "
            f"{healed.healed.value:8.4f} {healed.healed.error:9.5f} "
            f"{result.seconds:7.1f} {healed.healing_seconds:8.1f}"
        )
    out(f"{'':32} {said(found)}")
    return found


def said(found: Sequence[dict[str, Any]]) -> str:
    """Return the correlations, and the share of the time."""
    order = [(one["agreement"], -one["healed_error"]) for one in found]
    by_error, by_block, by_site = (
        spearman([-one[key] for one in found], order) for key in ("error", "at_block", "at_site")
    )
    share = sum(one["seconds"] for one in found) / sum(one["healing_seconds"] for one in found)
    return (
        f"Spearman {by_error:.2f} (by the error at the block {by_block:.2f}, at the site "
        f"{by_site:.2f}), "
        f"{100 * share:.1f} % of the time"
    )


def spearman(one: Sequence[Any], other: Sequence[Any]) -> float:
    """Return the correlation of the ranks of two orders; equal values share their mean rank."""
    first, second = (torch.tensor(ranks(values), dtype=torch.float64) for values in (one, other))
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])


def ranks(values: Sequence[Any]) -> list[float]:
    """Return the rank of each value."""
    return [
        sum(other < one for other in values) + (sum(other == one for other in values) - 1) / 2
        for one in values
    ]


def docs() -> None:
    """Write the table of docs/sweep.md, and the plot beside it."""
    table()
    Path("docs/sweep.svg").write_text(sweep_svg(drawn(), "flops"), encoding="utf-8")


def table() -> None:
    """Write the table of docs/sweep.md from the results that are kept."""
    page = Path("docs/sweep.md")
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    tail = rest.partition(END)[2]
    found = json.loads(RESULTS.read_text())
    heads = ("error", "at the block", "at the site", "agreement", "error then")
    lines = [f"| network, module, site | {' | '.join(heads)} |"]
    lines.append("| --- | --: | --: | --: | --: | --: |")
    for network, modules in found.items():
        for module, rows in modules.items():
            for row in sorted(rows, key=lambda one: one["error"]):
                errors = (row["error"], row["at_block"], row["at_site"])
                numbers = (*errors, row["agreement"], row["healed_error"])
                shown = " | ".join(
                    f"{value:.2g}" if value < 0.1 else f"{value:.4f}" for value in numbers
                )
                lines.append(f"| {network}, {module}, `{row['site']}` | {shown} |")
            lines.append(f"| **{network}, {module}**: {said(rows)} | | | | | |")
    page.write_text(f"{head}{BEGIN}\n{chr(10).join(lines)}\n{END}{tail}", encoding="utf-8")


def drawn() -> SweepResult:
    """Return a sweep of the classifier of digits by two modules, with the choice of three sites."""
    net = residual_classifier()
    args = {"n_win": 4, "auto_pad": True}
    rule = {"match": "**.{conv1,conv2}", "with_": "BRA", "args": args}
    recipe = recipe_of_call(rule, [(2, 1, 8, 8)])
    wishes = SweepWishes(
        recipe,
        [samples(0, 8).args[0][:SAMPLES]],
        HealingRequest(samples=SAMPLES),
        ("BRA", "ACmix"),
        {"topk": (1, 8)},
    )
    bench = bench_of(Taker(net, calls_of(recipe.inputs)[0]), wishes)
    results = tuple(run_trial(bench, trial) for trial in bench.trials())
    request = ChoiceRequest(3, budgets=Budgets(flops=11_000_000))
    choice = choose(bench.before, results, request)
    return SweepResult("", bench.before, results, len(results), choice=choice)


BEGIN, END = "<!-- written by python -m benchmarks.sweep docs -->", "<!-- end -->"
PARTS = {"digits": digits, "scenes": scenes}


def main() -> None:
    """Run the parts that are named, or all."""
    asked = sys.argv[1:] or list(PARTS)
    out(f"torch {torch.__version__}, threads: {torch.get_num_threads()}")
    if "docs" in asked:
        docs()
    for name in asked:
        if name == "docs":
            continue
        if name == "usual":
            usual()
            continue
        started = time.monotonic()
        found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        found[name] = PARTS[name]()
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        out(f"{name}: {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
