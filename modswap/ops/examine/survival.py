"""Load the written file in a fresh process, and compare the outputs with those in memory."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from modswap.core.asked.import_name import split_arguments
from modswap.core.asked.job import Policy, Subject
from modswap.core.errors import CheckpointError
from modswap.core.finding import Finding
from modswap.io.formats.writing import blank, write
from modswap.io.recipe.reader import write_recipe
from modswap.io.rewriting import Records
from modswap.live_values import live_tensors, map_tensors
from modswap.ops.examine.bench import Bench
from modswap.ops.examine.reloading.host_notes import Host, host_notes
from modswap.ops.examine.reloading.insertion_notes import insertion_notes
from modswap.ops.run.devices import device_of
from modswap.ops.run.forward import pass_dtype
from modswap.ops.run.isolation import untouched
from modswap.ops.run.model_copy import (
    copied_model,
    in_float32,
    outputs_differ,
    too_large,
)
from modswap.ops.write.receipt import effective, make_receipt
from modswap.ops.write.writer import for_own_file
from modswap.seeds import seeded

TIMEOUT_SECONDS = 600.0  # of a process that imports torch and runs the model once
CHILD = """\
import json, sys
import torch
from safetensors.torch import save_file
import modswap
from modswap.live_values import live_tensors
from modswap.seeds import seeded
asked = json.load(open(sys.argv[1]))
model = modswap.load(**asked["load"])
args, kwargs = torch.load(asked["inputs"], weights_only=True)
for module in model.modules():
    module.training = False
if asked["dtype"]:
    model = model.to(getattr(torch, asked["dtype"]))
with seeded(0), torch.no_grad():
    outputs = live_tensors(model(*args, **kwargs))
save_file({str(n): t.contiguous().clone() for n, t in enumerate(outputs)}, asked["outputs"])
"""
FACTORY = """\
from modswap.core.errors import RecipeError
from modswap.ops.load.factory import imported_factory
def build():
    return imported_factory({name!r}, {args!r}, {folder!r}, "the recipe", RecipeError).build()
