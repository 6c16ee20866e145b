"""Tensors of all samples, each under the argument of the model that it goes into."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import interpolate

from modswap.core.errors import InputError
from modswap.core.words.nearest import did_you_mean
from modswap.core.words.printable import tame
from modswap.live_values import dtype_name
from modswap.ops.first_input.usual import input_names
from modswap.ops.heal.data.pixels import PixelSamples
from modswap.ops.heal.data.preprocessing import Preprocessing, preprocessing
from modswap.ops.heal.data.taker import Argument, DataRequest, Key, Taker, refuse_few
from modswap.ops.heal.data.usual import TRIED, likeliest
from modswap.ops.heal.samples import Batch, Samples

LABELS = ("labels", "label", "y", "targets", "target")
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue
_BY_POSITION = "arr_"  # the beginning of names that NumPy gives


@dataclass(frozen=True, slots=True)
class TensorSamples:
    """Samples in memory, for a model that takes them as arguments of its call."""

    taker: Taker
    given: Mapping[Key, torch.Tensor]
    count: int
    description: str
    notes: tuple[str, ...] = ()
    labels: torch.Tensor | None = None

    def batch(self, chosen: Sequence[int]) -> Batch:
        """Return the samples of these numbers in this order."""
        index = torch.as_tensor(chosen)
        labels = None if self.labels is None else self.labels[index]
        return self.taker.batch({key: one[index] for key, one in self.given.items()}, labels)


@dataclass(frozen=True, slots=True)
class SampleColumns:
    """Tensors by the arguments that they go into, the labels, and sentences for reports."""

    given: Mapping[Key, torch.Tensor]
    labels: torch.Tensor | None = None
    notes: tuple[str, ...] = ()

    def samples(self, taker: Taker, request: DataRequest, where: str, words: str) -> Samples:
        """Return the samples in these tensors.

        Raises:
            InputError: If there are too few, or they do not fit the model.
            UsageError: If the user said how pictures are scaled, and there are none.
        """
        count = len(next(iter(self.given.values())))
        refuse_few(count, where)
        places = {one.key: one for one in taker.arguments}
        given, notes = dict(self.given), self.notes
        pictures = [key for key, one in given.items() if _is_bytes(one, places.get(key))]
        if not pictures:
            request.refuse_said("numbers, taken as they are")
        for key in pictures:
            how = preprocessing(taker, request, where)
            pixels = sized_bytes(given[key], how, where)
            how = likeliest(taker, how, pixels[:TRIED].unbind())
            notes = (*notes, f"bytes are taken as pictures, {how.numbers}")
            if len(given) == 1:
                height, width = how.size
                shown = f"{words}, pictures of {height}x{width}"
                rows = _HeldPixels(pixels.unbind())
                return PixelSamples(taker, how, count, rows, shown, notes, self.labels)
            given[key] = how.normalised(pixels)
        suited = {key: _suited(one, places.get(key), where) for key, one in given.items()}
        return TensorSamples(taker, suited, count, f"{words}, as they are", notes, self.labels)


@dataclass(frozen=True, slots=True)
class _HeldPixels:
    """Pictures in memory, by their numbers."""

    pixels: tuple[torch.Tensor, ...]

    def __call__(self, chosen: Sequence[int]) -> list[torch.Tensor]:
        return [self.pixels[number] for number in chosen]


def _is_bytes(tensor: torch.Tensor, place: Argument | None) -> bool:
    return place is not None and place.is_picture and tensor.dtype is torch.uint8


def by_name(named: Mapping[str, torch.Tensor], taker: Taker, where: str) -> SampleColumns:
    """Return tensors under the arguments that their names say; a single one is the first.

    Raises:
        InputError: If none has a name of an argument.
    """
    own = set(named_keys(taker, called=True))
    found = [name for name in LABELS if name in named and name not in own]
    labels = named[found[0]] if found else None
    rest = {name: one for name, one in named.items() if name not in found}
    if not rest:
        raise InputError("it holds labels alone", where, "add the inputs of the model")
    if len(rest) == 1:
        return SampleColumns({main_key(taker, where): next(iter(rest.values()))}, labels)
    places = taker.arguments
    numbers = {f"{_BY_POSITION}{number}": one.key for number, one in enumerate(places)}
    known: dict[str, Key] = {**numbers, **named_keys(taker)}
    given = {known[name]: one for name, one in rest.items() if name in known}
    left = [name for name in rest if name not in known]
    if not given:
        what = f"it holds {_listed(rest)}, none of them an argument of the model"
        fix = did_you_mean(left[0], known) or f"name them {_listed(named_keys(taker))}"
        raise InputError(tame(what), where, fix)
    return SampleColumns(given, labels, left_out(left))


def left_out(names: Collection[str]) -> tuple[str, ...]:
    """Return the sentence on tensors that the model takes no argument for."""
    return (tame(f"the model takes no {_listed(names)}: left out"),) if names else ()


def _listed(names: Collection[str]) -> str:
    return ", ".join(map(repr, list(names)[:8]))


def main_key(taker: Taker, where: str) -> Key:
    """Return the argument that a single tensor goes into: the picture, the tokens, or the first.

    Raises:
        InputError: If the call has no tensor.
    """
    place = taker.picture or taker.tokens or next(iter(taker.arguments), None)
    if place is None:
        what = f"the model takes {taker.call}, no tensors as arguments"
        raise InputError(what, where, "give (args, kwargs) by file.py:callable")
    return place.key


def named_keys(taker: Taker, *, called: bool = False) -> dict[str, Key]:
    """Return the arguments of a model by name: positions for those that its call has there.

    They are those of the call alone if `called`.
    """
    names = input_names(taker.model)
    by_position = dict(zip(names, range(len(taker.call.args)), strict=False))
    known = (*(by_position if called else names), *taker.call.kwargs)
    return {name: by_position.get(name, name) for name in known}


def _suited(tensor: torch.Tensor, place: Argument | None, where: str) -> torch.Tensor:
    """Return numbers of samples in the dtype and order of axes of an argument."""
    if tensor.is_floating_point() and not (finite := _finite(tensor)).all():
        what = f"its sample {int((~finite).nonzero()[0])} holds NaN or infinity"
        raise InputError(what, where, "leave it out")
    if place is None:
        return tensor
    dtype: torch.dtype = getattr(torch, place.tensor.dtype)
    if tensor.is_complex() or (tensor.is_floating_point() and not dtype.is_floating_point):
        what = f"its numbers are {dtype_name(tensor.dtype)}, the model takes {place.tensor.dtype}"
        raise InputError(what, where, f"save them as {place.tensor.dtype}")
    if place.is_picture:
        tensor = _channels_first(tensor, place.tensor.shape[1], where)
    if tensor.ndim != len(place.tensor.shape):
        taken = ("N", *place.tensor.shape[1:])
        what = f"its shape is {tuple(tensor.shape)}, the model takes ({', '.join(map(str, taken))})"
        raise InputError(what, where, "give one row for each sample")
    return tensor.to(dtype)


def _finite(tensor: torch.Tensor) -> torch.Tensor:
    """Return for each sample whether all its numbers are finite."""
    return tensor.isfinite().reshape(len(tensor), -1).all(1)


def _channels_first(tensor: torch.Tensor, channels: int, where: str) -> torch.Tensor:
    """Return maps (N, C, H, W) of as many channels."""
    if tensor.ndim == 3 and channels == 1:
        return tensor[:, None]
    if tensor.ndim == 4 and tensor.shape[1] != channels:
        if tensor.shape[3] != channels:
            what = f"its shape is {tuple(tensor.shape)}, the model takes {channels} channels"
            raise InputError(what, where, f"give (N, {channels}, H, W)")
        return tensor.permute(0, 3, 1, 2).contiguous()
    return tensor


def sized_bytes(tensor: torch.Tensor, how: Preprocessing, where: str) -> torch.Tensor:
    """Return pictures, (N, C, H, W), (N, H, W, C) or grey, as bytes that the model takes.

    Raises:
        InputError: If they have another number of channels than 1, 3 or the model's.
    """
    return _sized(_as_bytes(tensor, how, where), how)


def _as_bytes(tensor: torch.Tensor, how: Preprocessing, where: str) -> torch.Tensor:
    """Return pictures (N, C, H, W) in as many channels, grey made of RGB or RGB of grey."""
    channels = how.channels
    if tensor.ndim == 3:
        tensor = tensor[:, None]
    pairs = {1: 3, 3: 1}
    for wanted in (channels, pairs.get(channels, channels)):
        if tensor.ndim == 4 and wanted in (tensor.shape[1], tensor.shape[3]):
            tensor = _channels_first(tensor, wanted, where)
            if wanted == channels:
                return tensor
            return tensor.expand(-1, 3, -1, -1) if wanted == 1 else _grey(tensor)
    return _channels_first(tensor, channels, where)


def _grey(tensor: torch.Tensor) -> torch.Tensor:
    weights = torch.tensor(LUMINANCE).view(1, 3, 1, 1)
    rows = [(one.float() * weights).sum(1, keepdim=True).round() for one in tensor.split(64)]
    return torch.cat(rows).to(torch.uint8)


def _sized(pixels: torch.Tensor, how: Preprocessing) -> torch.Tensor:
    """Return pictures (N, C, H, W) as bytes of the size that a model takes."""
    height, width = pixels.shape[2:]
    if (height, width) == how.size:
        return pixels
    scale = max(how.size[0] / height, how.size[1] / width)
    top = round((height - how.size[0] / scale) / 2)
    left = round((width - how.size[1] / scale) / 2)
    cropped = pixels[:, :, top : height - top, left : width - left]
    made = [
        interpolate(one.float(), how.size, mode="bilinear", antialias=True).round().clamp(0, 255)
        for one in cropped.split(64)
    ]
    return torch.cat(made).to(torch.uint8)
