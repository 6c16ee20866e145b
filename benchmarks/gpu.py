"""Time BiLevelRoutingAttention and ACmix on a GPU, by each way, beside the published classes.

    python benchmarks/gpu.py [--short] [--only TEXT] [--write [FILE]]
                             [--published FILE] [--published-acmix FILE]
    python benchmarks/gpu.py --device cpu --interpret     a tiny run that needs no GPU

First every way of every row runs in a process of its own, several at a time: it is compared with
float64, and its programs are compiled. A way that is wrong or fails is not timed. Then it prints
medians by the device's clock, in milliseconds forward / forward and backward: the published class
(without its file the plain reference of the tests), the same under torch.compile, the two ways of
modswap, the second under torch.compile, and the floor: projections and depthwise convolution
alone. Behind them are peak memory of a training pass, launches and the host's time of a call. At
the end stands the table of times. --write adds what was measured to the table that chooses between
the ways, or to FILE. --short has few rows and starts nothing after 140 seconds. Without a GPU it
says so and exits with 3.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.gpu_clock import Cell
    from benchmarks.gpu_layers import Row

ROOT = Path(__file__).parents[1]
TABLE = (
    ROOT / "modswap/nn/gpu/measured.json"
)  # named here: modswap reads the environment, set later
sys.path.insert(0, str(ROOT))
NO_DEVICE, DEVICE_LOST = 3, 4
SECONDS = 140.0  # after which a short run starts nothing
TRIED_BY = 80.0  # seconds of a short run after which no way is tried any more
MAX_PROCESSES = 16  # that try the ways at once
BYTES_EACH = 8 << 30  # of the device's memory, for each of them
WAYS = ("windows", "fused")
COLUMNS = ("published", "compiled", *WAYS, "fused compiled", "floor")
NO_TIME = "no time left"
Trial = tuple[int, str]  # a row's number, and a way


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, and write if asked to."""
    started = time.monotonic()
    args = arguments(sys.argv[1:] if words is None else words)
    if args.interpret:
        os.environ["TRITON_INTERPRET"] = "1"
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # its default; 3.9 warns where unset
    if args.attempt:
        return attempt(args)
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        sys.stderr.write("no GPU here; `--device cpu --interpret` tries the rest of this file\n")
        return NO_DEVICE
    say(versions(args.device))
    if not (args.published and args.published_acmix):
        say("published: the plain reference of the tests, where no file is named")
    rows = rows_of(args)
    limits = (started + TRIED_BY, started + SECONDS) if args.short else (float("inf"),) * 2
    faults = tried(rows, args, limits[0])
    say(f"{len(faults)} ways of {len(rows)} rows tried after {time.monotonic() - started:.0f} s")
    measured = []
    lost = False
    for number, row in enumerate(rows):
        cells = measure(row, args, {way: faults[number, way] for way in ways_of(row)}, limits[1])
        say(f"{row}: " + " | ".join(f"{k} {v}" for k, v in cells.items()))
        measured.append((row, cells))
        if args.write and (new := table_row(row, cells)):
            write(new, Path(args.write))  # at once: a run that is ended keeps its rows
        lost = args.device == "cuda" and not answers()
        if lost:
            say("the device does not answer any more: rows behind this one were not measured")
            break
    say(table(measured))
    say(f"{time.monotonic() - started:.0f} s")
    return DEVICE_LOST if lost else 0


def say(text: str) -> None:
    """Print a line at once, for whoever follows the run."""
    print(text, flush=True)  # noqa: T201 - a program


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="few rows, in 150 seconds")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name has it")
    parser.add_argument("--write", nargs="?", const=str(TABLE), default="", metavar="FILE")
    parser.add_argument("--published", default="", metavar="FILE")
    parser.add_argument("--published-acmix", default="", metavar="FILE")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--interpret", action="store_true")
    parser.add_argument("--attempt", default="", help=argparse.SUPPRESS)  # a row's number, and way
    args = parser.parse_args(words)
    if args.interpret != (args.device == "cpu"):
        parser.error("--device cpu and --interpret go together")
    if args.write and args.interpret:
        parser.error("--write needs a GPU: an interpreter's times choose nothing")
    missing = [file for file in (args.published, args.published_acmix) if not is_readable(file)]
    if missing:
        parser.error(f"no such file: {', '.join(missing)}")
    args.words = words
    return args


def is_readable(file: str) -> bool:
    """Return whether a file that was named is there."""
    return not file or Path(file).is_file()


