"""The request of a healing: which stages, how far, and by what it is judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from modswap.core.errors import UsageError
from modswap.core.healed.healing import STAGES
from modswap.core.words.nearest import did_you_mean

GOAL = 0.99


@dataclass(frozen=True, slots=True)
class HealingRequest:
    """The wishes of a user for a healing.

    Args:
        stages: The stages that may run, in their own order.
        chosen: Whether the user named them; else `fit` and `end` run only short of the goal.
        damp: How much weaker a new module's own mechanism is made beside the linear map.
        until: The agreement from which no further stage is run.
        steps: Steps of each fitted stage.
        minutes: Time after which fitted stages end; None for no bound.
        metric: Name of the metric; empty chooses by the outputs.
        evaluate: `file.py:callable` of the user's own metric, reported beside; empty for none.
        everything: Whether the last stage may change all weights, not those of new modules alone.
        samples: Most samples to use.
        seed: For the choice of samples and the order in which they are learned from.
        batch: Samples in a pass.
        device: Device to run on, as torch names it.
        max_memory: Bytes that the passes may hold; None for a share of the machine's.
    """

    stages: tuple[str, ...] = STAGES
    chosen: bool = False
    damp: float = 1.0
    until: float = GOAL
    steps: int = 400
    minutes: float | None = None
    metric: str = ""
    evaluate: str = ""
    everything: bool = False
    samples: int = 1024
    seed: int = 0
    batch: int = 32
    device: str = "cpu"
    max_memory: int | None = None

    def __post_init__(self) -> None:
        """Put the stages in order; refuse a wrong number."""
        object.__setattr__(self, "stages", stages_of(self.stages))
        for name, least, most in _BOUNDS:
            value = getattr(self, name)
            if value is None and name == "minutes":
                continue
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
