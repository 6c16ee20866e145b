"""Options that several commands share, and the functions that parse them."""

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from modswap.cli import completion
from modswap.cli.ranks import refuse_others
from modswap.cli.session import Session
from modswap.core.asked.used_paths import DIGESTS, INPUT, OUT, RECIPE, UsedPath, code_files
from modswap.core.errors import UsageError
from modswap.core.words.nearest import did_you_mean

if TYPE_CHECKING:
    from modswap.core.asked.job import Policy, Subject
    from modswap.core.asked.recipe import TensorInput
    from modswap.core.asked.renames import Rename

AUTO = "auto"
FORMS_WITH_VIEW = ("html", "model-explorer")

File = Annotated[Path, typer.Argument(metavar="FILE", help="The checkpoint.", show_default=False)]
Config = Annotated[
    str | None,
    typer.Option(
        "-c",
        "--config",
        metavar="RECIPE",
        help="The recipe; - reads standard input.",
        show_default=False,
    ),
]
Input = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="SHAPE",
        help="A dummy input, 1,3,224,224 or 1,3,224,224:float32; repeat it for several tensors; "
        "auto finds one, as where none is given.",
        show_default=False,
    ),
]
Image = Annotated[
    Path | None,
    typer.Option(
        "--image",
        metavar="FILE",
        help="A picture over which the page draws which windows a BiLevelRoutingAttention attends "
        "to; with --format html.",
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="FACTORY",
        help="package.module:callable or file.py:callable that builds the model, "
        "for files that hold weights without code; also with arguments, "
        "timm:create_model(model_name='resnet18').",
        show_default=False,
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="NAME",
        help="A class or function that a pickled checkpoint may build, package.module.Class; or "
        "package.* for the layers and plain data of a package; may be repeated.",
        show_default=False,
    ),
]
Alias = Annotated[
    list[str] | None,
    typer.Option(
        "--alias",
        metavar="OLD=NEW",
        help="A class that moved since the file was written: __main__.Net=mynets.Net.",
        show_default=False,
    ),
]
Renames = Annotated[
    list[str] | None,
    typer.Option(
        "--rename",
        metavar="OLD=NEW",
        help="Weights whose names begin with OLD in the file begin with NEW in the model; "
        ".OLD.=.NEW. inside names; may be repeated. A written file keeps its names.",
        show_default=False,
    ),
]
StripPrefix = Annotated[
    str | None,
    typer.Option(
        "--strip-prefix",
        metavar="PREFIX",
        help="Read weights without this beginning of their names, which a written file keeps.",
        show_default=False,
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Load by torch's full unpickler, which can run any code in the file; "
        "for files that you wrote yourself.",
    ),
]
NoChecksum = Annotated[
    bool,
    typer.Option("--no-checksum", help="Do not compare the file's bytes with its checksums."),
]
Digest = Annotated[
    str | None,
    typer.Option(
        "--digest",
        metavar="FILE",
        help="The file's SHA-256, or a list of them as sha256sum writes it.",
        show_default=False,
    ),
]
Thorough = Annotated[
    bool,
    typer.Option("--thorough", help="Run all examinations without bounds on their time."),
]
Fast = Annotated[
    bool, typer.Option("--fast", help="Run the recipe's passes alone, and no examination.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Fail on warnings as well.")]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="The most memory that a dummy pass may take, 8GiB or 500MB, also more than the "
        "machine has; it is predicted from shapes, before anything is allocated.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", metavar="OUT", help="The file to write; its ending picks the format.",
        show_default=False,
    ),
]  # fmt: skip
DryRun = Annotated[bool, typer.Option("--dry-run", help="Do all but the writing.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite OUT. Never the input.")]
Report = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Write the report there.", show_default=False),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print no report unless it fails.")]
Hush = Annotated[bool, typer.Option("-q", "--quiet", help="Print the result only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Print each step and more detail.")]
NoColor = Annotated[bool, typer.Option("--no-color", help="Print without colours.")]
Format = Annotated[
    str,
    typer.Option(
        "--format", metavar="FORM", help="table or json.", autocompletion=completion.forms
    ),
]
FormatOrPage = Annotated[
    str,
    typer.Option(
        "--format", metavar="FORM", help="table, json or html.", autocompletion=completion.forms
    ),
]
ReportFormat = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="FORM",
        help="table, json, junit, sarif, github, html or model-explorer.",
        autocompletion=completion.forms,
    ),
]


