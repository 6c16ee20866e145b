"""The command that was typed, once more with further options, as a line to paste into a shell."""

import shlex
from collections.abc import Iterable, Sequence

from modswap.core.errors import NAME_A_FACTORY, ModswapError
from modswap.core.words.printable import tame, without_commands

_PLACEHOLDERS = {NAME_A_FACTORY[1]: "your own FACTORY", "yourmodule.": "the name of your module"}
_FOR = {"--no-forward": "replace"}  # commands that alone have an option


def command_again(args: Sequence[str], errors: Iterable[ModswapError]) -> str:
    """Return a line that says how to run the command again, for the options that errors propose.

    Returns:
        An empty text if there are none, or the command does not have them.
    """
    added = _added(args, errors)
    if not added:
        return ""
    end = args.index("--") if "--" in args else len(args)
    line = " ".join(map(shell_word, ("modswap", *args[:end], *added, *args[end:])))
    missing = [name for mark, name in _PLACEHOLDERS.items() if any(mark in one for one in added)]
    return f"run, with {' and '.join(missing)}: {line}" if missing else f"run: {line}"


def _added(args: Sequence[str], errors: Iterable[ModswapError]) -> list[str]:
    """Return the words of the options that errors propose and the command has, each once."""
    command = next((word for word in args if not word.startswith("-")), "")
    pairs = dict.fromkeys(_pairs(word for one in errors for word in one.retry))
    return [word for pair in pairs if _FOR.get(pair[0], command) == command for word in pair]


def _pairs(words: Iterable[str]) -> Iterable[tuple[str, ...]]:
    """Yield each option with its value."""
    pair: tuple[str, ...] = ()
    for word in words:
        if word.startswith("--") and pair:
            yield pair
            pair = ()
        pair = (*pair, word)
    if pair:
        yield pair


def shell_word(text: str) -> str:
    """Return a word as a POSIX shell reads it back, all of its characters to be seen."""
    quoted = shlex.quote(text)
    if tame(quoted) == quoted and without_commands(quoted) == quoted:
        return quoted
    kept = {*range(0x20, 0x7F)} - set(b"'\\#:")
    raw = text.encode("utf-8", "surrogateescape")
    escaped = "".join(chr(byte) if byte in kept else f"\\x{byte:02x}" for byte in raw)
    return f"$'{escaped}'"
