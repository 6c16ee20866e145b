"""The steps of the demonstration: make a checkpoint, swap, heal, measure."""

import time
from dataclasses import dataclass
from pathlib import Path

from modswap.core.asked.healing import HealingRequest
from modswap.core.asked.job import HealJob, Job, Policy, Subject
from modswap.core.kept.outcome import Outcome
from modswap.core.progress import Progress
from modswap.ops.api import load
from modswap.ops.demo.data import CLASSES, Scenes, make_scenes
from modswap.ops.demo.folder import (
    HEALED,
    SWAPPED,
    prepare_folder,
    write_checkpoints,
    write_scenes,
)
from modswap.ops.demo.network import build_network
from modswap.ops.demo.train import accuracy, train
from modswap.ops.jobs.heal import heal_file
from modswap.ops.jobs.replace import replace_file
from modswap.ops.recipes import read_recipe
from modswap.seeds import seeded

TRAIN, TEST = 3000, 400  # scenes
HEAL_SCENES = 500  # without their labels
HEAL_STAGE = "closed"


@dataclass(frozen=True, slots=True)
class Made:
    """A trained checkpoint."""

    file: Path  # the whole module
    accuracy: float  # share of the test digits' pixels that are classified rightly
    seconds: float  # duration of the training
    train: Scenes  # scenes of the training
    test: Scenes  # other scenes


def make(folder: Path, *, width: int, steps: int, progress: Progress) -> Made:
    """Train the network and write it to a folder, which is made if it is missing.

    Its first stage has `width` channels.

    Raises:
        UsageError: If scikit-learn, which holds the images, is not installed.
        CheckpointError: If the folder cannot be written to, or holds such files of others.
    """
    prepare_folder(folder)
    progress("drawing scenes of handwritten digits")
    learned, unseen = make_scenes(TRAIN, TEST)
    with seeded(0):
        network = build_network(classes=CLASSES, base_width=width)
        started = time.monotonic()
        optimizer = train(network, learned, steps, progress=progress)
    seconds = time.monotonic() - started
    file = write_checkpoints(network, optimizer, folder)
    return Made(file, accuracy(network, unseen), seconds, learned, unseen)


def recipe_file() -> Path:
    """Return the recipe of the demonstration, from the repository or the package."""
    name = "unetpp_bra.yaml"
    checkout = Path(__file__).parents[3] / "configs" / name
    return checkout if checkout.is_file() else Path(__file__).with_name(name)


def swap(made: Made, progress: Progress) -> Outcome:
    """Swap both gates of the checkpoint, or raise a `ModswapError`."""
    out = made.file.with_name(SWAPPED)
    job = Job(Subject(made.file, Policy()), read_recipe(recipe_file()), out, force=True)
    return replace_file(job, progress)


def heal(made: Made, progress: Progress) -> Outcome:
    """Heal the swapped file on scenes without labels, or raise a `ModswapError`."""
    folder = made.file.parent
    scenes = write_scenes(made.train.images[:HEAL_SCENES], folder)
    request = HealingRequest(stages=(HEAL_STAGE,), chosen=True)
    subject = Subject(folder / SWAPPED, Policy())
    job = HealJob(subject, made.file, str(scenes), request, folder / HEALED, force=True)
    return heal_file(job, progress)


def measured(made: Made) -> tuple[float, float]:
    """Return the accuracy of the swapped file and of the healed one."""
    swapped, healed = (made.file.with_name(name) for name in (SWAPPED, HEALED))
    return accuracy(load(swapped), made.test), accuracy(load(healed), made.test)
