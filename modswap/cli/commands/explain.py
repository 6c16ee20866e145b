"""`modswap explain`: a module's forward, line by line."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modswap.cli import completion, one_rule, options
from modswap.cli.session import Session
from modswap.core.asked.used_paths import UsedPath
from modswap.core.errors import UsageError
from modswap.core.explained.target import CLASS, FILE, parse_target
from modswap.core.explained.words import LANGUAGES

if TYPE_CHECKING:
    from modswap.ops.explain.job import Answer

_NO_FILE = Path()


def explain(
    context: typer.Context,
    module: Annotated[
        str,
        typer.Argument(
            metavar="MODULE",
            help="A name of `modswap catalogue`, FILE:PATH, or package.module:Class(…).",
            show_default=False,
            autocompletion=completion.modules,
        ),
    ],
    inputs: options.Input = None,
    settings: one_rule.Settings = None,
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth",
            min=0,
            help="How many functions and modules below the forward to follow.",
            show_default=False,
        ),
    ] = None,
    plain: Annotated[
        bool | None,
        typer.Option(
            "--plain/--fast",
            help="The form of the paper, as where there is one, or the form that runs.",
            show_default=False,
        ),
    ] = None,
    times: Annotated[
        bool, typer.Option("--time/--no-time", help="Time the lines, or not.", show_default=False)
    ] = True,
    image: Annotated[
        Path | None,
        typer.Option(
            "--image",
            metavar="FILE",
            help="A picture that the model gets, in place of a dummy input.",
            show_default=False,
        ),
    ] = None,
    routing: Annotated[
        Path | None,
        typer.Option(
            "--routing",
            metavar="OUT",
            help="Draw which windows a BiLevelRoutingAttention attends to: OUT.svg or OUT.png.",
            show_default=False,
        ),
    ] = None,
    windows: Annotated[
        list[str] | None,
        typer.Option(
            "--window",
            metavar="ROW,COLUMN",
            help="A window to draw, from 0,0 at the top left; may be repeated.",
            show_default=False,
        ),
    ] = None,
    force: options.Force = False,
    lang: Annotated[str, typer.Option("--lang", metavar="LANG", help="en or zh.")] = "en",
    model: options.Model = None,
    rename: options.Renames = None,
    strip_prefix: options.StripPrefix = None,
    allow: options.Allow = None,
    alias: options.Alias = None,
    trust: options.Trust = False,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORM",
            help="text, markdown, html or json.",
            autocompletion=completion.forms,
        ),
    ] = "text",
    report: options.Report = None,
    quiet: options.Hush = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:
    """Show what each line of a module's forward computes: shapes, FLOPs, bytes, time."""
    target = parse_target(module)
    file = Path(target.text) if target.kind == FILE else ""
    session = options.begin(
        context, file, report=report, quiet=quiet, verbose=verbose, no_color=no_color
    )
    options.note_paths(session, model=target.text if target.kind == CLASS else model)
    options.check_format(session, form, ("text", "markdown", "html", "json"))
    if lang not in LANGUAGES:
        raise UsageError(f"no language {lang!r:.40}", "--lang", f"use {' or '.join(LANGUAGES)}")
    policy = options.policy_of(allow, alias, trust=trust)
    renames = options.renames_of(rename, strip_prefix)
    subject = options.subject(Path(file or _NO_FILE), policy, model, inputs, renames)
    given = one_rule.settings_of(settings or ())
    drawing = _note_drawing(session, image, routing, windows or ())

    from modswap.ops.explain.job import ExplainOptions, explain_asked
    from modswap.ops.explain.subject import Asked
    from modswap.report.explained import FORMS
    from modswap.report.explained.html import explained_html

    with session.guarded() as progress:
        asked = Asked(target, subject, given, image)
        shown = session.format == "html"
        choice = ExplainOptions(depth, plain, times, routing is not None, routed_where_any=shown)
        answer = explain_asked(asked, choice, progress)
    if routing is not None and answer.explained.routing is not None:
        _draw(answer, routing, drawing, lang, force=force)
    if session.format == "html":
        session.emit(explained_html(answer.explained, lang, session.page(), _picture(answer)))
    else:
        session.emit(FORMS[session.format](answer.explained, lang, session.page()))


def _picture(answer: "Answer") -> bytes:
    """Return the picture of a page over which a routing is drawn."""
    from modswap.ops.explain.picture import page_picture

    return page_picture(answer.png) if answer.explained.routing is not None else b""


_Place = tuple[int, int]


def _note_drawing(
    session: Session, image: Path | None, routing: Path | None, windows: Sequence[str]
) -> list[_Place]:
    """Return the windows to draw; note the picture as read and the drawing as written."""
    session.reads += [UsedPath("the picture", image)] if image is not None else []
    if routing is None:
        if windows:
            raise UsageError("no drawing is asked for", "--window", "add --routing OUT.svg")
        return []
    if routing.suffix.lower() not in {".svg", ".png"}:
        what = f"{routing.name!r:.80} is no SVG and no PNG"
        raise UsageError(what, "--routing", "name OUT.svg or OUT.png")
    session.writes.append(UsedPath("the drawing", routing))
    return [_window(text) for text in windows]


def _window(text: str) -> _Place:
    row, comma, column = text.partition(",")
    if not (comma and row.strip().isdecimal() and column.strip().isdecimal()):
        raise UsageError(f"{text!r:.40} is no ROW,COLUMN", "--window", "write --window 3,3")
    return int(row), int(column)


def _draw(answer: "Answer", out: Path, places: Sequence[_Place], lang: str, *, force: bool) -> None:
    """Write the drawing of a routing."""
    from modswap.core.explained.drawing import drawing_of
    from modswap.io.raw.atomic import replacing
    from modswap.ops.explain.picture import routing_png
    from modswap.report.explained.svg import routing_svg

    routing = answer.explained.routing
    assert routing is not None  # noqa: S101 - it was asked for
    chosen = []
    for place in places:
        number = routing.number(*place)
        if number is None:
            what = f"there is no window {place[0]},{place[1]}, or it is padding"
            fix = f"the windows are {routing.rows} rows of {routing.columns}, from 0,0"
            raise UsageError(what, "--window", fix)
        chosen.append(number)
    numbers = chosen or routing.examples
    if out.suffix.lower() == ".svg":
        data = routing_svg(drawing_of(routing, numbers, lang), answer.png).encode()
    else:  # pillow's letters are Latin
        data = routing_png(drawing_of(routing, numbers, "en"), answer.png)
    with replacing(out, force=force) as temporary:
        temporary.write_bytes(data)
