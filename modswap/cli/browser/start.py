"""Start the browser, where there is a terminal and Textual is installed."""

import sys

from modswap.cli.session import Session, put_text
from modswap.core.errors import MissingModuleError, UsageError
from modswap.core.seen.tree import Tree


def browse(session: Session, tree: Tree) -> None:
    """Show the tree in the terminal until the user leaves it.

    Raises:
        UsageError: If there is no terminal, or another form of output is asked for.
        MissingModuleError: If Textual is not installed.
    """
    if session.format != "table" or session.report is not None:
        what = "a browser writes no report"
        raise UsageError(what, "--interactive", "leave --format and --report out")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        what = "there is no terminal to browse in"
        raise UsageError(what, "--interactive", "leave it out, or run it in a terminal")
    try:
        from modswap.cli.browser.app import TreeBrowser
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        what = "the browser needs Textual, which is not installed"
        raise MissingModuleError(what, "--interactive", 'pip install "modswap[browse]"') from None
    TreeBrowser(tree, lambda file, text: put_text(file, text, force=False)).run()
