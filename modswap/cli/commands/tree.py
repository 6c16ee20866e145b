"""`modswap tree`: the module tree of a checkpoint."""

from typing import Annotated

import typer

from modswap.cli import options
from modswap.core.asked.patterns import Pattern, compile_pattern
from modswap.core.decided.pattern_advice import advice_for
from modswap.core.errors import UsageError
from modswap.core.seen.tree import Tree, TreeRow


def tree(
    context: typer.Context,
    file: options.File,
    inputs: options.Input = None,
    match: Annotated[
        str | None,
        typer.Option(
            "--match", metavar="PATTERN", help="Show only these paths.", show_default=False
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option("--depth", min=0, help="Show only so many levels.", show_default=False),
    ] = None,
    model: options.Model = None,
    rename: options.Renames = None,
    strip_prefix: options.StripPrefix = None,
    allow: options.Allow = None,
    alias: options.Alias = None,
    trust: options.Trust = False,
    form: options.Format = "table",
    report: options.Report = None,
    quiet: options.Hush = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:
    """Show a checkpoint's module tree; shapes with --input."""
    session = options.begin(
        context, file, report=report, quiet=quiet, verbose=verbose, no_color=no_color
    )
    options.note_paths(session, model=model)
    options.check_format(session, form, ("table", "json"))
    policy = options.policy_of(allow, alias, trust=trust)
    renames = options.renames_of(rename, strip_prefix)
    subject = options.subject(file, policy, model, inputs, renames)
    pattern = compile_pattern(match, "--match") if match is not None else None

    from modswap.ops.jobs.tree import read_tree
    from modswap.report.tree import tree_json, tree_table

    with session.guarded() as progress:
        found = read_tree(subject, progress)
    rows = _shown(found, depth, pattern)
    if not rows:
        raise _no_match(found, str(match))
    as_json = session.format == "json"
    session.emit(tree_json(found, rows) if as_json else tree_table(found, rows, session.page()))


def _shown(found: Tree, depth: int | None, pattern: Pattern | None) -> list[TreeRow]:
    """Return the rows down to a level whose paths a pattern matches."""
    rows = [row for row in found.rows if depth is None or _level(row) <= depth]
    if pattern is None:
        return rows
    return [row for row in rows if row.path and pattern.matches(row.path)]


def _level(row: TreeRow) -> int:
    return row.path.count(".") + 1 if row.path else 0


def _no_match(found: Tree, match: str) -> UsageError:
    advice = advice_for(match, [row.path for row in found.rows if row.path], "leave --match out")
    return UsageError(f"no module matches {match!r}", "--match", advice.fix)
