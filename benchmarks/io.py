"""Time whole commands on a large file against copying it; prints ratios and peak memory.

    python benchmarks/io.py [--gib 4] [--rounds 3] [--folder FOLDER] [--brainsurgery COMMAND]

The file is a convolutional stem with a 512-channel gate before linear layers, as a whole module and
as safetensors. Every command is a process of its own, its peak resident memory as the system counts
it; commands take turns, so that a slow disk slows all of them. Copies are flushed to
the disk, as modswap's files are. The start-up is the same command on a small file. torch.load and
torch.save run in one process, without a swap.

BrainSurgery changes tensors of a safetensors file by name. Given its command, both programs do a
common job: they write the file without the gate's tensors (modswap: by an Identity).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import nn

RECIPE = """\
version: 1
inputs: [{shape: [1, 3, 224, 224]}]
replace:
  - match: space_attention
    with: BiLevelRoutingAttention
    args: {num_heads: 8, n_win: 7, topk: 4, auto_pad: true}
"""
SAVE_AGAIN = (
    "import sys, torch; torch.save(torch.load(sys.argv[1], weights_only=False), sys.argv[2])"
)
DROP = """\
version: 1
replace: [{match: space_attention, with: "torch.nn:Identity", layout: NCHW, wants: NCHW}]
"""
DROP_PLAN = """\
inputs: ["model::{0}"]
transforms: [{{delete: {{target: "space_attention[.].*"}}}}]
output: {{path: "{1}", format: safetensors, shard: none}}
"""
COPY = "cp {0} {1} && sync {1}"


class Ran(NamedTuple):
    """What one process took."""

    seconds: float
    peak: float  # MiB


def run(command: Sequence[str]) -> Ran:
    """Run a command in a process of its own; its output is dropped."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return Ran(seconds, usage.ru_maxrss / 1024)


def build() -> "nn.Module":
    """Return the model; an ordinary factory for `--model`."""
    from torch import nn

    side = 4096
    layers = 0 if os.environ.get("SMALL") else int(float(os.environ["GIB"]) * 16)
    return nn.Sequential(
        OrderedDict(
            stem=nn.Conv2d(3, 512, 8, stride=8),
            space_attention=nn.Conv2d(512, 512, 3, padding=1),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            head=nn.Linear(512, side),
            body=nn.Sequential(*[nn.Linear(side, side) for _ in range(layers)]),
        )
    )


def build_with_rates() -> "nn.Module":
    """Return the model with the schedule of drop-path rates that vision transformers compute."""
    import torch
    from torch import nn

    model = build()
    body = model.get_submodule("body")
    for layer, rate in zip(body.children(), torch.linspace(0, 0.1, 4096), strict=False):
        layer.rate = rate.item()
        nn.init.trunc_normal_(layer.weight, std=0.02)
    return model


def make(folder: Path) -> None:
    """Write the two files, and beside them the same without the linear layers: the start-up."""
    import torch
    from safetensors.torch import save_file

    os.environ["SMALL"] = "1"
    torch.save(build(), folder / "small.pt")
    del os.environ["SMALL"]
    with torch.device("meta"):
        model = build().to_empty(device="cpu")
    some = torch.randn(1 << 20)
    for parameter in model.parameters():
        flat = parameter.data.view(-1)
        for start in range(0, flat.numel(), len(some)):
            flat[start : start + len(some)] = some[: flat.numel() - start]
    torch.save(model, folder / "net.pt")
    save_file(model.state_dict(), folder / "net.safetensors")


