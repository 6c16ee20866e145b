"""Pictures in a folder: chosen by a seed, decoded when they are asked for."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from pathlib import Path
from typing import Any

import torch

from modswap.core.asked.job import PICTURES
from modswap.core.errors import InputError
from modswap.core.progress import Passing, Progress, silent
from modswap.core.words.printable import tame
from modswap.io.recognise.look import unreadable
from modswap.ops.first_input.from_file import NoPictureError, decoded, pillow
from modswap.ops.heal.data.decoding import MODES, fitted
from modswap.ops.heal.data.pixels import PixelSamples, has_room
from modswap.ops.heal.data.preprocessing import Preprocessing, preprocessing
from modswap.ops.heal.data.taker import DataRequest, Taker, order_key, refuse_few
from modswap.ops.heal.data.usual import TRIED, likeliest

SPARE = 64  # files beside those that are needed, in the place of broken ones
SHOWN = 3  # broken files that a note names
_FIX = "name a folder of JPEG, PNG, WebP, TIFF, BMP or GIF files, or draw pictures: `none`"
_FITS = {
    "crop": "resized, the middle cropped",
    "stretch": "resized, their ratio of sides changed",
    "letterbox": "resized on grey",
}


def folder_samples(
    folder: Path, taker: Taker, request: DataRequest, progress: Progress = silent
) -> PixelSamples:
    """Return the pictures of a folder and its subfolders.

    Of more than `request.most` files the seed chooses some. Each is decoded once here, so that
    broken ones are known.

    Raises:
        InputError: If there are none, too few that can be read, or the model takes none of them.
        MissingModuleError: If pictures cannot be read here.
    """
    where = str(folder)
    how = preprocessing(taker, request, where)
    if how.channels not in MODES:
        what = f"the model takes {how.channels} channels, pictures have 1 or 3"
        raise InputError(what, where, "give an array with all channels: .npy, .npz, .safetensors")
    files, total = _chosen(folder, request)
    if not files:
        raise InputError(f"it holds no pictures ({', '.join(PICTURES)})", where, _FIX)
    reader = _PictureFiles(pillow(where), folder, how)
    broken = reader.open(files, request.most, progress)
    notes = _of_broken(broken, folder)
    count = len(reader.files)
    refuse_few(count, where, notes[0] if notes else "")
    how = likeliest(taker, how, reader.pixels(range(min(count, TRIED))))
    shown = f"{count:,} of {total:,}" if total > count + len(broken) else f"{count:,}"
    kind = "grey pictures" if how.channels == 1 else "pictures"
    height, width = how.size
    return PixelSamples(
        taker=taker,
        how=how,
        count=count,
        pixels=reader.pixels,
        description=tame(f"{shown} {kind} of {folder}, {height}x{width}"),
        notes=(f"the pictures are {_FITS[how.fit]}, {how.numbers}", *notes),
        kept=reader.kept,
    )


def _chosen(folder: Path, request: DataRequest) -> tuple[list[Path], int]:
    """Return files of pictures in an order of the seed's, enough of them, and how many there are.

    The order hangs on names alone. Memory is that of the chosen ones.
    """
    total = 0

    def counted() -> Iterator[Path]:
        nonlocal total
        for file in _pictures(folder):
            total += 1
            yield file

    def key(file: Path) -> bytes:
        return order_key(request.seed, file.relative_to(folder).as_posix())

    spare = max(SPARE, request.most // 8)
    return nsmallest(request.most + spare, counted(), key=key), total


def _pictures(folder: Path) -> Iterator[Path]:
    """Yield the files of pictures below a folder; a folder that links lead to again counts once."""
    seen: set[str] = set()

    def refuse(error: OSError) -> None:
        raise unreadable(Path(error.filename), error) from None

    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        for name in names:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in PICTURES:  # noqa: PTH122 - a Path for each of millions is slow
                yield Path(root, name)


@dataclass(slots=True)
class _PictureFiles:
    """The files of the samples, by their numbers, and the pictures that are kept."""

    image: Any  # Pillow's module
    folder: Path
    how: Preprocessing
    files: list[Path] = field(default_factory=list)
    kept: dict[int, torch.Tensor] = field(default_factory=dict)

    def open(self, files: Sequence[Path], most: int, progress: Progress) -> list[tuple[Path, str]]:
        """Take the files that can be decoded, at most so many, and return the broken ones."""
        broken: list[tuple[Path, str]] = []
        for file in files:
            if len(self.files) == most:
                break
            progress(Passing(f"reading pictures: {len(self.files):,} of {min(most, len(files)):,}"))
            try:
                pixels = self._decoded(file)
            except NoPictureError as error:
                broken.append((file, str(error)))
                continue
            except OSError as error:
                broken.append((file, error.strerror or type(error).__name__))
                continue
            if has_room(self.kept, pixels):
                self.kept[len(self.files)] = pixels
            self.files.append(file)
        return broken

    def pixels(self, chosen: Sequence[int]) -> list[torch.Tensor]:
        """Return the bytes (C, H, W) of the pictures of some numbers."""
        return [self._again(self.files[number]) for number in chosen]

    def _again(self, file: Path) -> torch.Tensor:
        try:
            return self._decoded(file)
        except (NoPictureError, OSError) as error:
            what = f"it was a picture when the healing began, and is none now: {error}"
            raise InputError(what, str(file), "keep the folder as it is meanwhile") from None

    def _decoded(self, file: Path) -> torch.Tensor:
        return decoded(self.image, file, lambda opened: fitted(self.image, opened, self.how))


def _of_broken(broken: Sequence[tuple[Path, str]], folder: Path) -> tuple[str, ...]:
    """Return the sentence on files that cannot be read."""
    if not broken:
        return ()
    named = [f"{file.relative_to(folder)} ({why})" for file, why in broken[:SHOWN]]
    more = f" and {len(broken) - SHOWN:,} more" if len(broken) > SHOWN else ""
    files = "1 file is" if len(broken) == 1 else f"{len(broken):,} files are"
    return (tame(f"{files} broken and left out: {', '.join(named)}{more}"),)
