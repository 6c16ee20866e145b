"""Prove that changed source builds the swapped model, in a fresh process."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from modswap.core.asked.scripts.script import Script
from modswap.core.errors import ProofError
from modswap.live_values import live_tensors, map_leaves
from modswap.ops.code.building.builder import Builder
from modswap.ops.code.proof.facts import facts_of
from modswap.ops.run.forward import ready, run_model
from modswap.ops.run.inputs import Case, DummyCall

TOLERANCE = 1e-6  # of the largest output, or of 1
_CHILD = """
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from modswap.ops.code.proof.child import main
main()
"""


@dataclass(frozen=True, slots=True)
class Proof:
    """The model that changed source has to build, and how it is built and run."""

    swapped: nn.Module
    sites: tuple[str, ...]  # paths of the new modules
    builder: Builder | None
    scripts: tuple[Script, ...]
    calls: tuple[DummyCall, ...]
    seed: int
    runs: "list[dict[str, Any]] | None" = None  # of an earlier time; None: the model runs again


@dataclass(frozen=True, slots=True)
class Proved:
    """The result of a proof that holds."""

    apart: float  # largest difference of the outputs, over the largest output or 1
    modules: int  # number of modules compared


def request_of(proof: Proof, texts: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the request for the other process, as JSON holds it."""
    floating = [p.dtype for p in proof.swapped.parameters() if p.is_floating_point()]
    return {
        "texts": {file: data.decode("latin-1") for file, data in texts.items()},
        "scripts": [asdict(script) for script in proof.scripts],
        "builder": proof.builder.asked() if proof.builder is not None else "",
        "facts": facts_of(proof.swapped, proof.sites),
        "sites": list(proof.sites),
        "double": bool(floating) and set(floating) == {torch.float64},
        "seed": proof.seed,
    }


def runs_of(proof: Proof) -> list[dict[str, Any]]:
    """Return the inputs of each call with the outputs of the swapped model."""
    if proof.runs is not None:
        return proof.runs
    found = []
    for call in proof.calls:
        with ready(proof.swapped, Case(call), proof.seed) as (args, kwargs, dtype):
            given = map_leaves(_copied, [args, kwargs])
            outputs = run_model(proof.swapped, args, kwargs, dtype=dtype, stand_ins=None)
            flat = [one.detach().cpu() for one in live_tensors(outputs)]
        found.append({"args": list(given[0]), "kwargs": dict(given[1]), "outputs": flat})
    return found


def _copied(leaf: Any) -> Any:
    return leaf.detach().cpu().clone() if torch.is_tensor(leaf) else leaf


def prove(proof: Proof, texts: Mapping[str, bytes]) -> Proved:
    """Build, fill, compare and run the model of changed texts in a fresh process.

    Raises:
        ProofError: If its classes, options, ties, names, shapes or outputs differ.
    """
    asked = request_of(proof, texts)
    with TemporaryDirectory() as name:
        folder = Path(name)
        torch.serialization.save(proof.swapped.state_dict(), folder / "weights.pt")
        torch.serialization.save(runs_of(proof), folder / "calls.pt")
        (folder / "asked.json").write_text(json.dumps(asked))
        done = subprocess.run(  # noqa: S603 - this interpreter runs code of ours
            [sys.executable, "-c", _CHILD, name, json.dumps(sys.path)],
            capture_output=True,
            text=True,
            check=False,
        )
        answer = folder / "answer.json"
        said = json.loads(answer.read_text()) if answer.is_file() else crashed(done.stderr)
    return judged(said, proof, asked)


def crashed(text: str) -> dict[str, str]:
    """Return the answer of a process that gave none, by the last line of its errors."""
    lines = text.strip().splitlines()
    return {"error": f"the process ended: {lines[-1] if lines else 'without a word'}"[:300]}


def judged(said: Mapping[str, Any], proof: Proof, asked: Mapping[str, Any]) -> Proved:
    """Return the proof that an answer holds, or raise a `ProofError`."""
    error = said.get("error", "")
    apart = 0.0 if error else said["apart"] / max(1.0, said["largest"])
    if not apart <= TOLERANCE:
        error = f"outputs differ by {said['apart']:.3g}"
    if error:
        what = f"the changed source is not proved: {error}"
        raise ProofError(what, str(proof.builder), "see `--standalone FILE`, or report the model")
    return Proved(float(apart), len(asked["facts"]["class"]))


def changed_texts(files: Sequence[Any]) -> dict[str, bytes]:
    """Return the new bytes of changed files, by their names."""
    return {one.file: one.after for one in files}
