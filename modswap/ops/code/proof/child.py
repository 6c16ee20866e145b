"""A fresh process that builds a model of changed source and compares it with the swapped one."""

import json
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import torch
from torch import nn

from modswap.core.asked.scripts.script import Script, load_script
from modswap.core.errors import ModswapError
from modswap.live_values import live_tensors
from modswap.ops.code.building.builder import Builder
from modswap.ops.code.proof.facts import facts_of, first_difference
from modswap.ops.run.describe import one_line
from modswap.seeds import seeded


class ServedLoader(SourceFileLoader):
    """Loads a module from a text that is not in its file, and no bytecode of the old one."""

    def __init__(self, name: str, path: str, data: bytes) -> None:
        super().__init__(name, path)
        self.data = data

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the text, compiled under the file's name."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.data, path)

    def get_data(self, path: str) -> bytes:  # noqa: ARG002 - the interface of loaders
        """Return the text."""
        return self.data


class ServedFinder(MetaPathFinder):
    """Finds modules where they are, and gives changed texts in place of some files."""

    def __init__(self, texts: Mapping[str, bytes]) -> None:
        self.texts = {str(Path(file).resolve()): data for file, data in texts.items()}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module whose file is changed, else None."""
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or not spec.origin or not spec.has_location:
            return None
        data = self.texts.get(str(Path(spec.origin).resolve()))
        if data is None:
            return None
        spec.loader = ServedLoader(fullname, spec.origin, data)
        return spec


def compare(asked: Mapping[str, Any], weights: Any, calls: Sequence[Any]) -> dict[str, Any]:
    """Build the model and return how far it is from the swapped one, or an error in words."""
    texts = {file: text.encode("latin-1") for file, text in asked["texts"].items()}
    sys.meta_path.insert(0, ServedFinder(texts))
    try:
        for one in asked["scripts"]:
            script = Script(one["file"], tuple(one["names"]), one["module"])
            load_script(script, texts.get(one["file"]))
        with seeded(0):
            model = Builder(**json.loads(asked["builder"]))()
        if asked["double"]:
            model.double()
        model.load_state_dict(weights, strict=True)
        if difference := first_difference(asked["facts"], facts_of(model, asked["sites"])):
            return {"error": difference}
        return _outputs(model, calls, asked["seed"])
    except ModswapError as error:
        return {"error": error.what}
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything
        return {"error": one_line(error, 300)}
    finally:
        del sys.meta_path[0]


def _outputs(model: nn.Module, calls: Sequence[Any], seed: int) -> dict[str, Any]:
    """Return the largest difference of the outputs of all calls, and the largest output."""
    apart = largest = 0.0
    for call in calls:
        with torch.no_grad(), seeded(seed):
            got = live_tensors(model.eval()(*call["args"], **call["kwargs"]))
        if [tuple(one.shape) for one in got] != [tuple(one.shape) for one in call["outputs"]]:
            return {"error": "its outputs have other shapes"}
        for one, want in zip(got, call["outputs"], strict=True):
            apart = max(apart, difference_of(one, want))
            largest = max(largest, size_of(want))
    return {"apart": apart, "largest": largest}


def difference_of(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest absolute difference; equal infinities and two NaNs differ by nothing."""
    if not one.numel():
        return 0.0
    if one.is_complex():
        one, other = torch.view_as_real(one), torch.view_as_real(other)
    one, other = one.double(), other.double()
    same = (one == other) | (one.isnan() & other.isnan())
    apart = torch.where(same, 0.0, (one - other).abs()).nan_to_num(float("inf"), float("inf"))
    return float(apart.max())


def size_of(tensor: torch.Tensor) -> float:
    """Return the largest finite number in a tensor, without its sign."""
    if not tensor.numel():
        return 0.0
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return float(tensor.double().nan_to_num(0.0, 0.0, 0.0).abs().max())


def main() -> None:
    """Read the request that the first argument names, and write the answer beside it."""
    folder = Path(sys.argv[1])
    asked = json.loads((folder / "asked.json").read_text())
    sys.dont_write_bytecode = True
    # files of the process that asks, in a folder of its own
    weights = torch.serialization.load(folder / "weights.pt", weights_only=True)  # noqa: TID251 - as said above
    calls = torch.serialization.load(folder / "calls.pt", weights_only=True)  # noqa: TID251 - as said above
    (folder / "answer.json").write_text(json.dumps(compare(asked, weights, calls)))
