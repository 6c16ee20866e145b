"""Inputs that a file or its model says of itself: a size in its settings, an example, a recipe."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from math import prod
from typing import Any, NamedTuple

from torch import nn

from modswap.core.asked.recipe import TensorInput
from modswap.core.errors import ModswapError
from modswap.core.words.printable import tame
from modswap.io.formats.container import Container
from modswap.io.recipe.embedded import MAX_INPUT_ELEMENTS, embedded_inputs
from modswap.live_values import live_tensors
from modswap.ops.first_input.settings import CHANNELS, SETTINGS, SIDES, PictureSize, sizes_in
from modswap.ops.first_input.transformers import named_calls
from modswap.ops.first_input.usual import beside, needed_names, picture_channels
from modswap.ops.load.hub_config import CONFIG, read_config
from modswap.ops.load.model import Loaded
from modswap.ops.run.inputs import DummyCall, calls_of, example_calls

# parts of a model that may take its input
PARTS = ("patch_embed", "embeddings", "stem", "encoder", "backbone", "visual", "model", "net")
MAX_PARTS = 200  # of a model that are looked at
DEFAULT_SIDE = {"ultralytics": 640}  # of libraries that leave it out of their files


class Said(NamedTuple):
    """Calls that a file says its model takes, and where it says so."""

    calls: tuple[DummyCall, ...]
    why: str


def said_calls(loaded: Loaded) -> Iterator[Said]:
    """Yield the calls that a file or its model says of itself, the surest first."""
    model, container = loaded.model, loaded.container
    inside = embedded_inputs(container.recipe, str(container.file)) if container.recipe else ()
    if inside:
        yield Said(calls_of(inside), "as the recipe inside the file says")
    for call in example_calls(model):
        yield Said((call,), "the example inputs of the archive")
    yield from said_of_model(model, _of_file(loaded))


def said_of_model(model: nn.Module, sizes: Iterable[PictureSize] = ()) -> Iterator[Said]:
    """Yield the calls that a model says of itself; `sizes` are those that its file says."""
    yield from _examples(model)
    for call, name in named_calls(model):
        yield Said((call,), tame(f"as its {name} and config say"))
    for found in (*sizes, *_of_model(model)):
        yield from _pictures(model, found)
    side = DEFAULT_SIDE.get(type(model).__module__.partition(".")[0])
    if side is not None:
        yield from _pictures(
            model, PictureSize((side, side), None, "", "the default of its library")
        )


def _examples(model: nn.Module) -> Iterator[Said]:
    """Yield the example that a model of Lightning holds."""
    with suppress(Exception):  # code of the model's own
        example: Any = model.example_input_array
        if example is None or not 0 < _elements(example) <= MAX_INPUT_ELEMENTS:
            return
        why = "the model's own example_input_array"
        if isinstance(example, Mapping):
            yield Said((DummyCall((), dict(example)).described(),), why)
        else:
            args = tuple(example) if isinstance(example, (tuple, list)) else (example,)
            yield Said((DummyCall(args, {}).described(),), why)


def _elements(value: Any) -> int:
    return sum(tensor.numel() for tensor in live_tensors(value))


def _pictures(model: nn.Module, size: PictureSize) -> Iterator[Said]:
    """Yield calls with a picture of a size, its channels those of the first layer if they fit."""
    if not any(isinstance(module, (nn.Conv2d, nn.Linear)) for module in model.modules()):
        return
    names = needed_names(model)
    others = beside(names, model)
    if len(others) != len(names) - 1:
        return
    why = f"as {size.key} in {size.where} says" if size.key else size.where
    for channels in picture_channels(model, size.channels):
        if channels * prod(size.sides) <= MAX_INPUT_ELEMENTS:
            picture = TensorInput(shape=(1, channels, *size.sides))
            yield Said((DummyCall((picture, *others), {}),), tame(why))


def _of_file(loaded: Loaded) -> Iterator[PictureSize]:
    """Yield the sizes in what a file holds beside its model, and in a folder's config.json."""
    for settings, where in settings_of_file(loaded.container):
        yield from sizes_in(settings, where)


def _of_model(model: nn.Module) -> Iterator[PictureSize]:
    """Yield the sizes in the attributes of a model and of the parts that may take its input."""
    for settings, where in settings_of_model(model):
        yield from sizes_in(settings, where)


def settings_of_file(container: Container) -> Iterator[tuple[Mapping[Any, Any], str]]:
    """Yield the settings in a folder's config.json and beside a file's model, and their place."""
    file = container.file
    if file.is_dir():
        with suppress(ModswapError):  # whoever needs it says that it is damaged
            yield read_config(file) or {}, f"the folder's {CONFIG}"
    if isinstance(container.payload, Mapping):
        yield container.payload, "the file"


def settings_of_model(model: nn.Module) -> Iterator[tuple[Mapping[Any, Any], str]]:
    """Yield the settings in the attributes of a model and of the parts that may take its input."""
    parts = [("", model)]
    for path, module in islice(parts, MAX_PARTS):  # grows while it runs
        own = {key: vars(module).get(key) for key in (*SIDES, *CHANNELS, *SETTINGS)}
        where = f"the model's {path}" if path else "the model"
        yield {key: value for key, value in own.items() if value is not None}, where
        if path.count(".") < 2:  # as deep as the wrappers of libraries go
            for name in PARTS:
                child = module._modules.get(name)  # noqa: SLF001 - torch names it so
                if child is not None:
                    parts.append((f"{path}.{name}" if path else name, child))
