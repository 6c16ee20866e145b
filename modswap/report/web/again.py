"""The commands that print the numbers of a page again."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from modswap.core.kept.outcome import Outcome
from modswap.core.words.printable import tame

# options of the report, of the file to write, and those that `check` alone has
_WITH_VALUE = (
    "--format", "--report", "-o", "--output", "--save-recipe", "-j", "--jobs", "--lock-file",
    "--routing", "--window",
)  # fmt: skip
_FLAGS = (
    "--force", "--dry-run", "-v", "--verbose", "-q", "--quiet", "--resume", "--fix", "--lock",
    "--locked", "--strict",
)  # fmt: skip
# options by which a file is loaded, and whether each has a value
_LOADING = {
    **dict.fromkeys(("--model", "--rename", "--strip-prefix", "--allow", "--alias"), True),
    "--trust": False,
}
_WRITING = ("replace", "heal", "finalize", "revert")


@dataclass(frozen=True, slots=True)
class Again:
    """A command that prints numbers again.

    Args:
        key: The name by which numbers link to it.
        what: The numbers, in words.
        command: A line for a shell.
    """

    key: str
    what: str
    command: str


_NUMBERS = (
    ("verdict", "whether it holds", ".ok"),
    ("params", "parameters", ".params"),
    ("cost", "FLOPs and memory", '.verify.checks[] | select(.check == "cost")'),
    ("drift", "distance of the outputs", '.verify.checks[] | select(.check == "drift")'),
    ("sites", "sites, classes, shapes, chosen values", ".sites"),
    ("checks", "findings", ".verify"),
    ("ledger", "tensors kept, mapped, fresh and dropped", ".ledger"),
    ("healing", "agreements and errors of the healing", ".healing"),
)


def again(outcome: Outcome, args: Sequence[str]) -> tuple[Again, ...]:
    """Return the commands for the numbers of an outcome.

    Nothing is written by them. `args` are the words of the command that was typed; without them
    the commands are made of the outcome.
    """
    line = shell_line(*_words(outcome, args))
    found = [Again(key, what, f"{line} | jq {shlex.quote(path)}") for key, what, path in _NUMBERS]
    without = {"healing"} if outcome.healing is None else set()
    without |= {"cost", "drift", "checks"} if outcome.verdict is None and outcome.ok else set()
    kept = [one for one in found if one.key not in without]
    return (*kept, *_of_view(outcome, line), *_of_files(outcome))


def _of_view(outcome: Outcome, line: str) -> Iterator[Again]:
    view = outcome.view
    if view is not None and view.milliseconds is not None:
        html = f"{line.removesuffix('json')}html --report PAGE.html"
        yield Again("latency", "time of a pass, measured anew", html)
    if view is not None and view.after:
        yield Again("tree", "the modules", shell_line("modswap", "tree", outcome.checkpoint))


def _of_files(outcome: Outcome) -> Iterator[Again]:
    if outcome.written is not None:
        file = str(outcome.written.file)
        verify = shell_line("modswap", "verify", file)
        yield Again("file", "the written file and its checksums", verify)
        what = "all that differs between the two files"
        yield Again("diff", what, shell_line("modswap", "diff", outcome.checkpoint, file))


def explained_again(args: Sequence[str]) -> str:
    """Return the command for the numbers of an explanation; empty where none was typed."""
    return shell_line("modswap", *_plain(args), "--format", "json") if args else ""


def loading(args: Sequence[str], others: Sequence[str] = ()) -> list[str]:
    """Return the options of a command by which its file is loaded, and others that have values."""
    return given(args, {**_LOADING, **dict.fromkeys(others, True)})


def given(args: Sequence[str], names: Mapping[str, bool]) -> list[str]:
    """Return some options of a command as they were typed, with their values."""
    words, found = iter(args), list[str]()
    for word in words:
        name, equals, _ = word.partition("=")
        if name in names:
            found.append(word)
            if names[name] and not equals:
                found += [next(words, "")]
    return found


def routing_line(outcome: Outcome, path: str, args: Sequence[str] = ()) -> str:
    """Return the command for the page of a site's routing over a picture.

    OUT is the file of the first next step where none was written; empty where no swap holds.
    """
    if not outcome.ok:
        return ""
    place = f"{outcome.written.file if outcome.written is not None else 'OUT'}:{path}"
    form = ("--format", "html", "--report", "routing.html")
    words = ("explain", place, "--image", "PHOTO.jpg", *loading(args), *form)
    return shell_line("modswap", *words)


def swept_again(args: Sequence[str]) -> str:
    """Return the command for the numbers of a sweep; empty where none was typed."""
    left_out = (*_WITH_VALUE, "--plot", "--plot-cost")
    words = _without(args, left_out, [one for one in _FLAGS if one != "--resume"])
    return shell_line("modswap", *words, "--format", "json") if args else ""


def shell_line(*words: str) -> str:
    """Return words as a line for a shell, what cannot be seen in them with escapes."""
    return tame(" ".join(map(shlex.quote, words)))


def _words(outcome: Outcome, args: Sequence[str]) -> list[str]:
    dry = ["--dry-run"] if outcome.command in _WRITING else []
    return ["modswap", *typed(outcome, args), *dry, "--format", "json"]


def typed(outcome: Outcome, args: Sequence[str]) -> list[str]:
    """Return the words of a command, without those on its report and on the file to write."""
    if not args:
        recipe = ["-c", outcome.recipe] if outcome.recipe else []
        return [outcome.command, outcome.checkpoint, *recipe]
    return list(_without(args, (*_WITH_VALUE, "--image"), _FLAGS))


def _plain(args: Sequence[str]) -> Iterator[str]:
    return _without(args, _WITH_VALUE, _FLAGS)


def _without(args: Sequence[str], valued: Sequence[str], flags: Sequence[str]) -> Iterator[str]:
    """Yield the words of a command without some options; `valued` are those with a value."""
    words = iter(args)
    for word in words:
        if word in valued:
            next(words, "")
        elif word not in flags and word.partition("=")[0] not in valued:
            yield word