"""


def survival(bench: Bench) -> Iterator[Finding]:
    """Report where the model's own library would lose the swap; with `--thorough` load the file.

    `modswap.load` loads the file in a new process, and the outputs there and here are compared. In
    `check`, and for files that cannot be written again, a copy of the model is written instead.
    """
    given = bench.subject.policy if bench.subject is not None else Policy()
    policy = for_own_file(given, bench.prepared)
    factory, out = _named_factory(bench), str(bench.out or "")
    yield from host_notes(Host(bench.model, bench.subject, bench.keys, factory, out, policy))
    yield from insertion_notes(bench)
    if bench.thorough and bench.subject is not None:
        yield _reloaded(bench, bench.subject)


def _reloaded(bench: Bench, subject: Subject) -> Finding:
    large = too_large(bench.model)
    if large:
        return Finding("survival", "", "skipped", large)
    with tempfile.TemporaryDirectory(prefix="modswap-") as place:
        folder = Path(place)
        try:
            file, model = _written(bench, subject, folder)
        except CheckpointError as error:
            if bench.write is not None:
                raise
            return Finding("survival", "", "skipped", f"no copy can be written: {error.what}")
        expected = _outputs(bench, model, folder)
        try:
            why = _in_child(bench, subject, file, folder)
        except subprocess.TimeoutExpired:
            what = f"loading took longer than {TIMEOUT_SECONDS:.0f} s"
            return Finding("survival", "", "skipped", what)
        if why:
            what = f"the written file cannot be loaded and run in a fresh process: {why}"
            fix = "load it with `modswap.load` to see why; its classes have to be importable there"
            return Finding("survival", "", "failed", what, fix)
        got = load_file(folder / "outputs.safetensors")
    return _compared(expected, [got[str(number)] for number in range(len(got))], file.suffix)


def _compared(expected: list[torch.Tensor], got: list[torch.Tensor], suffix: str) -> Finding:
    words, apart = outputs_differ(expected, got, "in memory")
    if not words:
        what = f"loaded in a fresh process it returns the same, at most {apart:.2g} apart"
        return Finding("survival", "", "passed", what, data={"apart": apart, "suffix": suffix})
    what = f"loaded in a fresh process, {words}"
    fix = "it computes with values outside its parameters and buffers: make them a buffer"
    return Finding("survival", "", "failed", what, fix)


def _written(bench: Bench, subject: Subject, folder: Path) -> tuple[Path, nn.Module]:
    """Return a file that holds the swapped model, and the model to compare it with."""
    prepared = bench.prepared
    if bench.write is not None and not prepared.unreal:
        return bench.write(folder), bench.model
    model = copied_model(bench.model, unreal=prepared.unreal, seed=prepared.seed)
    factory = subject.factory or bench.recipe.model
    out = folder / ("swapped.safetensors" if factory else "swapped.pt")
    container, value = blank(model, out)
    text = write_recipe(effective(bench.recipe))
    receipt = make_receipt(prepared, text, source=None, earlier=None)
    write(container, [value], out, records=Records(text, receipt.text()), force=False)
    return out, model


def _outputs(bench: Bench, model: nn.Module, folder: Path) -> list[torch.Tensor]:
    """Return the outputs of the model in memory, and write its inputs for the other process."""
    case = bench.prepared.cases[0]
    dtype = pass_dtype(model, case)
    args, kwargs = case.call.live(bench.prepared.seed, dtype)
    torch.serialization.save(
        (args, kwargs), folder / "inputs.pt"
    )  # the other process runs on the CPU
    device = device_of(model)
    args, kwargs = map_tensors(lambda tensor: tensor.to(device), (args, kwargs))
    if dtype is not None:
        model, _ = in_float32(copied_model(model, unreal=False), case)
    with untouched(model, training=False), seeded(0), torch.no_grad():
        return [tensor.cpu().clone() for tensor in live_tensors(model(*args, **kwargs))]


def _in_child(bench: Bench, subject: Subject, file: Path, folder: Path) -> str:
    """Load the file and run it in a process of its own; return the error there, or empty."""
    dtype = pass_dtype(bench.model, bench.prepared.cases[0])
    asked = {
        "load": _loading(bench, subject, file, folder),
        "inputs": str(folder / "inputs.pt"),
        "outputs": str(folder / "outputs.safetensors"),
        "dtype": str(dtype).removeprefix("torch.") if dtype is not None else "",
    }
    (folder / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
    paths = [str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(  # noqa: S603 - this interpreter runs code of ours
        [sys.executable, "-c", CHILD, str(folder / "asked.json")],
        cwd=bench.recipe.source.folder or ".",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    lines = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
    last = lines[-1].replace(f"{folder}{os.sep}", "").removeprefix("modswap.core.errors.")
    return last if done.returncode else ""


def _loading(bench: Bench, subject: Subject, file: Path, folder: Path) -> Mapping[str, Any]:
    """Return the arguments of `modswap.load`, from those of the command."""
    policy = for_own_file(subject.policy, bench.prepared)
    own = bench.write is not None and not bench.prepared.unreal  # a copy has the model's names
    return {
        "rename": [(one.old, one.new) for one in subject.renames if own],
        "file": str(file),
        "model": _factory(bench, subject, folder),
        "allow": policy.allow,
        "alias": policy.aliases,
        # an archive of torch.export was written here, by torch
        "trust": policy.trust or file.suffix.lower() == ".pt2",
    }


def _named_factory(bench: Bench) -> str:
    """Return the factory that the command or the recipe names; empty for neither."""
    if bench.subject is not None and bench.subject.factory is not None:
        return bench.subject.factory
    return bench.recipe.model.factory if bench.recipe.model is not None else ""


def _factory(bench: Bench, subject: Subject, folder: Path) -> str | None:
    """Return a reference to the factory, the recipe's arguments bound to it."""
    if subject.factory is not None:
        reference, args = split_arguments(subject.factory)
        module, colon, name = reference.rpartition(":")
        place = Path(module).resolve() if module.endswith(".py") else module
        return f"{place}{colon}{name}{args}"
    source = bench.recipe.model
    if source is None:
        return None
    text = FACTORY.format(
        name=source.factory,
        folder=str(Path(bench.recipe.source.folder).resolve()),
        args=dict(source.args),
    )
    (folder / "factory.py").write_text(text, encoding="utf-8")
    return f"{folder / 'factory.py'}:build"
