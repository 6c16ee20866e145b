"""Compare the results of a module in several layouts, on small random inputs."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn

from modswap.core.seen.site import Call, Layout, Site
from modswap.core.seen.values import TensorInfo
from modswap.live_values import live_tensors
from modswap.nn.custom.trial import RefusedError, random_inputs
from modswap.nn.fit.inputs import first_map
from modswap.seeds import seeded

SIDES = ((4, 6), (8, 12))  # heights and widths of small maps; tokens are a square
MAX_ELEMENTS = 1 << 20  # of the tensors of a call that is run
MAX_WEIGHTS = 1 << 26  # of a module that is copied
TOLERANCE = 1e-3  # relative


def same_results(
    site: Site, module: nn.Module, around: Sequence[Callable[[nn.Module], nn.Module]]
) -> bool:
    """Return whether a module gives the same results inside each of several adapters.

    Its weights are drawn at random, as a layer that begins at zero hides a difference. False where
    no call runs in all of them, so that nothing is known.
    """
    with seeded(0), torch.no_grad():
        drawn = _drawn(module)
        adapters = [] if drawn is None else [adapter(drawn) for adapter in around]
        for call in _small(site):
            results = [_outputs(adapter, call) for adapter in adapters]
            if results and all(results):
                return all(_near(results[0], other) for other in results[1:])
    return False


def _drawn(module: nn.Module) -> nn.Module | None:
    """Return a copy of a module with random weights; None if it is large or cannot be copied."""
    held = module.state_dict().values()  # an extra state may be any object
    if sum(value.numel() for value in held if torch.is_tensor(value)) > MAX_WEIGHTS:
        return None
    try:
        drawn = copy.deepcopy(module).float().eval()
    except Exception:  # noqa: BLE001 - a module of the user's may hold anything
        return None
    for parameter in drawn.parameters():
        parameter.normal_(std=0.3)
    return drawn


def _outputs(module: nn.Module, call: Call) -> list[torch.Tensor]:
    """Return the outputs of a module for random inputs; none where it raises."""
    try:
        with seeded(1):
            args, kwargs = random_inputs(call)
            return live_tensors(module(*args, **kwargs))
    except (RefusedError, Exception):  # noqa: BLE001 - a module of the user's may raise anything
        return []


def _near(some: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> bool:
    if [tensor.shape for tensor in some] != [tensor.shape for tensor in others]:
        return False
    pairs = zip(some, others, strict=True)
    return all(torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE) for a, b in pairs)


def _small(site: Site) -> Iterator[Call]:
    """Yield the site's first call with small maps, then as it is."""
    call = site.calls[0]
    name, tensor = first_map(site, call)
    if site.layout is not None and site.grid is None:
        shapes = (_sized(tensor.shape, site.layout, *sides) for sides in SIDES)
        yield from (_with_map(call, name, replace(tensor, shape=shape)) for shape in shapes)
    if torch.Size(tensor.shape).numel() <= MAX_ELEMENTS:
        yield call


def _sized(shape: tuple[int, ...], layout: Layout, high: int, wide: int) -> tuple[int, ...]:
    match layout:
        case "NCHW":
            return (shape[0], shape[1], high, wide)
        case "NHWC":
            return (shape[0], high, wide, shape[3])
    return (shape[0], high * high, shape[2])


def _with_map(call: Call, name: str, probe: TensorInfo) -> Call:
    """Return a call with another tensor for its map, and for inputs that are the same tensor."""
    names = {name, *call.repeats(name)}
    args = tuple(probe if str(i) in names else value for i, value in enumerate(call.args))
    kwargs = tuple((key, probe if key in names else value) for key, value in call.kwargs)
    return replace(call, args=args, kwargs=kwargs)
