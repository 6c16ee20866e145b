"""`modswap tree`: the module tree of a checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from modswap.cli import options
from modswap.core.asked.job import is_input_file
from modswap.core.asked.patterns import Pattern, compile_pattern
from modswap.core.asked.used_paths import INPUT, OUT, UsedPath
from modswap.core.decided.pattern_advice import advice_for
from modswap.core.errors import UsageError
from modswap.core.seen.tree import Tree, TreeRow

Chosen = Callable[[str], bool]  # whether a path is selected


def tree(
    context: typer.Context,
    file: options.File,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="SHAPE",
            help="A dummy input, 1,3,224,224 or 1,3,224,224:float32; a picture, photo.jpg or "
            "photo.jpg:224x224; an array, x.npy; repeat it for several tensors; auto finds one.",
            show_default=False,
        ),
    ] = None,
    match: Annotated[
        str | None,
        typer.Option(
            "--match",
            metavar="PATTERN",
            help="Show only these paths; with an input, also what their modules put out.",
            show_default=False,
        ),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            "--prefix",
            metavar="TEXT",
            help="The same for modules whose path, or own name, begins with this.",
            show_default=False,
        ),
    ] = None,
    highlight: Annotated[
        str | None,
        typer.Option(
            "--highlight",
            metavar="PATTERN",
            help="Mark these paths in the whole tree.",
            show_default=False,
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option("--depth", min=0, help="Show only so many levels.", show_default=False),
    ] = None,
    save_outputs: Annotated[
        Path | None,
        typer.Option(
            "--save-outputs",
            metavar="FILE",
            help="Write what the selected modules put out to a safetensors file.",
            show_default=False,
        ),
    ] = None,
    interactive: Annotated[
        bool,
        typer.Option(
            "--interactive", help="Browse the tree in the terminal, and write a rule for it."
        ),
    ] = False,
    model: options.Model = None,
    rename: options.Renames = None,
    strip_prefix: options.StripPrefix = None,
    allow: options.Allow = None,
    alias: options.Alias = None,
    trust: options.Trust = False,
    force: options.Force = False,
    form: options.Format = "table",
    report: options.Report = None,
    quiet: options.Hush = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:
    """Show a checkpoint's module tree; shapes with --input, values with --match or --prefix."""
    session = options.begin(
        context, file, report=report, quiet=quiet, verbose=verbose, no_color=no_color
    )
    files, shapes = _inputs(inputs)
    options.note_paths(session, model=model)
    session.reads += [UsedPath(INPUT, Path(name.partition(":")[0])) for name in files]
    session.writes += [UsedPath(OUT, save_outputs)] if save_outputs is not None else []
    options.check_format(session, form, ("table", "json"))
    policy = options.policy_of(allow, alias, trust=trust)
    renames = options.renames_of(rename, strip_prefix)
    subject = replace(
        options.subject(file, policy, model, shapes, renames), input_files=tuple(files)
    )
    chosen = _chosen(match, prefix)
    marks = compile_pattern(highlight, "--highlight") if highlight is not None else None
    _refuse_idle_outputs(save_outputs, inputs, chosen)

    from modswap.core.asked.job import Layers
    from modswap.ops.jobs.tree import read_tree
    from modswap.report.tree import tree_json, tree_table

    wanted = chosen if inputs else None
    with session.guarded() as progress:
        found = read_tree(subject, progress, Layers(wanted, save_outputs, force))
    rows = _shown(found, depth, chosen)
    if not rows:
        raise _no_match(found, match, prefix)
    if interactive:
        from modswap.cli.browser.start import browse

        browse(session, found)
        return
    marked = _marked(found, marks)
    if session.format == "json":
        session.emit(tree_json(found, rows, marked))
    else:
        session.emit(tree_table(found, rows, session.page(), marked))


def _marked(found: Tree, marks: Pattern | None) -> set[str]:
    """Return the paths that a pattern highlights."""
    if marks is None:
        return set()
    marked = {row.path for row in found.rows if row.path and marks.matches(row.path)}
    if not marked:
        raise _no_match(found, marks.text, None, "--highlight")
    return marked


def _inputs(given: Sequence[str] | None) -> tuple[list[str], list[str] | None]:
    """Return the inputs that name files, and the others."""
    files = [text for text in given or () if is_input_file(text)]
    shapes = [text for text in given or () if text not in files]
    if files and shapes:
        what = "files and shapes are given together"
        raise UsageError(what, "--input", "give files for all tensors of the call, or shapes")
    return files, shapes or None


def _chosen(match: str | None, prefix: str | None) -> Chosen | None:
    """Return whether a path is selected by a pattern or a prefix; None if all are."""
    if match is not None and prefix is not None:
        raise UsageError("two ways to select are given", "--prefix", "leave --match or it out")
    if match is not None:
        pattern = compile_pattern(match, "--match")
        return lambda path: bool(path) and pattern.matches(path)
    if prefix is not None:
        return lambda path: (
            bool(path) and (path.startswith(prefix) or path.rpartition(".")[2].startswith(prefix))
        )
    return None


def _refuse_idle_outputs(
    out: Path | None, inputs: Sequence[str] | None, chosen: Chosen | None
) -> None:
    """Refuse a file for outputs where no module is selected, or nothing would be run."""
    if out is None:
        return
    if chosen is None:
        raise UsageError("no modules are selected", "--save-outputs", "add --match PATTERN")
    if not inputs:
        raise UsageError("there is no input", "--save-outputs", "add --input SHAPE, or auto")
    if out.suffix != ".safetensors":
        what = f"{out.name!r:.80} does not end in .safetensors"
        raise UsageError(what, "--save-outputs", "name a file such as outputs.safetensors")


def _shown(found: Tree, depth: int | None, chosen: Chosen | None) -> list[TreeRow]:
    """Return the rows down to a level that are selected."""
    rows = [row for row in found.rows if depth is None or _level(row) <= depth]
    return rows if chosen is None else [row for row in rows if chosen(row.path)]


def _level(row: TreeRow) -> int:
    return row.path.count(".") + 1 if row.path else 0


def _no_match(
    found: Tree, match: str | None, prefix: str | None, option: str = "--match"
) -> UsageError:
    if match is None:
        what = f"no module's path or name begins with {prefix!r}"
        return UsageError(what, "--prefix", "leave it out to see all paths")
    paths = [row.path for row in found.rows if row.path]
    advice = advice_for(match, paths, f"leave {option} out")
    return UsageError(f"no module matches {match!r}", option, advice.fix)
