"""Samples from what Python iterates: loaders, data sets, generators, tensors."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import pad

from modswap.core.errors import InputError, ModswapError, UsageError
from modswap.core.progress import Passing, Progress, silent
from modswap.core.words.printable import tame
from modswap.ops.first_input.from_file import pillow
from modswap.ops.heal.data.columns import SampleColumns, left_out, sized_bytes
from modswap.ops.heal.data.decoding import fitted
from modswap.ops.heal.data.items import DataItem, is_picture, item_of, tensor_of
from modswap.ops.heal.data.preprocessing import Preprocessing, preprocessing
from modswap.ops.heal.data.taker import Argument, DataRequest, Key, Taker
from modswap.ops.heal.data.texts import text_samples
from modswap.ops.heal.data.vocabulary import MASK
from modswap.ops.heal.samples import Batch, Samples
from modswap.ops.load.factory import Factory, raised_by
from modswap.seeds import seeded


def iterable_samples(
    given: Any,
    taker: Taker,
    request: DataRequest,
    words: str,
    progress: Progress = silent,
    factory: Factory | None = None,
) -> Samples:
    """Return the samples that an iterable gives, read until there are `request.most`.

    A tensor, a tuple, a mapping or a `Batch` is one batch. Of a data set that can be indexed,
    the seed chooses. An item may be a sample or a batch of several. Exceptions of the iterable are
    errors of its `factory`, if there is one.

    Raises:
        InputError: If they are too few, or do not fit one another or the model.
        UsageError: If it is no iterable, or the factory's code raises.
    """
    where = factory.where if factory else "data"
    if not is_iterable(given):
        what = f"{words} gives {type(given).__name__}, expected batches"
        raise UsageError(tame(what), where, "give an iterable of batches, or a tensor")
    found = _Collected(taker, request, where)
    texts: list[str] = []
    with seeded(request.seed):  # a loader that shuffles draws the same order each time
        for item in _guarded(_items(given, request), factory):
            if isinstance(item, str):
                texts.append(item)
            else:
                found.add(item)
            count = found.count + len(texts)
            progress(Passing(f"reading samples: {count:,} of {request.most:,}"))
            if count >= request.most:
                break
    if texts and found.count:
        raise InputError("it gives texts and tensors", where, "give either of them")
    if texts:
        return text_samples(texts, taker, request, where, f"texts of {words}")
    return found.samples(words)


def is_iterable(given: Any) -> bool:
    """Return whether an object gives batches, or is one."""
    is_set = hasattr(given, "__getitem__") and hasattr(given, "__len__")
    return isinstance(given, Batch) or (
        (is_set or hasattr(given, "__iter__")) and not isinstance(given, (str, bytes, Path))
    )


def _guarded(items: Iterator[Any], factory: Factory | None) -> Iterator[Any]:
    """Yield items; exceptions of the code of a factory become its errors."""
    try:
        yield from items
    except ModswapError:
        raise
    except Exception as error:
        if factory is None:
            raise
        raise raised_by(factory, error) from error


def _items(given: Any, request: DataRequest) -> Iterator[Any]:
    """Yield the items of an iterable, in a random order where it can be indexed."""
    if isinstance(given, (torch.Tensor, tuple, Mapping, Batch)):
        yield given
    elif hasattr(given, "__getitem__") and hasattr(given, "__len__"):
        count = len(given)
        order = list(range(count))
        if count > request.most:  # the items may be sorted by their class
            drawn = torch.randperm(count, generator=torch.Generator().manual_seed(request.seed))
            order = drawn[: request.most].tolist()
        yield from (given[number] for number in order)
    else:
        yield from given


@dataclass(slots=True)
class _Collected:
    """The samples that were read: rows of each argument, and their labels."""

    taker: Taker
    request: DataRequest
    where: str
    rows: dict[Key, list[torch.Tensor]] = field(default_factory=dict)
    labels: list[torch.Tensor] = field(default_factory=list)
    left: dict[str, None] = field(default_factory=dict)
    count: int = 0
    items: int = 0
    how: Preprocessing | None = None  # of pictures, once there is one

    def add(self, given: Any) -> None:
        """Take the samples of an item."""
        item = item_of(given, self.taker, self.where)
        if item.call is not None:
            self.taker = replace(self.taker, call=item.call)
        self.items += 1
        self.left |= dict.fromkeys(item.left)
        places = {one.key: one for one in self.taker.arguments}
        single = _is_single(item.values, places)
        rows = {
            key: self._tensor(one, places.get(key), single=single)
            for key, one in item.values.items()
        }
        if not self.rows:
            self.rows = {key: [] for key in rows}
        if rows.keys() != self.rows.keys():
            what = f"item {self.items} has {_named(rows)}, those before it {_named(self.rows)}"
            raise InputError(what, self.where, "give the same arguments in every item")
        size = self._size(rows)
        room = min(size, self.request.most - self.count)
        for key, tensor in rows.items():
            self.rows[key].append(tensor[:room].clone() if room < size else tensor)
        self._label(item, size, room)
        self.count += room

    def _tensor(self, value: Any, place: Argument | None, *, single: bool) -> torch.Tensor:
        """Return a value with an axis for samples, pictures as bytes of the model's size."""
        read = tensor_of(value)
        is_map = place is not None and place.is_picture
        if is_picture(read):
            if not is_map:
                what = f"item {self.items} is a picture, the model takes {self.taker.call}"
                raise InputError(what, self.where, "give numbers")
            return fitted(pillow(self.where), read, self._how())[None]
        tensor: torch.Tensor = read[None] if single else read
        if is_map and tensor.ndim == 3 and single:  # grey, (H, W)
            tensor = tensor[None]
        if is_map and tensor.dtype is torch.uint8:
            return sized_bytes(tensor, self._how(), self.where)
        return tensor

    def _how(self) -> Preprocessing:
        if self.how is None:
            self.how = preprocessing(self.taker, self.request, self.where)
        return self.how

    def _size(self, rows: Mapping[Key, torch.Tensor]) -> int:
        """Return the number of samples of an item."""
        sizes = {len(tensor) if tensor.ndim else 0 for tensor in rows.values()}
        if len(sizes) == 1 and 0 not in sizes:
            return sizes.pop()
        shown = ", ".join(f"{key!r} {tuple(one.shape)}" for key, one in rows.items())
        what = f"item {self.items} has tensors of several lengths, or of none: {shown}"
        raise InputError(what, self.where, "give as many samples in each argument")

    def _label(self, item: DataItem, size: int, room: int) -> None:
        labels = None if is_picture(item.labels) else tensor_of(item.labels)
        if labels is not None and not labels.ndim:
            labels = labels[None]
        if labels is not None and len(labels) == size:
            self.labels.append(labels[:room])

    def samples(self, words: str) -> Samples:
        """Return the samples that were read.

        Raises:
            InputError: If they are too few, or do not fit one another or the model.
        """
        if not self.rows:
            raise InputError("it gives no samples", self.where, "see that it can be iterated again")
        given = {key: self._joined(key) for key in self.rows}
        labels = None
        same = {one.shape[1:] for one in self.labels}
        if sum(map(len, self.labels)) == self.count and len(same) == 1:
            labels = torch.cat(self.labels)
        columns = SampleColumns(given, labels, left_out(self.left))
        shown = tame(f"{self.count:,} samples of {words}")
        return columns.samples(self.taker, self.request, self.where, shown)

    def _joined(self, key: Key) -> torch.Tensor:
        """Return all rows of an argument; tokens are padded where a mask says so."""
        rows = self.rows[key]
        shapes = {tuple(one.shape[1:]) for one in rows}
        if len(shapes) > 1:
            if MASK not in self.rows or any(one.ndim != 2 for one in rows):
                shown = " and ".join(map(str, sorted(shapes)[:2]))
                what = f"its samples are of several shapes, {shown}"
                raise InputError(what, self.where, "give them in one shape")
            longest = max(one.shape[1] for one in rows)
            rows = [pad(one, (0, longest - one.shape[1])) for one in rows]
        return torch.cat(rows)


def _named(keys: Iterable[Key]) -> str:
    return ", ".join(f"{key!r}" for key in keys)


def _is_single(values: Mapping[Key, Any], places: Mapping[Key, Argument]) -> bool:
    """Return whether the values are of one sample, without an axis for several."""
    key = next((key for key in values if key in places), None)
    if key is None:
        return False
    value, shape = tensor_of(values[key]), places[key].tensor.shape
    if is_picture(value):
        return True
    if places[key].is_picture and value.ndim == 3:  # (C, H, W), (H, W, C) or several (H, W)
        return bool({1, 3, shape[1]} & {value.shape[0], value.shape[2]})
    return bool(value.ndim < len(shape))
