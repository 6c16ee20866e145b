"""The request of a healing: which stages, how far, and by what it is judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from modswap.core.errors import UsageError
from modswap.core.healed.healing import STAGES
from modswap.core.words.nearest import did_you_mean

GOAL = 0.99
STEPS = 400  # of a fitted stage
MOST_SIDE = 4096  # pixels of a picture
PICTURE_WISHES = ("size", "mean", "std")


@dataclass(frozen=True, slots=True)
class HealingRequest:
    """The wishes of a user for a healing.

    Args:
        stages: The stages that may run, in their own order.
        chosen: Whether the user named them; else `fit` and `end` run only short of the goal.
        damp: How much weaker a new module's own mechanism is made beside the linear map.
        until: The agreement from which no further stage is run.
        steps: Steps of each fitted stage, and by which drawn pictures are optimised; None for
            `STEPS` of a stage, and pictures as they are drawn.
        minutes: Time after which fitted stages end; None for no bound.
        metric: Name of the metric; empty chooses by the outputs.
        evaluate: `file.py:callable` of the user's own metric, reported beside; empty for none.
        everything: Whether the last stage may change all weights, not those of new modules alone.
        samples: Most samples to use.
        seed: For the choice of samples and the order in which they are learned from.
        batch: Samples in a pass.
        device: Device to run on, as torch names it.
        max_memory: Bytes that the passes may hold; None for a share of the machine's.
        size: Height and width of pictures, or one number for both; None for what the file says.
        mean: Mean of pixels in 0 to 1, one number or one for each channel; None as above.
        std: Standard deviation by which they are divided then.
        bypass: Whether a linear map may be put beside a new module.
        shard: Whether the last stage divides the model among the processes of torchrun.
    """

    stages: tuple[str, ...] = STAGES
    chosen: bool = False
    damp: float = 1.0
    until: float = GOAL
    steps: int | None = None
    minutes: float | None = None
    metric: str = ""
    evaluate: str = ""
    everything: bool = False
    samples: int = 1024
    seed: int = 0
    batch: int = 32
    device: str = "cpu"
    max_memory: int | None = None
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    bypass: bool = False
    shard: bool = False

    def __post_init__(self) -> None:
        """Put the stages in order; refuse a wrong number."""
        object.__setattr__(self, "stages", stages_of(self.stages))
        for name, least, most in _BOUNDS:
            _refuse_beyond(name, getattr(self, name), least, most)
        for name in PICTURE_WISHES:
            object.__setattr__(self, name, _numbers_of(name, getattr(self, name)))
        if (self.mean is None) != (self.std is None):
            given, other = ("mean", "std") if self.std is None else ("std", "mean")
            what = f"{given} is given, and {other} is not"
            raise UsageError(
                what, f"--{given}", f"give {other} too: a mean of 0 and a std of 1 change nothing"
            )

    @property
    def fit_steps(self) -> int:
        """Return the steps of a fitted stage."""
        return STEPS if self.steps is None else self.steps


def _refuse_beyond(name: str, value: Any, least: float, most: float) -> None:
    """Refuse what is no number within the bounds of a wish."""
    if value is None and name in {"minutes", "steps"}:
        return
    whole = name not in {"damp", "until", "minutes"}
    kind = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
        what = f"{value!r:.40} is no {'whole number' if whole else 'number'}"
        raise UsageError(f"{what} from {least:g} to {most:g}", name, "give one")


# the wishes that are numbers, with their bounds
_BOUNDS: tuple[tuple[str, float, float], ...] = (
    ("damp", 1, inf),
    ("until", 0, 1),
    ("steps", 1, inf),
    ("minutes", 0, inf),
    ("samples", 1, inf),
    ("seed", 0, inf),
    ("batch", 1, inf),
)


def _numbers_of(name: str, given: Any) -> tuple[Any, ...] | None:
    """Return the numbers of a wish on pictures; one side is that of a square.

    Raises:
        UsageError: If they are no such numbers.
    """
    if given is None:
        return None
    found = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    if name == "size" and len(found) == 1:
        found *= 2
    if found and _are_numbers(name, found):
        return found
    shown, fix = _NUMBERS[name]
    raise UsageError(f"{given!r:.40} is no {shown}", f"--{name}", fix)


def _are_numbers(name: str, found: Sequence[Any]) -> bool:
    """Return whether all are numbers within the bounds of a wish on pictures."""
    if name == "size":
        return len(found) == 2 and all(type(one) is int and 0 < one <= MOST_SIDE for one in found)
    zero = name == "mean"
    return all(type(one) in {int, float} and (0 < one <= 1 or (zero and one == 0)) for one in found)


_NUMBERS = {
    "size": (f"height and width of pictures up to {MOST_SIDE}", "give 224, or 224,320"),
    "mean": ("mean of pixels in 0 to 1", "give one number, or one for each channel; 127 is 0.498"),
    "std": ("deviation of pixels in 0 to 1", "give one number above 0, or one for each channel"),
}


def stages_of(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return the stages that a text, `inherit,closed`, or names say, in their own order.

    Raises:
        UsageError: If one is unknown, or none is named.
    """
    text = given if isinstance(given, str) else ",".join(map(str, given))
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in STAGES:
            fix = did_you_mean(name, STAGES) or f"name some of {', '.join(STAGES)}"
            raise UsageError(f"there is no stage {name!r:.40}", "--stages", fix)
    if not names:
        raise UsageError("no stage is named", "--stages", f"name some of {', '.join(STAGES)}")
    return tuple(stage for stage in STAGES if stage in names)
