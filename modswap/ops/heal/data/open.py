"""Samples from the data that a user gives."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modswap.core.errors import UsageError
from modswap.core.progress import Progress, silent
from modswap.io.recognise.look import look_at
from modswap.ops.heal.data.arrays import array_samples
from modswap.ops.heal.data.pictures import folder_samples
from modswap.ops.heal.data.taker import MIN_SAMPLES, DataRequest, Taker
from modswap.ops.heal.samples import Samples

KINDS = "a folder of pictures, .npy, .npz, .safetensors"
_Open = Callable[[Path, Taker, DataRequest, Progress], Samples]


def open_samples(
    given: Any,
    taker: Taker,
    request: DataRequest = DataRequest(),  # noqa: B008 - it is frozen
    progress: Progress = silent,
) -> Samples:
    """Return the samples in the data that a user gives, checked by a pass of the model.

    Args:
        given: A folder of pictures or a file of arrays, as text or `Path`.
        taker: The model that gives the targets, and a call that it takes: `Taker.of(loaded, call)`.
        request: How many samples at most, and what the user says of pictures.
        progress: Takes the current step in words.

    Raises:
        UsageError: If the data are of no known kind, or the request holds a wrong number.
        InputError: If they do not fit the model, or are fewer than 32.
        CheckpointError: If a file cannot be read.
    """
    if request.most < MIN_SAMPLES:
        what = f"at most {request.most} samples are asked for, expected {MIN_SAMPLES} or more"
        raise UsageError(what, "data", "ask for more")
    if not isinstance(given, (str, Path)):
        what = f"{type(given).__name__} is no data, expected {KINDS}"
        raise UsageError(what, "data", "give one of these")
    where = str(given)
    samples = _of_file(Path(given))(Path(given), taker, request, progress)
    taker.check(samples.batch([0, 1]), where)
    return samples


def _of_file(file: Path) -> _Open:
    """Return the function that opens a file or folder."""
    look_at(file)
    if file.is_dir():
        return folder_samples
    found = _FILES.get(file.suffix.lower())
    if found is None:
        raise UsageError(f"{file.name!r:.80} is of no known kind, expected {KINDS}", str(file), "")
    return found


def _array(file: Path, taker: Taker, request: DataRequest, _: Progress) -> Samples:
    return array_samples(file, taker, request)


_FILES: Mapping[str, _Open] = {".npy": _array, ".npz": _array, ".safetensors": _array}