def begin(
    context: typer.Context,
    checkpoint: Path | str = "",
    *,
    report: Path | None = None,
    quiet: bool,
    verbose: bool,
    no_color: bool,
) -> Session:
    """Return the session of this run, filled in from the options that all commands share.

    The checkpoint counts as read: however the run ends, no report is written to it.
    """
    session = context.obj if isinstance(context.obj, Session) else Session()
    session.command, session.checkpoint = str(context.info_name), str(checkpoint)
    refuse_others(session.command)
    session.report, session.quiet, session.verbose = report, quiet, verbose
    session.color = not no_color
    session.reads += [UsedPath(INPUT, Path(checkpoint))] if checkpoint else []
    return session


def note_paths(
    session: Session,
    recipes: Iterable[str | None] = (),
    model: str | None = None,
    out: Path | None = None,
    digest: str | None = None,
) -> None:
    """Note the paths that these options read and write: no report is written to one of them."""
    session.reads += [UsedPath(RECIPE, Path(name)) for name in recipes if name and name != "-"]
    session.reads += code_files(model, Path.cwd()) if model is not None else ()
    session.reads += [UsedPath(DIGESTS, Path(digest))] if digest is not None else []
    session.writes += [UsedPath(OUT, out)] if out is not None else []


def check_format(session: Session, name: str, known: Collection[str]) -> None:
    """Set the form of the report, or raise a `UsageError` if no form has this name."""
    _check_name(name, known, "report of the form", "--format")
    session.format = name


def wants_view(session: Session) -> bool:
    """Return whether the report shows the modules of the model before and after."""
    return session.format in FORMS_WITH_VIEW


def note_image(session: Session, image: Path | None) -> Path | None:
    """Note a picture for the page as read, and return it.

    Raises:
        UsageError: If no page is asked for.
        CheckpointError: If there is no such file.
    """
    if image is None:
        return None
    if session.format != "html":
        fix = "leave it out, or ask for a page: `--format html`"
        raise UsageError("it is drawn on a page alone", "--image", fix)
    require_file(image)
    session.reads.append(UsedPath("the picture", image))
    return image


def _check_name(name: str, known: Collection[str], what: str, option: str) -> None:
    if name not in known:
        fix = did_you_mean(name, known) or f"use one of {', '.join(known)}"
        raise UsageError(f"no {what} {name!r}", option, fix)


def subject(
    file: Path,
    policy: "Policy",
    model: str | None,
    inputs: Sequence[str] | None,
    renames: "tuple[Rename, ...]" = (),
) -> "Subject":
    """Return the checkpoint that a command reads; wrong inputs and factories are `UsageError`s.

    Raises:
        CheckpointError: If there is no such file.
    """
    from modswap.core.asked.job import Subject

    check_model(model)
    shapes, find = inputs_of(inputs)
    require_file(file)
    return Subject(file, policy, model, shapes, renames, find)


def require_file(file: Path) -> None:
    """Raise a `CheckpointError` for a name that no file has, before torch is imported."""
    from modswap.io.recognise.look import look_at

    if not os.path.lexists(file):
        look_at(file)


def look_at_paths(session: Session, *, force: bool = False, writes: bool = True) -> None:
    """Refuse paths that are not there to be read, or to be written, before torch is imported."""
    for used in session.reads:
        if used.comes_first:
            require_file(used.file)
    targets = [used.file for used in session.writes if writes and used.name == OUT]
    if targets:
        from modswap.io.formats.target import refuse_target

        refuse_target(Path(session.checkpoint), targets[0], force=force, reads=session.reads)


def check_model(model: str | None) -> None:
    """Refuse a `--model` that cannot be read, also where the file needs none."""
    from modswap.core.asked.import_name import factory_call

    if model is not None:
        factory_call(model, "--model", UsageError)


