"""`modswap code`: how the model's own source looks after a swap."""

from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modswap.cli import completion, one_rule, options
from modswap.cli.session import Session, note, put_text
from modswap.core.asked.used_paths import OUT, UsedPath
from modswap.core.errors import UsageError
from modswap.core.words.nearest import did_you_mean

if TYPE_CHECKING:
    from modswap.core.asked.job import CodeJob


def code(
    context: typer.Context,
    file: options.File,
    config: options.Config = None,
    match: one_rule.Match = None,
    after: one_rule.After = None,
    before: one_rule.Before = None,
    around: one_rule.Around = None,
    with_: one_rule.With = None,
    settings: one_rule.Settings = None,
    exclude: one_rule.Exclude = None,
    classes: one_rule.Classes = None,
    expect: one_rule.Expect = None,
    adapt: one_rule.Adapt = False,
    share: one_rule.Share = False,
    start: one_rule.Start = None,
    save_recipe: one_rule.SaveRecipe = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the change into the source files.")
    ] = False,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            "--rename", metavar="PATH=NAME", show_default=False,
            help="Give the module at PATH another name, in the source and in OUT; two paths of one "
            "shared module may get one name. With a dot at an end, backbone.=encoder., names of "
            "weights in the file as other commands have it.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="OUT", show_default=False,
            help="With --rename, the checkpoint to write with the new names; with --for "
            "ultralytics one that holds the model's YAML with the swap.",
        ),
    ] = None,
    standalone: Annotated[
        Path | None,
        typer.Option(
            "--standalone", metavar="FILE", show_default=False,
            help="Write one file of code that builds the model and loads it, without modswap.",
        ),
    ] = None,
    library: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="HOST", show_default=False,
            help="Print the lines that keep the swap in a library: timm, smp, transformers or "
            "ultralytics.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite OUT or the standalone file.")
    ] = False,
    inputs: options.Input = None,
    model: options.Model = None,
    strip_prefix: options.StripPrefix = None,
    allow: options.Allow = None,
    alias: options.Alias = None,
    trust: options.Trust = False,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORM",
            help="diff, markdown or json.",
            autocompletion=completion.forms,
        ),
    ] = "diff",
    report: options.Report = None,
    quiet: options.Hush = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:  # fmt: skip
    """Show how the model's source looks after a swap, as a diff that is proved."""
    # by `chosen`
    del (match, after, before, around, with_, settings, exclude, classes, expect,
         adapt, share, start, save_recipe)  # fmt: skip
    session = options.begin(
        context, file, report=report, quiet=quiet, verbose=verbose, no_color=no_color
    )
    options.check_format(session, form, ("diff", "markdown", "json"))
    chosen = one_rule.chosen(context, session)
    options.note_paths(session, [config], model, output)
    session.writes += [UsedPath("the standalone file", standalone)] if standalone else []
    policy = options.policy_of(allow, alias, trust=trust)
    weights = list(filter(_is_of_weights, rename or ()))
    renames = options.renames_of(weights, strip_prefix)
    names = [one for one in rename or () if one not in weights]
    subject = options.subject(file, policy, model, inputs, renames)

    from modswap.core.asked.job import CodeJob

    recipe = chosen.recipe() if chosen.config is not None or chosen.rule is not None else None
    job = CodeJob(subject, recipe, _names(names, output, library), output, force)
    _refuse_several(write=write, standalone=standalone is not None, library=library is not None)
    _refuse_unnamed(job, standalone=standalone is not None, library=library is not None)
    if library is not None:
        _print_lines(session, job, library)
    elif standalone is not None:
        _write_standalone(session, job, standalone, force=force)
    else:
        _print_diff(session, job, write=write)
    chosen.save(session, ())


