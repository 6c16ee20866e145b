"""Time BiLevelRoutingAttention against another implementation, and against its matrix products.

    python benchmarks/bilevel_routing_attention.py [--published FILE] [--rounds N] [--threads N]

FILE holds the published class `BiLevelRoutingAttention` (it needs `einops`); without it the plain
reference of the tests is compared, which follows the published order of operations. A run times
both by turns and prints medians as ratios: other / modswap, and modswap / the matrix products
alone. Memory is the largest growth of a process, measured in a separate process for each.
"""

import argparse
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table."""

    dim: int
    side: int
    batch: int
    n_win: int = 7
    topk: int = 4

    def __str__(self) -> str:
        size = f"{self.dim} at {self.side}x{self.side}, batch {self.batch}"
        return f"{size}, n_win {self.n_win}, topk {self.topk}"

    @property
    def options(self) -> dict[str, int]:
        """Return what both classes are made with."""
        heads = max(1, self.dim // (64 if self.dim == 512 else 32))
        return {"num_heads": heads, "n_win": self.n_win, "topk": self.topk}


CASES = (
    Case(512, 28, 1),
    Case(512, 28, 8),
    Case(64, 56, 8, topk=1),
    Case(128, 28, 8),
    Case(256, 14, 8, topk=16),
    Case(128, 128, 1, n_win=8, topk=8),
    Case(128, 256, 1, n_win=8, topk=8),
)
MOST_BYTES = 8 << 30  # of gathered keys and values, beyond which the other one is not tried


def other_class(published: str) -> Callable[..., nn.Module]:
    """Return the class to compare with."""
    if not published:
        from tests.nn.routing_published_order import PublishedOrder

        return PublishedOrder
    spec = importlib.util.spec_from_file_location("published", published)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{published} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Callable[..., nn.Module] = module.BiLevelRoutingAttention
    return made


def made(name: str, case: Case, published: str) -> nn.Module:
    """Return `ours` or `other` with the same weights."""
    from modswap.nn import BiLevelRoutingAttention

    torch.manual_seed(0)
    cls = BiLevelRoutingAttention if name == "ours" else other_class(published)
    return cls(case.dim, **case.options)


def products(case: Case) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what the projections alone compute."""
    qkv, wo = nn.Linear(case.dim, 3 * case.dim), nn.Linear(case.dim, case.dim)
    return lambda x: qkv(x)[..., : case.dim] + wo(x)


def step(run: Callable[[torch.Tensor], Any], x: torch.Tensor, *, backward: bool) -> None:
    """Run forward, or forward and backward."""
    if backward:
        run(x.requires_grad_()).sum().backward()
        x.grad = None
    else:
        with torch.no_grad():
            run(x)


def seconds(action: Callable[[], None]) -> float:
    """Return how long one run takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def medians(
    runs: dict[str, Callable[[torch.Tensor], Any]], x: torch.Tensor, rounds: int, *, backward: bool
) -> dict[str, float]:
    """Return the median time of each, run by turns after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(rounds + 1):
        for name, run in runs.items():
            spent = seconds(lambda run=run: step(run, x, backward=backward))  # type: ignore[misc]
            if index:
                taken[name].append(spent)
    return {name: statistics.median(times) for name, times in taken.items()}


def growth(name: str, case: Case, published: str) -> int:
    """Return the bytes by which a fresh process grows at most, forward and backward."""
    here = [sys.executable, __file__, "--measure", name, "--published", published]
    sizes = [case.dim, case.side, case.batch, case.n_win, case.topk]
    done = subprocess.run(  # noqa: S603 - ourselves
        [*here, "--case", *map(str, sizes)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def measure(name: str, case: Case, published: str) -> None:
    """Print the growth of this process."""
    module = made(name, case, published)
    small = torch.randn(1, 2 * case.n_win, 2 * case.n_win, case.dim)
    step(module, small, backward=True)  # what torch loads at first use is not counted
    x = torch.randn(case.batch, case.side, case.side, case.dim)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew (Linux)
    before = resident("VmRSS")
    step(module, x, backward=True)
    sys.stdout.write(str(resident("VmHWM") - before))


def resident(key: str) -> int:
    """Return how many bytes of this process are, or at most were, in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def row(case: Case, published: str, rounds: int, *, autocast: bool) -> str:
    """Return one row of the table."""
    x = torch.randn(case.batch, case.side, case.side, case.dim)
    runs: dict[str, Callable[[torch.Tensor], Any]] = {
        "ours": made("ours", case, published),
        "products": products(case),
    }
    windows = case.n_win**2
    gathered = 8 * case.batch * windows * case.topk * (case.side**2 // windows) * case.dim
    fits = 3 * gathered < MOST_BYTES
    shares = 4 * case.batch * case.options["num_heads"] * case.side**4 * case.topk // windows
    if fits:
        runs["other"] = made("other", case, published)
    cells = [f"{case!s:44}"]
    for backward in (False, True):
        if backward and 4 * shares + 3 * gathered > MOST_BYTES:
            runs.pop("other", None)
        took = medians(runs, x.clone(), rounds, backward=backward)
        ratio = f"{took['other'] / took['ours']:6.1f}" if "other" in took else "  none"
        limit = took["ours"] / took["products"]
        cells.append(f"{took['ours'] * 1e3:9.1f} ms {ratio} ({limit:4.1f})")
    ours = growth("ours", case, published) / 1e6
    theirs = f"{growth('other', case, published) / 1e6:8.0f}" if "other" in runs else "    none"
    cells.append(f"{ours:6.0f} MB{theirs}")
    if autocast:
        cells.append(bfloat16(case, published, x, rounds))
    return " ".join(cells)


def bfloat16(case: Case, published: str, x: torch.Tensor, rounds: int) -> str:
    """Return the ratio of the other's float32 forward to our bfloat16 one."""
    ours = made("ours", case, published)

    def half(x: torch.Tensor) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return ours(x)

    runs = {"half": half, "other": made("other", case, published)}
    took = medians(runs, x, max(3, rounds // 3), backward=False)
    return f"bfloat16 {took['other'] / took['half']:5.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--published", default="", help="file of the published class")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true", help="time autocast as well")
    parser.add_argument("--measure", choices=("ours", "other"), help=argparse.SUPPRESS)
    parser.add_argument("--case", type=int, nargs=5, help="dim, side, batch, n_win, topk")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    cases = (Case(*given.case),) if given.case else CASES
    if given.measure:
        measure(given.measure, cases[0], given.published)
        return
    head = "forward: ours, ratio (limit)   forward and backward         memory: ours, other"
    sys.stdout.write(f"{'':44} {head}\n")
    for case in cases:
        wide = given.bfloat16 and case.dim == 512
        sys.stdout.write(row(case, given.published, given.rounds, autocast=wide) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