def inputs_of(texts: Sequence[str] | None) -> "tuple[tuple[TensorInput, ...], bool]":
    """Return the tensors of all `--input`, and whether one says `auto`."""
    given = list(texts or ())
    find = AUTO in given
    if find and len(given) > 1:
        what = f"`{AUTO}` finds every tensor of the call, and other inputs are given"
        raise UsageError(what, "--input", "leave one of them out")
    return tuple(parse_shape(text) for text in given if text != AUTO), find


def renames_of(texts: Sequence[str] | None, prefix: str | None) -> "tuple[Rename, ...]":
    """Return the renamings of `--strip-prefix` and `--rename`; a wrong one is a `UsageError`."""
    from modswap.core.asked.renames import parsed_rename, stripped

    if prefix == "":
        raise UsageError("the prefix is empty", "--strip-prefix", "write --strip-prefix backbone.")
    found = [stripped(prefix)] if prefix is not None else []
    for text in texts or ():
        rename = parsed_rename(text)
        if rename is None:
            fix = "write --rename 'backbone.=encoder.', or --rename 'backbone.=' to take it away"
            raise UsageError(f"{text!r:.80} is no OLD=NEW", "--rename", fix)
        found.append(rename)
    return tuple(found)


def policy_of(
    allow: Sequence[str] | None,
    alias: Sequence[str] | None,
    *,
    trust: bool,
    checksum: bool = True,
) -> "Policy":
    """Return the classes that a checkpoint may build; raise a `UsageError` for wrong names."""
    from modswap.core.asked.job import Policy
    from modswap.core.asked.permissions import first_flaw

    pairs = []
    for text in alias or ():
        old, equals, new = text.partition("=")
        if not equals or not old or not new:
            fix = "write --alias __main__.Net=mynets.Net"
            raise UsageError(f"{text!r} is not OLD=NEW", "--alias", fix)
        pairs.append((old, new))
    if flaw := first_flaw(allow or (), pairs):
        raise UsageError(flaw[1], f"--{flaw[0]}", flaw[2])
    return Policy(tuple(allow or ()), tuple(pairs), trust, checksum)


def parse_shape(text: str) -> "TensorInput":
    """Parse a dummy input, `1,3,224,224` or `1,3,224,224:float32`, or raise a `UsageError`."""
    from pydantic import ValidationError

    from modswap.core.asked.recipe import Dtype, TensorInput

    sizes, colon, dtype = text.partition(":")
    fix = "write it as 1,3,224,224 or 1,3,224,224:float32, or auto"
    try:
        shape = tuple(int(size) for size in sizes.replace("x", ",").split(","))
    except ValueError:
        raise UsageError(f"{text!r} is not a shape", "--input", fix) from None
    if colon:
        _check_name(dtype, get_args(Dtype), "dtype", "--input")
    try:
        return TensorInput.model_validate({"shape": shape, "dtype": dtype or "float32"})
    except ValidationError:
        wrong = "below 1" if min(shape) < 1 else "beyond what a tensor can have"
        what = f"{text!r:.80} has a size {wrong}"
        raise UsageError(what, "--input", fix) from None


def memory_of(text: str | None) -> int | None:
    """Return the number of bytes in the text of `--max-memory`, or raise a `UsageError`."""
    from modswap.core.decided.cost import parse_size

    try:
        return None if text is None else parse_size(text)
    except ValueError as error:
        raise UsageError(str(error), "--max-memory", "write it as 8GiB or 500MB") from None


def refuse_both(*, fast: bool, thorough: bool) -> None:
    """Refuse a call that asks for no examination, and for all of them."""
    if fast and thorough:
        raise UsageError(
            "--fast and --thorough exclude each other", "--fast", "leave one of them out"
        )


def refuse_idle(output: Path | None, *, dry_run: bool) -> None:
    """Refuse a call without a file to write, but a dry run."""
    if output is None and not dry_run:
        fix = "add `-o OUT`, or --dry-run to write nothing"
        raise UsageError("there is no file to write", "-o", fix)
