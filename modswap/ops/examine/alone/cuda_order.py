"""Operations whose results depend on the order in which a GPU adds, as torch documents them.

They are found without a GPU: in the log of a forward pass, and in the graph that it leaves for the
backward pass. Torch's list is in the documentation of `torch.use_deterministic_algorithms`.
Convolutions are not in this table: that option makes all of them deterministic.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from modswap.live_values import live_tensors
from modswap.ops.examine.alone.inputs import CallInputs
from modswap.ops.run.isolation import untouched
from modswap.seeds import seeded

_OWN = "modswap"  # operators of the catalogue, which add in a fixed order on a GPU


class Operation(NamedTuple):
    """An operation that adds in any order on a GPU."""

    name: str  # as torch's documentation calls it
    instead: str  # an alternative that adds in a fixed order
    refused: bool = True  # whether torch has no deterministic kernel for it at all


_WINDOWS = "pool windows of equal size with `avg_pool2d`, or take the mean"
_NEAREST = "`mode='nearest'`, or a transposed convolution"
_PAD = "`mode='constant'`"
_UNPOOL = "`interpolate` to the nearest, or a transposed convolution"
_PICK = "pick by a product with a one-hot matrix"
_OPTION = "`torch.use_deterministic_algorithms(True)` makes it add in a fixed order"

# by the name of the node that the backward pass runs, less its number
_BACKWARD: Mapping[str, Operation] = {
    "AvgPool3DBackward": Operation("avg_pool3d", "a convolution with equal weights"),
    "AdaptiveAvgPool2DBackward": Operation("adaptive_avg_pool2d", _WINDOWS),
    "AdaptiveAvgPool3DBackward": Operation("adaptive_avg_pool3d", _WINDOWS),
    "AdaptiveMaxPool2DBackward": Operation("adaptive_max_pool2d", "`max_pool2d`, or `amax`"),
    "AdaptiveMaxPool3DBackward": Operation("adaptive_max_pool3d", "`amax` over windows"),
    "FractionalMaxPool2DBackward": Operation("fractional_max_pool2d", "`max_pool2d`"),
    "FractionalMaxPool3DBackward": Operation("fractional_max_pool3d", "`max_pool2d`"),
    "MaxUnpool2DBackward": Operation("max_unpool2d", _UNPOOL),
    "MaxUnpool3DBackward": Operation("max_unpool3d", _UNPOOL),
    "UpsampleLinear1DBackward": Operation("interpolate, linear", _NEAREST),
    "UpsampleBilinear2DBackward": Operation("interpolate, bilinear", _NEAREST),
    "UpsampleBilinear2DAaBackward": Operation("interpolate, bilinear", _NEAREST),
    "UpsampleBicubic2DBackward": Operation("interpolate, bicubic", _NEAREST),
    "UpsampleBicubic2DAaBackward": Operation("interpolate, bicubic", _NEAREST),
    "UpsampleTrilinear3DBackward": Operation("interpolate, trilinear", _NEAREST),
    "ReflectionPad1DBackward": Operation("reflection_pad1d", _PAD),
    "ReflectionPad2DBackward": Operation("reflection_pad2d", _PAD),
    "ReflectionPad3DBackward": Operation("reflection_pad3d", _PAD),
    "GridSampler2DBackward": Operation("grid_sample", "a fixed resampling, or a convolution"),
    "GridSampler3DBackward": Operation("grid_sample", "a fixed resampling, or a convolution"),
    "NllLossBackward": Operation("nll_loss", "a sum of `log_softmax` times a one-hot target"),
    "NllLoss2DBackward": Operation("nll_loss", "a sum of `log_softmax` times a one-hot target"),
    "CtcLossBackward": Operation("ctc_loss", "the loss on the CPU"),
    "ReplicationPad1DBackward": Operation("replication_pad1d", _OPTION, refused=False),
    "ReplicationPad2DBackward": Operation("replication_pad2d", _OPTION, refused=False),
    "ReplicationPad3DBackward": Operation("replication_pad3d", _OPTION, refused=False),
    "MaxPool3DWithIndicesBackward": Operation("max_pool3d", _OPTION, refused=False),
    "GatherBackward": Operation("gather", _OPTION, refused=False),
    "IndexSelectBackward": Operation("index_select", _OPTION, refused=False),
}
# by the operator that the forward pass calls
_FORWARD: Mapping[str, Operation] = {
    "aten::cumsum": Operation("cumsum", "a product with a triangular matrix of ones"),
    "aten::put": Operation("put_", "`index_put` with indices that differ"),
    "aten::histc": Operation("histc", "comparisons with the edges, and a sum"),
    "aten::bincount": Operation("bincount with weights", "a product with a one-hot matrix"),
    "aten::median": Operation("median", "`sort`, and its middle"),
    "aten::scatter_add": Operation("scatter_add", _OPTION, refused=False),
    "aten::scatter_reduce": Operation("scatter_reduce", _OPTION, refused=False),
    "aten::index_add": Operation("index_add", _OPTION, refused=False),
    "aten::index_copy": Operation("index_copy", _OPTION, refused=False),
}


class _Log(TorchDispatchMode):
    """Records the operators that add in any order on a GPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's own
        self.found: dict[Operation, None] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        operation = _FORWARD.get(func.name().partition(".")[0].removesuffix("_"))
        if operation is not None and _adds(func, args, kwargs):
            self.found[operation] = None
        operation = _BACKWARD.get(_node_of(func.name()))
        if operation is not None:
            self.found[operation] = None
        return func(*args, **kwargs)