def rows_of(args: argparse.Namespace) -> "list[Row]":
    """Return the rows that were asked for."""
    from benchmarks.gpu_layers import LONG, SHORT, TINY

    rows = TINY if args.interpret else SHORT if args.short else LONG
    return [row for row in rows if args.only in str(row)]


def versions(device: str) -> str:
    """Return card and versions."""
    import torch

    card = torch.cuda.get_device_name() if device == "cuda" else "no GPU, Triton's interpreter"
    parts = (card, f"torch {torch.__version__}", f"triton {triton_version()}")
    return ", ".join([*parts, datetime.now(UTC).date().isoformat()])


def triton_version() -> str:
    """Return the version of triton, or that there is none."""
    if importlib.util.find_spec("triton") is None:
        return "none"
    import triton

    found: str = triton.__version__
    return found


def ways_of(row: "Row") -> tuple[str, ...]:
    """Return the columns of a row that are tried before they are timed."""
    return ("compiled", "fused compiled", *WAYS) if row.compiled else WAYS


def tried(rows: "list[Row]", args: argparse.Namespace, until: float) -> dict[Trial, str]:
    """Return what is wrong with each way of each row, or an empty text.

    Each runs in a process of its own: one that fails takes nothing with it, and what it compiled is
    found again on the disk.
    """
    # what takes long to compile begins first
    trials = sorted(
        ((n, way) for n, row in enumerate(rows) for way in ways_of(row)),
        key=lambda trial: "compiled" not in trial[1],
    )
    with ThreadPoolExecutor(processes(args.device)) as pool:
        texts = pool.map(lambda trial: fault_in_process(trial, args, until), trials)
        return dict(zip(trials, texts, strict=True))


