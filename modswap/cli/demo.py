"""`modswap demo`: the main job on a checkpoint that it makes."""

from pathlib import Path
from typing import Annotated

import typer

from modswap.cli import options


def demo(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where the files go.")] = Path(
        "modswap-demo"
    ),
    width: Annotated[
        int, typer.Option("--width", min=4, help="Channels of the first stage; deeper ones double.")
    ] = 8,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps.")] = 240,
    no_color: options.NoColor = False,
) -> None:
    """Make a real checkpoint, swap its gates, verify, show."""
    session = options.session_of(context)
    session.command, session.checkpoint, session.color = "demo", str(folder), not no_color

    from modswap.cli.demo_show import show

    show(session, folder, width=width, steps=steps)
