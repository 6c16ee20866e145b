"""Prove that a standalone file loads the swapped model, in a process without modswap."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from modswap.core.errors import ProofError, UsageError
from modswap.core.kept.code_change import StandaloneFile
from modswap.ops.code.building.builder import shapes_of
from modswap.ops.code.building.swapped import Swapped
from modswap.ops.code.proof.child import difference_of, size_of
from modswap.ops.code.proof.prove import TOLERANCE, Proof, crashed, runs_of
from modswap.ops.code.standalone.write import Standalone

_CHILD = """
import importlib.util, json, os, sys

folder = sys.argv[1]
with open(os.path.join(folder, "asked.json")) as stream:
    asked = json.load(stream)
sys.path[:] = asked["path"]


class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in asked["blocked"]:
            raise ModuleNotFoundError(f"the file imports {name}")


sys.meta_path.insert(0, Blocked())
import torch

spec = importlib.util.spec_from_file_location("standalone_model", asked["file"])
module = importlib.util.module_from_spec(spec)
sys.modules["standalone_model"] = module
spec.loader.exec_module(module)
model = module.load(asked["weights"]) if hasattr(module, "load") else module.model
double = any(p.dtype is torch.float64 for p in model.parameters())
if any(p.dtype in (torch.float16, torch.bfloat16) for p in model.parameters()) and asked["float"]:
    model = model.float()


def flat(value):
    if torch.is_tensor(value):
        return [value]
    if hasattr(value, "__dataclass_fields__"):
        value = {name: getattr(value, name, None) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        value = list(value.values())
    return [t for one in value for t in flat(one)] if isinstance(value, (list, tuple)) else []


outputs = []
for call in torch.load(os.path.join(folder, "calls.pt"), weights_only=True):
    torch.manual_seed(asked["seed"])
    with torch.no_grad():
        outputs.append([t.cpu() for t in flat(model.eval()(*call["args"], **call["kwargs"]))])
torch.save(outputs, os.path.join(folder, "outputs.pt"))
names = {n: list(t.shape) for n, t in model.state_dict().items() if torch.is_tensor(t)}
with open(os.path.join(folder, "answer.json"), "w") as stream:
    json.dump({"names": names}, stream)
"""


def refuse_exported(made: Swapped) -> None:
    """Refuse an archive of torch.export, which runs without modswap as it is."""
    if made.loaded.container.format == "torch.export":
        what = "it holds an exported program, which has no source and runs without modswap"
        fix = f"load it by torch.export.load({made.subject.file.name!r})"
        raise UsageError(what, str(made.subject.file), fix)


def proved_standalone(made: Swapped, written: Standalone, *, whole: bool) -> StandaloneFile:
    """Return the file's text once it has loaded the model in a process without modswap.

    Raises:
        ProofError: If it cannot be imported, or its model has other names, shapes or outputs.
    """
    proof = Proof(made.model, made.sites, None, (), made.calls, made.seed)
    runs = runs_of(proof)
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.py").write_text(written.text, encoding="utf-8")
        weights = _weights(made, folder, whole=whole)
        asked = {
            "path": sys.path,
            "blocked": written.modules,
            "file": str(folder / "model.py"),
            "weights": str(weights),
            "seed": made.seed,
            "float": True,
        }
        torch.serialization.save(runs, folder / "calls.pt")
        (folder / "asked.json").write_text(json.dumps(asked))
        done = subprocess.run(  # noqa: S603 - this interpreter runs code of ours
            [sys.executable, "-c", _CHILD, name], capture_output=True, text=True, check=False
        )
        answer = folder / "answer.json"
        said = json.loads(answer.read_text()) if answer.is_file() else crashed(done.stderr)
        apart = _apart(said, made, runs, folder)
    return StandaloneFile(written.text, apart, written.notes)


def _weights(made: Swapped, folder: Path, *, whole: bool) -> Path:
    """Return the file to load: the one that was named if it holds the swap, else one like it."""
    if made.recorded:
        return made.subject.file.absolute()
    file = folder / "out.pt"
    value: Any = made.model if whole else made.model.state_dict()
    slot = made.loaded.container.slots[0]
    if not whole:
        value = {f"{slot.prefix}{name}": tensor for name, tensor in value.items()}
    for key in reversed(slot.keys):
        value = {key: value}
    torch.serialization.save(value, file)
    return file


def _apart(
    said: Mapping[str, Any], made: Swapped, runs: list[dict[str, Any]], folder: Path
) -> float:
    """Return how far the outputs are from those of the swapped model, or raise a `ProofError`.

    That is the largest difference over the largest output or 1.
    """
    error = said.get("error", "")
    apart = largest = 0.0
    if not error:
        # a file of the process that was asked, in a folder of its own
        outputs = torch.serialization.load(folder / "outputs.pt", weights_only=True)  # noqa: TID251 - as said above
        error = _other_names(made, said["names"])
        for got, run in zip(outputs, runs, strict=True):
            if [tuple(one.shape) for one in got] != [tuple(one.shape) for one in run["outputs"]]:
                error = error or "its outputs have other shapes"
                break
            for one, want in zip(got, run["outputs"], strict=True):
                apart = max(apart, difference_of(one, want))
                largest = max(largest, size_of(want))
    if not error and not apart / max(1.0, largest) <= TOLERANCE:
        error = f"outputs differ by {apart:.3g}"
    if error:
        what = f"the standalone file is not proved: {error}"
        raise ProofError(what, str(made.subject.file), "report the model")
    return apart / max(1.0, largest)


def _other_names(made: Swapped, names: Mapping[str, Any]) -> str:
    """Return in words the first tensor of another name or shape, or nothing."""
    wanted = {n: list(s) for n, s in shapes_of(made.model).items() if isinstance(s, tuple)}
    found = next((n for n in {**wanted, **names} if wanted.get(n) != names.get(n)), "")
    return f"its tensor {found} differs" if found else ""