def commands(folder: Path, peer: str | None) -> dict[str, Sequence[str]]:
    """Return what is timed, by what the table calls it; `peer` is BrainSurgery's command."""
    tool = str(Path(sys.executable).with_name("modswap"))
    recipe = str(folder / "swap.yaml")
    found: dict[str, Sequence[str]] = {"help": [tool, "--help"]}
    blind = folder / "blind.yaml"
    for name in ("net.pt", "net.safetensors"):
        file, out = str(folder / name), str(folder / f"out-{name}")
        swap = [tool, "replace", file, "-o", out, "--force", "--quiet"]
        found[f"{name}: cp, flushed"] = ["sh", "-c", COPY.format(file, out)]
        if name == "net.pt":
            found[f"{name}: replace"] = [*swap, "-c", recipe]
            found[f"{name}: check"] = [tool, "check", file, "-c", recipe, "--quiet"]
        else:
            for note, factory in (("", "build"), (", rates by .item()", "build_with_rates")):
                model = ["--model", f"{Path(__file__).resolve()}:{factory}"]
                found[f"{name}: replace{note}"] = [*swap, "-c", recipe, *model]
            found[f"{name}: check"] = [tool, "check", file, "-c", recipe, "--quiet", *model]
        found[f"{name}: replace --no-forward"] = [*swap, "-c", str(blind), "--no-forward"]
        found[f"{name}: tree"] = [tool, "tree", file]
    small = [tool, "replace", str(folder / "small.pt"), "-o", str(folder / "out-small.pt")]
    found["start-up: replace"] = [*small, "--quiet", "-c", recipe]
    found["start-up: replace --no-forward"] = [
        *small, "--force", "--quiet", "-c", str(blind), "--no-forward",
    ]  # fmt: skip
    if peer is not None:
        file, out = folder / "net.safetensors", folder / "out-net.safetensors"
        plan = folder / "drop-plan.yaml"
        plan.write_text(DROP_PLAN.format(file, out))
        drop = ["-c", str(folder / "drop.yaml"), "--no-forward", "--quiet", "-o", str(out)]
        found["net.safetensors: drop, modswap"] = [tool, "replace", str(file), *drop]
        peer_plan = f"{peer} cli --no-summarize {plan} && sync {out}"
        found["net.safetensors: drop, BrainSurgery"] = ["sh", "-c", peer_plan]
    again = str(folder / "out-net.pt")
    found["net.pt: torch.load, torch.save"] = [
        sys.executable, "-c", SAVE_AGAIN, str(folder / "net.pt"), again,
    ]  # fmt: skip
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--brainsurgery", metavar="COMMAND", default=None)
    parser.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ.setdefault("GIB", str(given.gib))
    if given.make:
        make(given.folder)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        run([sys.executable, __file__, "--make", "--folder", name])
        (folder / "swap.yaml").write_text(RECIPE)
        blind = RECIPE.replace("args: {", "layout: NCHW\n    args: {dim: 512, ")
        (folder / "blind.yaml").write_text(blind)
        (folder / "drop.yaml").write_text(DROP)
        table: dict[str, list[Ran]] = {title: [] for title in commands(folder, given.brainsurgery)}
        for _ in range(given.rounds):
            for title, command in commands(folder, given.brainsurgery).items():
                for old in folder.glob("out-*"):
                    old.unlink()
                table[title].append(run(command))
    show(table, given.gib)


def show(table: dict[str, list[Ran]], gib: float) -> None:
    """Print medians, and the ratio to the copy of the same file; ratios are of the same round."""
    write = sys.stdout.write
    write(f"{gib} GiB, {os.cpu_count()} cores, medians of {len(table['help'])} rounds\n")
    for title, runs in table.items():
        copies = table.get(f"{title.partition(':')[0]}: cp, flushed", ())
        seconds = statistics.median(one.seconds for one in runs)
        ratios = [one.seconds / copy.seconds for one, copy in zip(runs, copies, strict=False)]
        shown = f"{statistics.median(ratios):6.2f} x cp" if ratios else " " * 11
        peak = max(one.peak for one in runs)
        write(f"{title:40} {seconds:8.2f} s {shown} {peak:8.0f} MiB\n")
        start = table.get(f"start-up: {title.partition(': ')[2]}", ())
        pairs = zip(runs, start, copies, strict=False)
        bare = [(one.seconds - s.seconds) / copy.seconds for one, s, copy in pairs]
        if bare:
            write(f"{'  without the start-up':40} {'':10} {statistics.median(bare):6.2f} x cp\n")


if __name__ == "__main__":
    main()
