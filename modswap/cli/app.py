"""The command as a whole: its subcommands, and how every error becomes an exit code."""

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from modswap.cli.commands.catalogue import catalogue
from modswap.cli.commands.check import check
from modswap.cli.commands.demo import demo
from modswap.cli.commands.init import init
from modswap.cli.commands.replace import replace
from modswap.cli.commands.schema import schema
from modswap.cli.commands.tree import tree
from modswap.cli.outcomes import publish, says_errors
from modswap.cli.session import Session
from modswap.core.errors import ModswapError, UsageError
from modswap.core.version import __version__
from modswap.core.words.nearest import did_you_mean

COMMANDS = (tree, init, replace, check, catalogue, schema, demo)
BUG = 70
STOPPED = 130


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
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        invoke_without_command=True,
        callback=_root,
    )
    for command in COMMANDS:
        app.command()(command)
    return app


def run(args: Sequence[str]) -> int:
    """Run the command and return its exit code; nothing is raised.

    Args:
        args: The arguments behind `modswap`.
    """
    session = Session(color="--no-color" not in args)  # what the parser refuses is told as well
    # torch works without NumPy, and says at its import that it is not there
    warnings.filterwarnings("ignore", "Failed to initialize NumPy", UserWarning)
    try:
        ended = make_app()(list(args), prog_name="modswap", standalone_mode=False, obj=session)
        return ended if isinstance(ended, int) else 0
    except ModswapError as error:
        return _failed(session, error)
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("stopped\n")
        return STOPPED
    except BrokenPipeError:
        # whoever read our output has gone; nothing may be written while the program ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except typer.Exit as exit_:
        return exit_.exit_code
    except Exception as error:  # noqa: BLE001 - whatever is left is a wrong call or a bug of ours
        return _usage(session, error, args) if hasattr(error, "format_message") else _bug(error)


def _failed(session: Session, error: ModswapError) -> int:
    """Tell of an error that no outcome holds; programs that read the report find it there."""
    reported = session.format != "table" and session.command in {"replace", "check"}
    if not reported or says_errors(session):
        session.complain(error)
    if reported:
        from modswap.core.kept.outcome import Outcome

        outcome = Outcome(session.command, session.checkpoint, session.recipe, error=error)
        try:
            publish(session, [outcome])
        except ModswapError as unwritten:
            if (unwritten.what, unwritten.where) != (error.what, error.where):
                session.complain(unwritten)
    return error.code


def _usage(session: Session, error: Any, args: Sequence[str]) -> int:
    """Print what the argument parser refused, with the nearest right name."""
    message = str(error.format_message()).rstrip(".")
    message = message[:1].lower() + message[1:]
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", "modswap") if context else "modswap"
    near = ""
    unknown = getattr(error, "option_name", None)
    if unknown and context is not None:
        known = [name for parameter in context.command.params for name in parameter.opts]
        near = did_you_mean(str(unknown).lstrip("-"), [name.lstrip("-") for name in known])
        near = near.replace("'", "`--", 1).replace("'", "`", 1) if near.count("'") == 2 else near
        message = f"no such option: {unknown}"
    elif message.startswith("no such command"):
        named = next((arg for arg in args if not arg.startswith("-")), "")
        near = did_you_mean(named, [command_.__name__ for command_ in COMMANDS])
        message = f"no such command: {named}"
    fix = near or f"see `{command} --help`"
    session.complain(UsageError(message, "", fix))
    return 2


def _bug(error: Exception) -> int:
    traceback.print_exception(error)
    sys.stderr.write(
        f"\nthis is a bug of modswap {__version__}: please report it with the lines above, the "
        "command and the recipe\n"
    )
    return BUG