def _print_diff(session: Session, job: "CodeJob", *, write: bool) -> None:
    """Print the diff, which is proved, and write the files if that was asked for."""
    from modswap.ops.code.job import code_change
    from modswap.ops.code.write import write_changes
    from modswap.report.code.diff import summary, written_lines
    from modswap.report.code.forms import FORMS

    with session.guarded() as progress:
        change = code_change(job, progress)
    plain = session.format == "diff"
    form = FORMS[session.format]
    checkpoint = str(job.subject.file)
    if plain:
        session.emit(form(change, (), checkpoint))
    written = write_changes(change.files) if write else ()
    if not plain:
        session.emit(form(change, written, checkpoint))
    said = summary(change) + written_lines(written)
    for line in said.splitlines() if plain and not session.quiet else ():
        note(line)


def _names(
    texts: list[str] | None, out: Path | None, library: str | None
) -> tuple[tuple[str, str], ...]:
    """Return the paths and names of all `--rename`."""
    found = []
    for text in texts or ():
        path, equals, name = text.partition("=")
        if not equals or not path or not name.isidentifier() or iskeyword(name):
            fix = "write --rename space_attention=attention"
            raise UsageError(f"{text!r:.80} is no PATH=NAME", "--rename", fix)
        found.append((path, name))
    if out is not None and not found and library != "ultralytics":
        what = "there are no other names to write"
        raise UsageError(what, "-o", "add --rename PATH=NAME; `modswap replace` writes the swap")
    return tuple(found)


def _is_of_weights(text: str) -> bool:
    """Return whether a renaming is of names in the file: one side has a dot at an end."""
    old, equals, new = text.partition("=")
    return bool(equals) and any(one[:1] == "." or one[-1:] == "." for one in (old, new))


def _refuse_several(*, write: bool, standalone: bool, library: bool) -> None:
    """Refuse options that each ask for another answer."""
    given = {"--write": write, "--standalone": standalone, "--for": library}
    names = [name for name, wanted in given.items() if wanted]
    if len(names) > 1:
        what = f"{' and '.join(names)} exclude each other"
        raise UsageError(what, names[1], "call the command once for each")


def _refuse_unnamed(job: "CodeJob", *, standalone: bool, library: bool) -> None:
    """Refuse other names for answers that keep those of the file."""
    given = {"--standalone": standalone, "--for": library}
    asked = next((name for name, wanted in given.items() if wanted), "")
    if job.names and asked:
        what = f"--rename and {asked} exclude each other"
        fix = "write the source and OUT with the new names first, and start from OUT"
        raise UsageError(what, asked, fix)


def _print_lines(session: Session, job: "CodeJob", library: str) -> None:
    """Print the lines for a library, which are proved."""
    from modswap.ops.code.hosts.libraries import HOSTS
    from modswap.ops.code.job import host_lines
    from modswap.report.code.diff import host_summary
    from modswap.report.code.forms import file_json, lines_markdown

    if library not in HOSTS:
        fix = did_you_mean(library, HOSTS) or f"use one of {', '.join(HOSTS)}"
        raise UsageError(f"no library {library!r:.40}", "--for", fix)
    with session.guarded() as progress:
        made = host_lines(job, library, progress)
    said = host_summary(made, library)
    forms = {
        "diff": lambda: made.text,
        "markdown": lambda: lines_markdown(made, said),
        "json": lambda: file_json(made, str(job.subject.file)),
    }
    session.emit(forms[session.format]())
    if session.format == "diff" and not session.quiet:
        note(said)


def _write_standalone(session: Session, job: "CodeJob", out: Path, *, force: bool) -> None:
    """Write the standalone file, and say what it does."""
    from modswap.core.asked.used_paths import paths_read
    from modswap.io.raw.atomic import exists
    from modswap.io.raw.places import refuse_overlap
    from modswap.ops.code.job import standalone_file
    from modswap.report.code.diff import standalone_lines
    from modswap.report.code.forms import file_json

    refuse_overlap(UsedPath(OUT, out), paths_read(job.subject, job.recipe))
    if out.exists() and not force:
        raise exists(out)
    with session.guarded() as progress:
        made = standalone_file(job, progress)
    session.judge()  # the code of the model is known by now
    put_text(out, made.text, force=force)
    if session.format == "json":
        session.emit(file_json(made, str(job.subject.file), str(out)))
        return
    for line in standalone_lines(made, str(out)).splitlines() if not session.quiet else ():
        note(line)
