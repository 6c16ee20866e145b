"""`modswap demo`: train a small network, swap two of its modules, show the result."""

from pathlib import Path
from typing import Annotated

import typer

from modswap.cli import options
from modswap.cli.outcomes import finish


def demo(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="The folder to write to.")
    ] = Path("modswap-demo"),
    width: Annotated[
        int, typer.Option("--width", min=2, help="Channels of the first stage; deeper ones double.")
    ] = 4,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps.")] = 360,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:  # fmt: skip
    """Train a checkpoint, swap its gates, verify, heal, show."""
    session = options.begin(
        context, folder, quiet=quiet, verbose=verbose or not quiet, no_color=no_color
    )

    from modswap.core.asked.job import Subject
    from modswap.ops.demo import run
    from modswap.ops.demo.folder import HEALED, SCENES, SWAPPED
    from modswap.ops.jobs.tree import read_tree
    from modswap.report.tree import tree_table

    progress = session.progress()
    session.verbose = verbose  # steps are shown, and reports are short
    session.emit(f"1. Train a UNet++ of width {width} on handwritten digits ({steps} steps)\n")
    made = run.make(folder, width=width, steps=steps, progress=progress)
    session.emit(
        f"   {made.file}: {100 * made.accuracy:.1f} % of the digits' pixels right on unseen scenes,"
        f" after {made.seconds:.0f} s\n\n2. modswap tree {made.file} --depth 1\n\n"
    )
    found = read_tree(Subject(made.file), lambda _: None)
    rows = [row for row in found.rows if row.path.count(".") == 0]
    session.emit(tree_table(found, rows, session.page()))
    folder = made.file.parent
    out, healed = folder / SWAPPED, folder / HEALED
    session.emit(f"\n3. modswap replace {made.file} -c {_shown(run.recipe_file())} -o {out}\n\n")
    finish(session, [run.swap(made, progress)])
    session.emit(
        f"\n4. modswap heal {out} --against {made.file} --data {folder / SCENES} "
        f"--stages {run.HEAL_STAGE} -o {healed}\n   "
        f"({run.HEAL_SCENES} scenes, without labels)\n\n"
    )
    finish(session, [run.heal(made, progress)])
    swapped, back = run.measured(made)
    session.emit(
        "\n5. The digits' pixels right, on unseen scenes\n"
        f"   before the swap                    {100 * made.accuracy:5.1f} %\n"
        f"   swapped, with random new modules   {100 * swapped:5.1f} %\n"
        f"   healed                             {100 * back:5.1f} %\n"
    )


def _shown(file: Path) -> str:
    """Return a file relative to the working folder where that is shorter."""
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else file.name
