"""Read and write archives of `torch.export` (.pt2), which torch executes when it reads them."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modswap.core.asked.job import Policy
from modswap.core.errors import CheckpointError, UnsafeError
from modswap.io.formats.container import Container, Slot
from modswap.io.formats.exported import EXPORTED
from modswap.io.formats.exported.agreement import distance
from modswap.io.formats.exported.program import export, export_of, quiet, unflattened
from modswap.io.formats.torch.rewrite import RECEIPT, RECIPE
from modswap.io.formats.torch.save import unsaved
from modswap.io.recognise.look import Look
from modswap.io.rewriting import Records

TRUSTED = (
    "loaded by torch.export.load (--trust): its sample inputs were unpickled in full, and any code "
    "in them was run with your rights"
)
_EXTRA = "extra/"
MAX_COMPARED_BYTES = 256 << 20  # weights of an archive that is run to compare its outputs


def load(look: Look, policy: Policy) -> Container:
    """Read an archive as a module with the tree that was exported.

    Raises:
        UnsafeError: If the user does not trust it.
        CheckpointError: If torch cannot read it.
    """
    if not policy.trust:
        what = (
            "it is a torch.export archive (.pt2), and torch would execute what is in it: "
            "its sample inputs are unpickled in full, which can run any code"
        )
        fix = "for a file of your own making: --trust; else swap in the eager model, and export it"
        raise UnsafeError(what, str(look.file), fix)
    extra = _extra_files(look)
    records = {name: extra.pop(name, "") for name in (RECIPE, RECEIPT)}
    try:
        with quiet():
            program: Any = torch.export.load(look.file)
        model = unflattened(program, extra)
        apart = _apart(program, model)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        what = f"torch.export.load cannot read it: {type(error).__name__}: {text}"
        fix = "import the package of its own operators, if it has any; else export it again"
        raise look.error(what, fix) from error
    if apart:
        what = (
            f"torch cannot unflatten it: what it makes computes something else, {apart:.3g} apart"
        )
        raise look.error(what, "swap in the eager model, and export that")
    return Container(
        format=EXPORTED.name,
        file=look.file,
        payload=model,
        slots=(Slot((), "module", model),),
        recipe=records[RECIPE] or None,
        receipt=records[RECEIPT] or None,
        notes=(TRUSTED,),
    )


def _apart(program: Any, model: nn.Module) -> float:
    """Return how far the outputs of an archive and its module differ; 0 if not compared."""
    how = export_of(model)
    nbytes = sum(tensor.nbytes for tensor in program.state_dict.values())
    if how is None or how.training or not program.example_inputs or nbytes > MAX_COMPARED_BYTES:
        return 0.0
    return distance(program.module(), model, how.args, how.kwargs)


def _extra_files(look: Look) -> dict[str, str]:
    """Return the files that users put into an archive beside its program."""
    found = {}
    with zipfile.ZipFile(look.file) as archive:
        for entry in archive.namelist():
            name = entry.partition("/")[2]
            if name.startswith(_EXTRA):
                found[name.removeprefix(_EXTRA)] = archive.read(entry).decode("utf-8", "replace")
    return found


def save(payload: Any, file: Path, records: Records, metadata: dict[str, str]) -> None:
    """Write a program, or a model from an archive, with modswap's records among its extra files.

    Raises:
        CheckpointError: If it is a model without example inputs.
        ShapeError: If torch cannot export it.
    """
    del metadata
    program, extra = _program(payload)
    extra |= records.named(RECIPE, RECEIPT)
    try:
        # through a stream: by name, torch would write the temporary name into the archive
        with file.open("wb") as stream, quiet():
            torch.export.save(program, stream, extra_files=extra)
    except Exception as error:  # inputs are pickled, which runs their classes' own code
        raise unsaved(error) from error


def _program(payload: Any) -> tuple[Any, dict[str, str]]:
    if not isinstance(payload, nn.Module):
        program, how = payload
        return program, dict(how.extra)
    how = export_of(payload)
    if how is None:
        what = "a model in memory is exported with inputs, and none are given"
        fix = "save a .pt and swap with `modswap replace FILE -c RECIPE -o OUT.pt2`, or export it"
        raise CheckpointError(what, fix=fix)
    program, _ = export(payload, how)
    return program, dict(how.extra)
