"""Samples from the data that a user gives."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modswap.core.asked.job import PICTURES
from modswap.core.errors import UsageError
from modswap.core.progress import Progress, silent
from modswap.io.recognise.look import look_at
from modswap.ops.heal.data.arrays import array_samples
from modswap.ops.heal.data.batches import is_iterable, iterable_samples
from modswap.ops.heal.data.drawn.samples import NONE, drawn_samples
from modswap.ops.heal.data.pictures import folder_samples
from modswap.ops.heal.data.taker import MIN_SAMPLES, DataRequest, Taker
from modswap.ops.heal.data.texts import text_file_samples
from modswap.ops.heal.samples import Samples
from modswap.ops.load.factory import imported_factory, result_of

OPTION = "--data"
KINDS = "a folder of pictures, .npy, .npz, .safetensors, .txt, file.py:callable or none"
_Open = Callable[[Path, Taker, DataRequest, Progress], Samples]


def open_samples(
    given: Any,
    taker: Taker,
    request: DataRequest = DataRequest(),  # noqa: B008 - it is frozen
    progress: Progress = silent,
) -> Samples:
    """Return the samples in the data that a user gives, checked by a pass of the model.

    Args:
        given: As text or `Path`: a folder of pictures, a file of arrays, a text file,
            `file.py:callable`, whose callable gives an iterable, or `none`: the samples are drawn.
            From Python also an iterable itself, or a callable. Items of an iterable are batches or
            single samples, each a tensor, (inputs, labels), (args, kwargs), a mapping by names of
            arguments, a picture of Pillow's or a text.
        taker: The model that gives the targets, and a call that it takes: `Taker.of(loaded, call)`.
        request: How many samples at most, and what the user says of pictures.
        progress: Takes the current step in words.

    Raises:
        UsageError: If the data are of no known kind, or the request holds a wrong number, or the
            callable fails.
        InputError: If they do not fit the model, or are fewer than 32.
        CheckpointError: If a file cannot be read.
    """
    if request.most < MIN_SAMPLES:
        what = f"at most {request.most} samples are asked for, expected {MIN_SAMPLES} or more"
        raise UsageError(what, "--samples", f"ask for {MIN_SAMPLES} or more")
    is_text = isinstance(given, (str, Path))
    samples = (_of_text if is_text else _of_object)(given, taker, request, progress)
    taker.check(samples.batch([0, 1]), str(given) if is_text else "data")
    return samples


def _of_text(given: str | Path, taker: Taker, request: DataRequest, progress: Progress) -> Samples:
    """Return the samples in what a text names."""
    if given == NONE:
        return drawn_samples(taker, request, progress)
    file = Path(given)
    if ":" in str(given) and not file.exists():
        return _of_callable(str(given), taker, request, progress)
    look_at(file)
    if file.is_dir():
        return folder_samples(file, taker, request, progress)
    found = _FILES.get(file.suffix.lower())
    if found is None:
        raise _unknown(file)
    return found(file, taker, request, progress)


def _unknown(file: Path) -> UsageError:
    """Return the error for a file of another kind."""
    ending = file.suffix.lower()
    if ending in PICTURES:
        what = f"it is one picture, expected {MIN_SAMPLES} or more"
        return UsageError(what, str(file), "name the folder of the pictures")
    if ending == ".py":
        fix = f"write {file.name}:callable, of a function that gives batches"
        return UsageError("it is code, and no callable in it is named", str(file), fix)
    return UsageError(f"{file.name!r:.80} is of no known kind", str(file), f"give {KINDS}")


def _of_callable(name: str, taker: Taker, request: DataRequest, progress: Progress) -> Samples:
    """Return the samples in what a callable gives that the user named."""
    factory = imported_factory(name, {}, str(Path.cwd()), OPTION, UsageError)
    return iterable_samples(result_of(factory), taker, request, name, progress, factory)


def _of_object(given: Any, taker: Taker, request: DataRequest, progress: Progress) -> Samples:
    """Return the samples in an object of Python's."""
    name = type(given).__name__
    if callable(given) and not is_iterable(given):
        given = given()
    return iterable_samples(given, taker, request, f"the {name} given", progress)


def _array(file: Path, taker: Taker, request: DataRequest, _: Progress) -> Samples:
    return array_samples(file, taker, request)


def _texts(file: Path, taker: Taker, request: DataRequest, _: Progress) -> Samples:
    return text_file_samples(file, taker, request)


_FILES: Mapping[str, _Open] = {
    ".npy": _array,
    ".npz": _array,
    ".safetensors": _array,
    ".txt": _texts,
}
