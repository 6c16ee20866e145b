"""Run models of other libraries through tree, init, check, replace and load; write docs/hosts.md.

    python benchmarks/host_models.py [--only REGEX] [--page FILE]

The rows are in `host_rows.yaml`. A library that is not installed is skipped, and its rows say so.
Each library is imported once; each row, and in it each command, runs in a process forked from that
one, as `python -m modswap` runs it, with limits on its time and memory. Rows that are not chosen by
--only keep their line in the table. Seconds are those on processors, of all five steps.
"""

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

FIRST, LAST = "<!-- table of benchmarks/host_models.py -->", "<!-- end of the table -->"
HEAD = "| library | model | sites → new module | `init` proposes | verdict | why | s |"
STEPS = ("tree", "init", "check", "replace", "load")
BUG = 70
EXAMINED = (  # by check, on the same model: replace need not do it again
    "matrix", "reached", "gradients", "copies", "dependence", "independence", "determinism",
    "finite", "sizes", "cost",
)  # fmt: skip
SETTINGS = {
    "HF_HUB_OFFLINE": "1", "YOLO_OFFLINE": "1", "NO_COLOR": "1", "PYTHONWARNINGS": "ignore",
    "OMP_NUM_THREADS": "1",  # a process forked from one with threads of OpenMP waits for ever
}  # fmt: skip


class Library(NamedTuple):
    """A library: what it needs, how its models are kept in files, and what those may build."""

    needs: tuple[str, ...]
    lines: tuple[str, ...]  # imports, for the rows' expressions and for the factory's file
    container: str  # module, weights (with a factory) or folder
    allow: tuple[str, ...] = ()


class Row(NamedTuple):
    """A model and a swap."""

    library: str
    model: str
    build: str  # an expression that makes the model
    inputs: str  # shapes for --input
    rule: dict[str, Any]
    again: str = ""  # another input for the loaded model
    refused: str = ""  # words of the reason, where a refusal is right
    changes: bool = False  # the model's output is meant to change
    container: str = ""  # where it is another than the library's

    @property
    def swap(self) -> str:
        """Return the rule in short."""
        return f"{self.rule['match']} → {self.rule['with'].rpartition(':')[2]}"

    @property
    def key(self) -> str:
        """Return the name of the row."""
        return f"{self.library} {self.model} {self.swap}"

    @property
    def start(self) -> str:
        """Return how the row's line in the table begins."""
        return f"| {self.library} | {self.model} | `{_cell(self.swap)}` |"


def _table() -> tuple[dict[str, Library], list[Row]]:
    libraries, rows = {}, []
    table = yaml.safe_load((Path(__file__).parent / "host_rows.yaml").read_text())
    for name, given in table.items():
        rows += [Row(name, **row) for row in given.pop("rows")]
        libraries[name] = Library(**given)
    return libraries, rows


def _cell(value: object) -> str:
    return re.sub(r"\s+", " ", str(value)).replace("|", "\\|")


LIBRARIES, ROWS = _table()


def forked(work: Callable[[], int], output: Path) -> tuple[int, float]:
    """Run the function in a process of its own; return its exit code and its processor time."""
    child = os.fork()
    if child == 0:
        code = BUG
        try:
            with output.open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            code = work()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001 - whatever it raises is the result of the step
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime


def command(args: Sequence[str]) -> Callable[[], int]:
    """Return what runs a command of modswap and ends the process."""

    def run() -> int:
        from modswap.__main__ import main

        sys.argv = ["modswap", *args]
        main()
        return 0

    return run


