"""The command with its subcommands; it turns every error into an exit code."""

import sys
import traceback
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

import typer
from typer.main import get_command

from modswap.cli.commands.catalogue import catalogue
from modswap.cli.commands.check import check
from modswap.cli.commands.code import code
from modswap.cli.commands.demo import demo
from modswap.cli.commands.diff import diff
from modswap.cli.commands.explain import explain
from modswap.cli.commands.finalize import finalize
from modswap.cli.commands.heal import heal
from modswap.cli.commands.init import init
from modswap.cli.commands.replace import replace
from modswap.cli.commands.revert import revert
from modswap.cli.commands.schema import schema
from modswap.cli.commands.sweep import sweep
from modswap.cli.commands.tree import tree
from modswap.cli.commands.verify import verify
from modswap.cli.outcomes import STOPPED, prints_errors, publish
from modswap.cli.ranks import may_complain, silence_warnings
from modswap.cli.session import ReportError, Session
from modswap.cli.streams import use_own_streams
from modswap.core.errors import ModswapError, UsageError
from modswap.core.raised import error_of_model
from modswap.core.version import __version__
from modswap.core.words.nearest import did_you_mean, nearest
from modswap.core.words.printable import tame_lines, without_commands
from modswap.core.words.unhelpful_warnings import ignore_unhelpful_warnings

COMMANDS = (
    tree, init, replace, check, heal, sweep, finalize, revert, verify, diff, catalogue, code,
    explain, schema, demo,
)  # fmt: skip
_WITHOUT_FILE = frozenset({"explain", "catalogue"})  # they may run a module that no file holds
_REPORTING = (
    "replace",
    "check",
    "heal",
    "finalize",
    "revert",
)  # commands whose reports hold errors
BUG = 70


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"modswap {__version__}\n")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Replace modules inside trained PyTorch models, checked by a dummy forward pass."""
    del version
    if context.invoked_subcommand is None:
        sys.stdout.write(f"{context.get_help()}\n")


def make_app() -> typer.Typer:
    """Return the command with its subcommands."""
    app = typer.Typer(
        name="modswap",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        invoke_without_command=True,
        callback=_root,
    )
    for command in COMMANDS:
        app.command()(command)
    return app


@cache
def _parser() -> Any:
    """Return the parser of arguments, made once: that takes longer than most of its uses."""
    return get_command(make_app())


def run(args: Sequence[str]) -> int:
    """Run the command with the arguments behind `modswap`; return its exit code, never raise."""
    use_own_streams()
    silence_warnings()
    # for errors of the parser
    session = Session(color="--no-color" not in args, args=tuple(args))
    ignore_unhelpful_warnings()
    try:
        ended = _parser()(list(args), prog_name="modswap", standalone_mode=False, obj=session)
        sys.stdout.flush()
        return ended if isinstance(ended, int) else 0
    except ModswapError as error:
        return _report_failure(session, error)
    except (KeyboardInterrupt, typer.Abort):
        return STOPPED
    except typer.Exit as exit_:
        return exit_.exit_code
    except (Exception, SystemExit) as error:  # noqa: BLE001 - each gets the error of its kind
        return _report_raised(session, error, args)


def _report_failure(session: Session, error: ModswapError) -> int:
    """Print an error that no outcome holds; write it into the report if a program reads that."""
    reported = session.format != "table" and session.command in {
        "replace",
        "check",
        "heal",
        "finalize",
        "revert",
    }
    unwritten = isinstance(error, ReportError)
    if not reported or unwritten or prints_errors(session):
        session.complain(error)
    if reported and not unwritten:
        from modswap.core.kept.outcome import Outcome

        outcome = Outcome(session.command, session.checkpoint, session.recipe, error=error)
        try:
            publish(session, [outcome])
        except ModswapError as another:
            session.complain(another)
    return error.code


def _report_usage(session: Session, error: Any, args: Sequence[str]) -> int:
    """Print an error of the argument parser, with the nearest right name."""
    context = getattr(error, "ctx", None)
    message, fix = _unknown_name(error, context, args)
    if not message:
        message = str(error.format_message()).rstrip(".")
        message = message[:1].lower() + message[1:]
    command = getattr(context, "command_path", "modswap")
    session.complain(UsageError(message, "", fix or f"see `{command} --help`"))
    return 2


def _unknown_name(error: Any, context: Any, args: Sequence[str]) -> tuple[str, str]:
    """Return a message and advice about an option or a command that does not exist, else empty."""
    option = getattr(error, "option_name", None)
    if context is None:
        return "", ""
    if option:
        known = [name for parameter in context.command.params for name in parameter.opts]
        near = nearest(option, known, count=1)
        return f"no such option: {option}", f"did you mean `{near[0]}`?" if near else ""
    named = next((arg for arg in args if not arg.startswith("-")), "")
    if context.parent is None and named:
        commands = [command.__name__ for command in COMMANDS]
        return f"no such command: {named}", did_you_mean(named, commands)
    return "", ""


def _report_raised(session: Session, error: Exception | SystemExit, args: Sequence[str]) -> int:
    """Print an exception of the parser, of the model's own code, or of a bug.

    Before a command begins, the process is ended where a shell that asked for words was answered.
    """
    if isinstance(error, SystemExit) and not session.command:
        return error.code if isinstance(error.code, int) else 0
    if hasattr(error, "format_message"):
        return _report_usage(session, error, args)
    where = session.checkpoint or (session.command if session.command in _WITHOUT_FILE else "")
    of_model = error_of_model(error, where) if where else None
    if of_model is not None:
        return _report_failure(session, of_model)
    return _report_bug(error)


def _report_bug(error: BaseException) -> int:
    if not may_complain():
        return BUG
    lines = tame_lines("".join(traceback.format_exception(error)))
    sys.stderr.write(without_commands(lines))
    sys.stderr.write(
        f"\nthis is a bug of modswap {__version__}: please report it with the lines above, the "
        "command and the recipe\n"
    )
    return BUG
