"""Calls of models of transformers, by the name of their main input and their configuration."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from math import prod
from typing import Any

from torch import nn

from modswap.core.asked.recipe import TensorInput
from modswap.io.recipe.embedded import MAX_INPUT_ELEMENTS
from modswap.ops.first_input.settings import mapping_of, sizes_in, whole
from modswap.ops.first_input.usual import first_name, picture_channels
from modswap.ops.run.inputs import DummyCall

SPEECH_SAMPLES = 16000  # a second
WORDS = TensorInput(shape=(1, 16), dtype="int64")
DECODED = {"decoder_input_ids": TensorInput(shape=(1, 4), dtype="int64")}
_Named = dict[str, TensorInput]


def named_calls(model: nn.Module) -> Iterator[tuple[DummyCall, str]]:
    """Yield the calls that a model takes, with the name of its main input.

    Pictures alone are left to those who read sizes from any settings.
    """
    name: Any = None
    config: Mapping[Any, Any] | None = None
    with suppress(Exception):  # code of the model's own
        name, config = model.main_input_name, mapping_of(model.config)
    if not isinstance(name, str) or config is None or name not in _INPUTS:
        return
    more = DECODED if config.get("is_encoder_decoder") else {}
    for named in _INPUTS[name](model, config):
        kwargs = {**named, **more}
        if sum(prod(tensor.shape) for tensor in kwargs.values()) > MAX_INPUT_ELEMENTS:
            continue
        yield _call(model, name, kwargs), name


def _call(model: nn.Module, name: str, kwargs: _Named) -> DummyCall:
    """Return a call with tensors by name, or by position if the one is the first."""
    alone = len(kwargs) == 1 and first_name(model) == name
    return DummyCall(tuple(kwargs.values()), {}) if alone else DummyCall((), kwargs)


def _words(model: nn.Module, config: Mapping[str, Any]) -> Iterator[_Named]:
    if "vision_config" not in config:
        yield {"input_ids": WORDS}
        return
    for picture in _pictures(model, config):
        yield {"input_ids": WORDS, "pixel_values": picture}


def _pictures(
    model: nn.Module, config: Mapping[str, Any], frames: tuple[int, ...] = ()
) -> Iterator[TensorInput]:
    for size in sizes_in(config, ""):
        channels = picture_channels(model, size.channels)[0]
        yield TensorInput(shape=(1, *frames, channels, *size.sides))


def _video(model: nn.Module, config: Mapping[str, Any]) -> Iterator[_Named]:
    frames = whole(config.get("num_frames"))
    if frames is not None:
        for picture in _pictures(model, config, (frames,)):
            yield {"pixel_values": picture}


def _speech(model: nn.Module, config: Mapping[str, Any]) -> Iterator[_Named]:
    del model, config
    yield {"input_values": TensorInput(shape=(1, SPEECH_SAMPLES))}


def _spectrum(model: nn.Module, config: Mapping[str, Any]) -> Iterator[_Named]:
    del model
    bands, half = (whole(config.get(key)) for key in ("num_mel_bins", "max_source_positions"))
    if bands is not None and half is not None:
        yield {"input_features": TensorInput(shape=(1, bands, 2 * half))}


_INPUTS: Mapping[str, Callable[[nn.Module, Mapping[str, Any]], Iterator[_Named]]] = {
    "input_ids": _words,
    "pixel_values": _video,
    "input_values": _speech,
    "input_features": _spectrum,
}
