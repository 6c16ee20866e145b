"""Inputs that models of many kinds take, by their first layers and the names of their arguments."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from torch import nn

from modswap.core.asked.recipe import Dtype, TensorInput
from modswap.ops.run.inputs import DummyCall

# sides of pictures, in the order in which they are tried
SIDES = (224, 256, 640, 28, 32, 64, 128, 384, 448, 512, 299, 96, 112, 160, 192, 320, 336, 48, 16)
LENGTHS = (16, 32, 64, 128, 77, 8, 512)  # of token sequences
VOLUMES = ((16, 112, 112), (32, 32, 32), (64, 64, 64), (8, 64, 64))  # depth or frames first
SIGNALS = (1024, 16000, 256, 128, 32)  # lengths of what a Conv1d takes
MAX_INPUTS = 4  # of one call
MAX_CHANNELS = 16  # of a picture whose layer is not registered first
MAX_CHOICES = 6  # of channels that are tried
CONTEXT_TOKENS = 77  # of a text beside a picture
STEPS = frozenset(("t", "step", "time", "times", "timestep", "timesteps", "time_steps"))
LISTS = frozenset(("images", "image_list"))  # of pictures, each without a batch
CONTEXTS = frozenset(("encoder_hidden_states", "context"))


class Usual(NamedTuple):
    """A call that models often take, and the reason for its sizes."""

    call: DummyCall
    why: str


def usual_calls(model: nn.Module) -> Iterator[Usual]:
    """Yield calls with as many tensors as the model needs, of shapes that its layers accept."""
    names = needed_names(model)
    own = _first_layer(model)
    if names[0] in LISTS and own is not None:
        for picture in own.accepted[: len(LISTS)]:
            single = TensorInput(shape=picture.shape[1:])
            yield Usual(DummyCall(([single],), {}), f"a list, as the name {names[0]!r} says")
    for layers in _choices(model, own, len(names)):
        for row in zip(*(layer.accepted for layer in layers), strict=False):
            why = f"a usual one, with the sizes of the first layer {layers[0].path!r:.120}"
            yield Usual(DummyCall(_with_names(row, names, model), {}), why)
    yield from _without_a_clue(model, names)


def _choices(model: nn.Module, own: "_Layer | None", count: int) -> "Iterator[list[_Layer]]":
    """Yield the layers that tensors of a call may go into: all into the first, or one each."""
    if own is not None:
        yield [own] * count
    of_children = [found for child in model.children() if (found := _first_layer(child))]
    if count > 1 and of_children:
        yield (of_children * count)[:count]


def needed_names(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the inputs without a default of a model's forward, at least one."""
    needed = [one.name for one in _parameters(model) if one.default is one.empty]
    return tuple(needed[:MAX_INPUTS]) or ("",)


def first_name(model: nn.Module) -> str:
    """Return the name of the first input of a model's forward."""
    return next(iter(input_names(model)), "")


def input_names(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the positional inputs of a model's forward."""
    return tuple(one.name for one in _parameters(model))


def _parameters(model: nn.Module) -> list[inspect.Parameter]:
    """Return the positional inputs of a model's forward; none where it does not show them."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return [one for one in parameters if one.kind in kinds]


def beside(names: Sequence[str], model: nn.Module) -> tuple[Any, ...]:
    """Return values for the inputs behind the first, by their names; () if a name is unknown."""
    values = tuple(_by_name(name, model) for name in names[1:])
    return () if None in values else values


def picture_channels(model: nn.Module, said: int | None = None) -> list[int]:
    """Return numbers of channels that pictures may have, the likeliest first.

    They are those of the first layer, as `said`, 3, 1, and few ones of layers registered later.
    """
    found = [m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
    few = sorted({number for number in found if number <= MAX_CHANNELS})
    numbers = (n for n in (*found[:1], said, 3, 1, *few) if n and n > 0)
    return list(dict.fromkeys(numbers))[:MAX_CHOICES]


class _Layer(NamedTuple):
    """The first layer of a module that shows what goes in."""

    path: str
    accepted: Sequence[TensorInput]


def _first_layer(model: nn.Module) -> _Layer | None:
    for path, module in model.named_modules():
        accepted = _accepted(module)
        if accepted:
            return _Layer(path, accepted)
    return None


def _accepted(module: nn.Module) -> list[TensorInput]:
    """Return tensors that a layer accepts; none for a layer that shows nothing."""
    for kinds, attribute, shapes in _LAYERS:
        if isinstance(module, kinds):
            dtype: Dtype = "float32" if attribute else "int64"
            features = getattr(module, attribute) if attribute else 1
            if not isinstance(features, int) or features < 1:  # a file may say anything
                return []
            return [TensorInput(shape=(1, *sizes), dtype=dtype) for sizes in shapes(features)]
    return []


def _tokens(features: int) -> list[tuple[int, ...]]:
    first, *others = ((length, features) for length in LENGTHS)
    return [first, (features,), *others]


_Kinds = tuple[type[nn.Module], ...]
_LAYERS: tuple[tuple[_Kinds, str, Callable[[int], list[tuple[int, ...]]]], ...] = (
    ((nn.Conv2d,), "in_channels", lambda n: [(n, side, side) for side in SIDES]),
    ((nn.BatchNorm2d,), "num_features", lambda n: [(n, side, side) for side in SIDES]),
    ((nn.Embedding, nn.EmbeddingBag), "", lambda _: [(length,) for length in LENGTHS]),
    ((nn.Linear,), "in_features", _tokens),
    ((nn.RNNBase,), "input_size", _tokens),
    ((nn.MultiheadAttention,), "embed_dim", _tokens),
    ((nn.Conv3d,), "in_channels", lambda n: [(n, *sides) for sides in VOLUMES]),
    ((nn.BatchNorm3d,), "num_features", lambda n: [(n, *sides) for sides in VOLUMES]),
    ((nn.Conv1d,), "in_channels", lambda n: [(n, length) for length in SIGNALS]),
    ((nn.BatchNorm1d,), "num_features", lambda n: [(n,), *((n, size) for size in SIGNALS)]),
)


def _tensor(*sizes: int) -> TensorInput:
    return TensorInput(shape=(1, *sizes))


def _with_names(
    row: Sequence[TensorInput], names: Sequence[str], model: nn.Module
) -> tuple[Any, ...]:
    """Return inputs, with another value in the place of one whose name shows what it is."""
    return tuple(
        value if number == 0 or (known := _by_name(names[number], model)) is None else known
        for number, value in enumerate(row)
    )


def _by_name(name: str, model: nn.Module) -> TensorInput | None:
    """Return the value of an input whose name says what it is, as `timestep`; None for others."""
    if name in STEPS:
        return TensorInput(shape=(1,), dtype="int64")
    config = vars(model).get("_internal_dict", {})  # of diffusers
    width = config.get("cross_attention_dim") if isinstance(config, dict) else None
    if name in CONTEXTS and isinstance(width, int):
        return _tensor(CONTEXT_TOKENS, width)
    return None


def _without_a_clue(model: nn.Module, names: Sequence[str]) -> Iterator[Usual]:
    """Yield pictures of other channels than the first layer's, which another layer may feed."""
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        for channels in picture_channels(model)[1:]:
            for side in SIDES[:4]:
                row = [_tensor(channels, side, side)] * len(names)
                yield Usual(DummyCall(_with_names(row, names, model), {}), "a usual one")