def _node_of(operator: str) -> str:
    """Return the node that calls a backward operator: aten::upsample_linear1d_backward."""
    name = operator.removeprefix("aten::").partition(".")[0].lstrip("_")
    words = (word[:1].upper() + word[1:] for word in name.split("_"))
    return "".join(words).replace("1d", "1D").replace("2d", "2D").replace("3d", "3D")


def _adds(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether a call adds, as some do with floating numbers, weights or indices alone."""
    name = func.name().partition(".")[0]
    if name == "aten::bincount":
        return len(args) > 1 or kwargs.get("weights") is not None
    if name == "aten::median":  # without an axis it has no indices
        return len(args) > 1 or "dim" in kwargs
    return bool(args) and torch.is_tensor(args[0]) and not _is_whole(args[0])


def _is_whole(tensor: torch.Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex())


def unordered(module: nn.Module, inputs: CallInputs) -> tuple[Operation, ...]:
    """Return the operations of a training pass that add in any order on a GPU.

    The backward pass runs only if the module brings a backward function of its own.
    """
    with untouched(module, training=True), seeded(0), torch.enable_grad(), _Log() as log:
        leaves = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs.leaves]
        args, kwargs = inputs.live([x * 1 if x.requires_grad else x for x in leaves])
        outputs = [y for y in live_tensors(module(*args, **kwargs)) if y.requires_grad]
        nodes = list(_nodes(outputs))
        if any(map(_is_own_function, nodes)):
            torch.autograd.backward(outputs, [torch.ones_like(y) for y in outputs])
    module.zero_grad(set_to_none=True)
    named = (_BACKWARD.get(type(node).__name__.rstrip("0123456789")) for node in nodes)
    return tuple(dict.fromkeys(chain(log.found, filter(None, named))))


def _nodes(outputs: list[torch.Tensor]) -> Iterator[Any]:
    """Yield the nodes of the graph that the backward pass from outputs would run, each once."""
    waiting: list[Any] = [y.grad_fn for y in outputs]
    seen: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [before for before, _ in node.next_functions]


def _is_own_function(node: Any) -> bool:
    """Return whether Python code runs backward, whose operators are not known from the graph."""
    cls = type(node)
    named = f"{cls.__module__}.{cls.__qualname__}"
    return isinstance(node, torch.autograd.function.BackwardCFunction) and _OWN not in named