def processes(device: str) -> int:
    """Return how many ways are tried at once."""
    most = min(MAX_PROCESSES, len(os.sched_getaffinity(0)))
    if device == "cuda":
        import torch

        most = min(most, torch.cuda.get_device_properties(0).total_memory // BYTES_EACH)
    return max(1, most)


def fault_in_process(trial: Trial, args: argparse.Namespace, until: float) -> str:
    """Return what is wrong with a way of a row, found by this file in a process of its own."""
    left = until - time.monotonic()
    if left <= 0:
        return NO_TIME
    command = [sys.executable, __file__, *args.words, "--attempt", "{} {}".format(*trial)]
    try:
        found = subprocess.run(  # noqa: S603 - this very file
            command, capture_output=True, text=True, check=False,
            timeout=None if left == float("inf") else left,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return NO_TIME
    answer = found.stdout.strip().rpartition("\n")[2]
    if found.returncode or not answer.startswith('"'):
        last = found.stderr.strip().rpartition("\n")[2]
        return f"ended with {found.returncode}: {last[:120]}"
    text: str = json.loads(answer)
    return text


def attempt(args: argparse.Namespace) -> int:
    """Try one way of one row, and print what is wrong with it."""
    from benchmarks.gpu_layers import in_one_line, set_precision

    number, _, way = args.attempt.partition(" ")
    row = rows_of(args)[int(number)]
    set_precision(row)
    try:
        found = fault_of(row, way, args)
    except Exception as error:  # noqa: BLE001 - out of memory, or a compiler's own
        found = in_one_line(error)
    say(json.dumps(found))
    return 0


def fault_of(row: "Row", way: str, args: argparse.Namespace) -> str:
    """Return how a way differs from float64; compile what its full batch needs."""
    from benchmarks.gpu_clock import passes
    from benchmarks.gpu_layers import failing, filled

    if way in WAYS and (found := failing(row, way, args.device)):
        return found
    if args.device == "cpu":
        return ""
    with asked(way):
        forward, training = passes(makers(row, args)[way](), *filled(row, args.device))
        forward()
        training()
    import torch

    torch.cuda.synchronize()
    return ""


def asked(column: str) -> Any:
    """Return a context in which layers are computed in the way of a column."""
    from modswap.nn.gpu import gpu_way

    way = column.removesuffix(" compiled")
    return gpu_way(way) if way in WAYS else nullcontext()


def measure(
    row: "Row", args: argparse.Namespace, faults: dict[str, str], until: float
) -> "dict[str, Cell]":
    """Return what was measured of a row, by column."""
    import torch

    from benchmarks.gpu_clock import Cell, timed
    from benchmarks.gpu_layers import filled, in_one_line, set_precision

    set_precision(row)
    given = filled(row, args.device)
    cells = {}
    for name, make in makers(row, args).items():
        fault = faults.get(name, "")
        if not fault and time.monotonic() > until:
            fault = NO_TIME
        try:
            with asked(name):
                cells[name] = Cell(error=fault) if fault else timed(make(), *given)
        except Exception as error:  # noqa: BLE001 - out of memory, or a compiler's own; others go on
            cells[name] = Cell(error=in_one_line(error))
        if args.device == "cuda" and answers():
            torch.cuda.empty_cache()
    return cells


def answers() -> bool:
    """Return whether the device still runs programs: after a wrong access it runs none."""
    import torch

    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def makers(row: "Row", args: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """Return what is timed, by column."""
    from benchmarks.gpu_layers import floor, ours, published

    found: dict[str, Callable[[], Any]] = {
        "published": lambda: published(row, args),
        "windows": lambda: ours(row, args.device),
        "fused": lambda: ours(row, args.device),
        "floor": lambda: floor(row, args.device),
    }
    if row.compiled:
        found["compiled"] = lambda: compiled(published(row, args), args.device)
        found["fused compiled"] = lambda: compiled(ours(row, args.device), args.device)
    return {name: found[name] for name in COLUMNS if name in found}


def compiled(layer: Any, device: str) -> Any:
    """Return a layer under torch.compile, for its own sizes alone."""
    import torch

    torch.compiler.reset()  # else a second layer of one class is compiled for changing sizes
    return torch.compile(layer, backend="inductor" if device == "cuda" else "aot_eager")


def table(measured: "Iterable[tuple[Row, dict[str, Cell]]]") -> str:
    """Return the times as a table, forward and with the backward pass."""
    names = " / ".join(COLUMNS)
    lines = [f"| row | forward ms: {names} | forward+backward | MiB |", "|---|---|---|---|"]
    for row, cells in measured:
        kept = [cells.get(name) for name in COLUMNS]
        columns = (
            " / ".join("–" if c is None or c.forward is None else f"{c.forward:.3f}" for c in kept),
            " / ".join(
                "–" if c is None or c.training is None else f"{c.training:.3f}" for c in kept
            ),
            " / ".join("–" if c is None or c.error else f"{c.mebibytes:.0f}" for c in kept),
        )
        lines.append(f"| {row} | {' | '.join(columns)} |")
    return "\n".join(lines)


def write(row: dict[str, Any], file: Path) -> None:
    """Put a measured row into the table that chooses, in place of an older one."""
    stored = json.loads((file if file.is_file() else TABLE).read_text(encoding="utf-8"))
    file.write_text(joined(stored["rows"], row), encoding="utf-8")


def joined(old: list[dict[str, Any]], new: dict[str, Any]) -> str:
    """Return the text of a table with a new row in place of an older one of the same call."""
    keys = ("layer", "sizes", "batch", "dtype", "card_class")
    kept = [one for one in old if any(one[k] != new[k] for k in keys)]
    rows = ",\n  ".join(json.dumps(one) for one in [*kept, new])
    return f'{{"schema": 1, "rows": [\n  {rows}\n]}}\n'


def table_row(row: "Row", cells: "dict[str, Cell]") -> dict[str, Any] | None:
    """Return a row as the table has it; None where a way was not measured or compared."""
    import torch

    from benchmarks.gpu_layers import CHECKED_SIDE
    from modswap.nn.gpu.way import card_class

    compared = row.dtype != "tf32" and row.side <= CHECKED_SIDE
    if not compared or any(cells[way].error for way in WAYS):
        return None
    call = call_of(row)
    times = {way: {"forward": cells[way].forward, "training": cells[way].training} for way in WAYS}
    return {
        "layer": call.layer, "sizes": call.sizes, "batch": call.batch, "dtype": call.dtype,
        "card_class": card_class(torch.cuda.get_device_capability()), **times,
        "card": torch.cuda.get_device_name(), "torch": torch.__version__,
        "triton": triton_version(), "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip


def call_of(row: "Row") -> Any:
    """Return the call of a row as the choice between the ways sees it."""
    import torch

    from benchmarks.gpu_layers import dtype_of, ours, shape_of
    from modswap.nn.gpu.mixed.layer import measured_call as mixed_call
    from modswap.nn.gpu.routed.layer import measured_call as routed_call
    from modswap.nn.kernels.local_attention import Geometry

    layer = ours(row, "meta")  # sizes alone count
    x = torch.empty(shape_of(row, row.batch), dtype=dtype_of(row), device="meta")
    if not row.mixed:
        return routed_call(layer, x)
    geometry = Geometry(layer.head, layer.kernel_att, layer.stride, layer.dilation)
    return mixed_call(layer._terms(x), geometry)  # noqa: SLF001 - the terms that the layer computes


if __name__ == "__main__":
    sys.exit(main())
