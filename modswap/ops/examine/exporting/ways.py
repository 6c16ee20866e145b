"""The ways to export a model; each returns the function that runs the exported model."""

import shutil
import sysconfig
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.jit._trace import TracerWarning
from torch.utils._pytree import tree_flatten, tree_unflatten

from modswap.live_values import live_tensors
from modswap.ops.examine.exporting.messages import Warned

Tensors = tuple[torch.Tensor, ...]
Run = Callable[[Tensors], Sequence[torch.Tensor]]
Axes = tuple[tuple[int, ...], ...]  # for each input the axes whose size may vary
NEEDED = {"onnx": ("onnx", "onnxscript")}


class Flat(nn.Module):
    """A model that takes tensors alone, the other values of a call kept, and returns tensors."""

    def __init__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.leaves, self.structure = tree_flatten((args, kwargs))
        self.places = [i for i, leaf in enumerate(self.leaves) if torch.is_tensor(leaf)]
        self.leaves = [None if torch.is_tensor(leaf) else leaf for leaf in self.leaves]
        self.training = False

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        """Return the output tensors of the model, depth first."""
        leaves = list(self.leaves)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = tree_unflatten(leaves, self.structure)
        return tuple(live_tensors(self.model(*args, **kwargs)))


def missing(way: str) -> tuple[str, ...]:
    """Return the packages that a way needs and that are not installed."""
    return tuple(name for name in NEEDED.get(way, ()) if find_spec(name) is None)


def torchscript(model: Flat, example: Tensors, _: Axes, heard: list[Warned]) -> Run:
    """Trace a model: torch records the operations of one run, and some sizes as constants.

    `heard` receives the warnings of torch on the model's code.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", category=TracerWarning)
        traced: Any = torch.jit.trace(model, example, check_trace=False, strict=False)
    heard += [(w.filename, w.lineno, str(w.message).partition(".")[0]) for w in caught]
    stored = BytesIO()
    torch.jit.save(traced, stored)
    stored.seek(0)
    loaded = torch.jit.load(stored)
    return lambda tensors: cast("Sequence[torch.Tensor]", loaded(*tensors))


def pt2(model: Flat, example: Tensors, axes: Axes, _: list[Warned]) -> Run:
    """Export a model by `torch.export`, the sizes of some axes left open."""
    program = torch.export.export(model, example, dynamic_shapes=_open(axes))
    module = program.module()
    return lambda tensors: cast("Sequence[torch.Tensor]", module(*tensors))


def onnx(model: Flat, example: Tensors, axes: Axes, _: list[Warned]) -> Run:
    """Export a model to ONNX, and run it by onnxruntime, else by ONNX's own reference."""
    program: Any = torch.onnx.export(
        model, example, dynamo=True, dynamic_shapes=_open(axes), verbose=False
    )
    proto = program.model_proto
    names = [value.name for value in proto.graph.input]
    run = _onnx_session(proto)

    def called(tensors: Tensors) -> list[torch.Tensor]:
        # inputs that the graph does not use are left out of it
        given = {name: t.numpy() for name, t in zip(names, tensors, strict=False)}
        return [torch.as_tensor(value) for value in run(given)]

    return called


def _onnx_session(proto: Any) -> Callable[[dict[str, Any]], Sequence[Any]]:
    if find_spec("onnxruntime") is None:
        from onnx.reference import ReferenceEvaluator

        evaluator: Any = ReferenceEvaluator(proto)
        return lambda given: cast("Sequence[Any]", evaluator.run(None, given))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda given: cast("Sequence[Any]", session.run(None, given))


def compiled(model: Flat, example: Tensors, _: Axes, __: list[Warned]) -> Run:
    """Compile a model; torch compiles again for sizes that are new to it."""
    from torch._inductor import config

    torch.compiler.reset()  # torch counts how often the forward of a class was compiled
    run: Any = torch.compile(model, backend="inductor" if _compiler() else "aot_eager")

    def called(tensors: Tensors) -> Sequence[torch.Tensor]:
        with config.patch(compile_threads=1):  # no worker processes, which would remain
            return cast("Sequence[torch.Tensor]", run(*tensors))

    called(example)
    return called


def _compiler() -> bool:
    """Return whether there is a C++ compiler for the code that torch generates."""
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return header.is_file() and any(map(shutil.which, ("g++", "clang++", "c++")))


def _open(axes: Axes) -> tuple[tuple[dict[int, Any], ...]] | None:
    """Return the dynamic shapes of torch.export; None where every size is fixed."""
    if not any(axes):
        return None
    return (tuple(dict.fromkeys(each, torch.export.Dim.AUTO) for each in axes),)


WAYS: dict[str, Callable[[Flat, Tensors, Axes, list[Warned]], Run]] = {
    "torchscript": torchscript,
    "onnx": onnx,
    "pt2": pt2,
    "compile": compiled,
}
