"""Options of a healing that `heal`, `sweep` and `replace --heal` share."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from modswap.core.asked.healing import PICTURE_WISHES, STEPS, HealingRequest
from modswap.core.errors import UsageError

Samples = Annotated[int, typer.Option("--samples", metavar="N", min=1, help="Most samples to use.")]
Seed = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, help="For the choice and order of samples.")
]
Batch = Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Samples in a pass.")]
Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="Where to run: cpu, cuda, cuda:1, mps.")
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        metavar="N",
        min=1,
        help=f"Steps of each fitted stage, {STEPS} if left out; and, of pictures that are drawn, "
        "to fit them to the statistics of the batch norms.",
        show_default=False,
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="H,W",
        help="Height and width to which pictures are brought, or 224 for both, where the file "
        "does not say it.",
        show_default=False,
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        "--mean",
        metavar="NUMBERS",
        help="What is subtracted from pictures in 0 to 1: 0.5, or one number for each channel.",
        show_default=False,
    ),
]
Std = Annotated[
    str | None,
    typer.Option(
        "--std", metavar="NUMBERS", help="By what they are divided then.", show_default=False
    ),
]

Bypass = Annotated[
    bool,
    typer.Option(
        "--bypass",
        help="Let a linear map be put beside a new module whose own layers cannot hold the old "
        "one: a depthwise or 1x1 convolution, or a linear layer.",
    ),
]


def of_pictures(size: str | None, mean: str | None, std: str | None) -> dict[str, Any]:
    """Return the numbers that options say of pictures, by their names.

    Raises:
        UsageError: If one says no numbers.
    """
    said = dict(zip(PICTURE_WISHES, (size, mean, std), strict=True))
    return {name: _numbers(name, text) for name, text in said.items() if text is not None}


def _numbers(name: str, text: str) -> tuple[float, ...]:
    kind = int if name == "size" else float
    try:
        return tuple(kind(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        fix = "write 224 or 224,320" if name == "size" else "write 0.5 or 0.485,0.456,0.406"
        raise UsageError(f"{text!r:.40} is no list of numbers", f"--{name}", fix) from None


def request_of_swap(heal: str, said: Mapping[str, Any]) -> HealingRequest:
    """Return what is asked of the healing of a swap, by the values of its options.

    Raises:
        UsageError: If something is, and nothing is to be healed.
    """
    idle = [name for name, one in said.items() if one]
    if idle and not heal:
        what = f"--{idle[0]} is for a healing, and there is none"
        raise UsageError(what, f"--{idle[0]}", "add `--heal D`, or leave it out")
    numbers = of_pictures(*(said[name] for name in PICTURE_WISHES))
    return HealingRequest(steps=said["steps"], bypass=said["bypass"], **numbers)