class Trial:
    """A row, carried out in the current folder."""

    def __init__(self, row: Row, library: Library) -> None:
        import torch

        torch.manual_seed(0)
        self.row, self.seconds = row, dict[str, float]()
        self.model = eval(row.build, vars(_imported(library))).eval()  # noqa: S307 - a row of ours
        kind = row.container or library.container
        self.file, self.out = ("net", "out") if kind == "folder" else ("net.pt", "out.pt")
        self.options = [f"--allow={name}" for name in library.allow]
        self.factory = None
        if kind == "folder":
            self.model.save_pretrained("net")
        elif kind == "weights":
            torch.save(self.model.state_dict(), "net.pt")
            lines = [*library.lines, f"def build():\n    return {row.build}\n"]
            Path("nets.py").write_text("\n".join(lines))
            self.factory = "nets.py:build"
            self.options.append(f"--model={self.factory}")
        else:
            torch.save(self.model, "net.pt")
        self.options += [f"--input={shape}" for shape in row.inputs.split()]
        recipe = {"version": 1, "replace": [row.rule]}
        Path("swap.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
        recipe["verify"] = {"skip": list(EXAMINED)}
        Path("write.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))

    def step(self, name: str, work: Callable[[], int]) -> int:
        """Run one step in a process; its output is in a file of its name."""
        code, self.seconds[name] = forked(work, Path(f"{name}.txt"))
        return code

    def result(self) -> dict[str, Any]:
        """Return the verdict on the row, and what led to it."""
        told = "--format=json"
        calls = {
            "tree": ["tree", self.file],
            "init": ["init", self.file, "-o", "init.yaml", "--force"],
            "check": ["check", self.file, "-c", "swap.yaml", told, "--report=check.json"],
            "replace": ["replace", self.file, "-c", "write.yaml", "-o", self.out,
                        told, "--report=replace.json"],
        }  # fmt: skip
        codes: dict[str, int] = {}
        for name, args in calls.items():
            if name == "replace" and codes["check"]:
                continue  # it is refused in the same words
            codes[name] = self.step(name, command([*args, *self.options]))
        if codes.get("replace") == 0:
            codes["load"] = self.step("load", self.load)
        verdict, why = self.judged(codes)
        return {
            "init": self.proposed(codes["init"]), "verdict": verdict, "why": why,
            "seconds": round(sum(self.seconds.values())), "steps": self.seconds, "codes": codes,
        }  # fmt: skip

    def load(self) -> int:
        """Load the written file, compare what should be kept, and run it on another input."""
        import torch

        import modswap

        allow = [option.partition("=")[2] for option in self.options if "--allow" in option]
        loaded = modswap.load(self.out, allow=allow, model=self.factory).eval()
        swapped = _report("replace.json")["sites"]
        sites = tuple(f"{path}." for site in swapped for path in (site["path"], *site["aliases"]))
        before, after = self.model.state_dict(), loaded.state_dict()
        for name, tensor in before.items():
            if not name.startswith(sites) and not torch.equal(tensor, after[name]):
                raise AssertionError(f"{name} changed")
        given = [_tensor(shape) for shape in (self.row.again or self.row.inputs).split()]
        with torch.no_grad():
            shapes = [list(_shapes(model(*given))) for model in (self.model, loaded)]
        if shapes[0] != shapes[1] and not self.row.changes:
            raise AssertionError(f"outputs {shapes[0]} became {shapes[1]}")
        return 0

    def judged(self, codes: dict[str, int]) -> tuple[str, str]:
        """Return the verdict and its reason."""
        for name, code in codes.items():
            if code not in {0, 1, 2, 3, 4} or (name in {"tree", "load"} and code):
                return "fault", f"{name} ended with {code}: {_last_line(name)}"
        report = _report("check.json")
        error = report.get("error") or {}
        if codes["check"]:
            why = f"{error.get('what', _last_line('check'))}"
            fix = f"; fix: {error['fix']}" if error.get("fix") else ""
            if self.row.refused and re.search(self.row.refused, why + fix):
                return "refused", why + fix
            return ("wrong reason" if self.row.refused else "refused?"), why + fix
        if codes["replace"]:
            return "fault", f"check holds, replace does not: {_last_line('replace')}"
        verdict = "false OK" if self.row.refused else "OK"
        return verdict, _sites(report["sites"])

    def proposed(self, code: int) -> str:
        """Return the rule that init wrote, or why there is none."""
        if code:
            return f"exit {code}: {_last_line('init')}"
        text = Path("init.yaml").read_text()
        fields = (re.search(rf"(?m)^ +-? ?{key}: (.*)$", text) for key in ("match", "with"))
        return " → ".join(found[1].strip('"') if found else "?" for found in fields)


def _imported(library: Library) -> Any:
    module = type(sys)("built")
    exec("\n".join(library.lines), vars(module))  # noqa: S102 - lines of our own table
    return module


def _report(name: str) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(Path(name).read_text())
    except (OSError, ValueError):
        return {}
    return report


def _last_line(step: str) -> str:
    lines = Path(f"{step}.txt").read_text(errors="replace").strip().splitlines()
    told = [line for line in lines if line.startswith(("error", "  what"))]
    return (told or lines or ["no output"])[-1].strip()


def _sites(sites: Sequence[dict[str, Any]]) -> str:
    layouts = sorted({str(site["layout"]) for site in sites})
    calls = sites[0]["calls"][0]
    adapted = sorted({note for site in sites for note in site["notes"]})
    text = f"{len(sites)} site{'s' * (len(sites) > 1)}, {', '.join(layouts)}, "
    text += f"{calls['input'][0]} → {calls['output'][0]}"
    return "; ".join([text, *adapted])


def _tensor(text: str) -> Any:
    import torch

    shape, _, dtype = text.partition(":")
    sizes = [int(size) for size in shape.split(",")]
    if dtype and not dtype.startswith("float"):
        return torch.zeros(sizes, dtype=getattr(torch, dtype))
    return torch.randn(sizes)


def _shapes(value: Any) -> Iterator[tuple[int, ...]]:
    if hasattr(value, "shape"):
        yield tuple(value.shape)
    elif isinstance(value, dict) or hasattr(value, "to_tuple"):
        yield from _shapes(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _shapes(part)


def limited(row: Row, library: Library, seconds: int, gib: float) -> dict[str, Any]:
    """Return the result of a row from a process of its own, or that it passed a limit."""
    with tempfile.TemporaryDirectory(prefix="host-") as name:
        folder = Path(os.environ.get("HOST_MODELS_KEEP", name)) / re.sub(r"\W+", "_", row.key)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        child = os.fork()
        if child == 0:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_DATA, (int(gib * 2**30),) * 2)
            os.chdir(folder)
            code, _ = forked(lambda: _write_result(row, library), folder / "row.txt")
            os._exit(code if code >= 0 else BUG)
        ends = time.monotonic() + seconds
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > ends:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return {"verdict": "not done", "why": f"more than {seconds} s"}
            time.sleep(0.1)
        failed = {"verdict": "not done", "why": _last_line(str(folder / "row"))}
        return _report(str(folder / "result.json")) or failed


def _write_result(row: Row, library: Library) -> int:
    Path("result.json").write_text(json.dumps(Trial(row, library).result()))
    return 0


def run_library(name: str, given: argparse.Namespace) -> None:
    """Import a library and run its rows; print a line of JSON for each."""
    library = LIBRARIES[name]
    importlib.import_module("modswap.cli.app")
    _imported(library)
    for row in chosen(name, given.only):
        print(json.dumps([row.key, limited(row, library, given.limit, given.memory)]), flush=True)  # noqa: T201 - read by the parent


def chosen(library: str, only: str) -> list[Row]:
    """Return the rows of a library that the expression finds."""
    return [row for row in ROWS if row.library == library and re.search(only, row.key)]


def results(library: str, given: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the result of each chosen row of a library."""
    rows = chosen(library, given.only)
    missing = [n for n in LIBRARIES[library].needs if importlib.util.find_spec(n) is None]
    if missing or not rows:
        why = f"{', '.join(missing)} is not installed"
        yield from ((row.key, {"verdict": "skipped", "why": why}) for row in rows)
        return
    args = [sys.executable, __file__, f"--library={library}", f"--only={given.only}",
            f"--limit={given.limit}", f"--memory={given.memory}"]  # fmt: skip
    with subprocess.Popen(  # noqa: S603 - this very file
        args, stdout=subprocess.PIPE, text=True, env={**os.environ, **SETTINGS}
    ) as process:
        assert process.stdout is not None  # noqa: S101 - asked for above
        for line in process.stdout:
            key, result = json.loads(line)
            yield key, result


def line_of(row: Row, result: dict[str, Any]) -> str:
    """Return a row of the table."""
    why = result.get("why", "")
    cells = [
        row.library, row.model, f"`{row.swap}`", f"`{result.get('init', '-')}`",
        result["verdict"], why if len(why) < 400 else f"{why[:399]}…", result.get("seconds", "-"),
    ]  # fmt: skip
    return f"| {' | '.join(map(_cell, cells))} |"


def write_lines(page: Path, lines: dict[str, str]) -> None:
    """Put lines into the table between the marks; those of other rows stay."""
    text = page.read_text()
    first, _, rest = text.partition(FIRST)
    old, _, last = rest.partition(LAST)
    known = {row.start: row.key for row in ROWS}
    for line in old.splitlines():
        key = next((key for start, key in known.items() if line.startswith(start)), None)
        if key is not None:
            lines.setdefault(key, line)
    table = [HEAD, "| --- | --- | --- | --- | --- | --- | --- |"]
    table += [lines[row.key] for row in ROWS if row.key in lines]
    page.write_text("\n".join([f"{first}{FIRST}", *table, f"{LAST}{last}"]))


def main() -> None:
    """Run the chosen rows and write their lines as they come."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="a regular expression on `library model`")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "hosts.md")
    parser.add_argument("--limit", type=int, default=400, help="seconds of a row")
    parser.add_argument("--memory", type=float, default=6, help="GiB of a row")
    parser.add_argument("--nice", type=int, default=10)
    parser.add_argument("--library", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.library:
        run_library(given.library, given)
        return
    os.nice(given.nice)
    rows = {row.key: row for row in ROWS}
    lines: dict[str, str] = {}
    for library in LIBRARIES:
        for key, result in results(library, given):
            lines[key] = line_of(rows[key], result)
            sys.stdout.write(f"{lines[key]}\n")
            sys.stdout.flush()
            write_lines(given.page, lines)


if __name__ == "__main__":
    main()
