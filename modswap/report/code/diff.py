"""Print the change of a model's source as a unified diff, and its proof."""

from collections.abc import Sequence
from difflib import unified_diff
from pathlib import Path

from modswap.core.kept.code_change import (
    CodeChange,
    FileChange,
    SiteChange,
    StandaloneFile,
    WrittenFile,
)

_NO_END = "\\ No newline at end of file"


def unified(change: CodeChange) -> str:
    """Return the diff of all files, as `git apply` and `patch -p1` take it."""
    return "".join(map(unified_file, change.files))


def unified_file(file: FileChange) -> str:
    """Return the diff of one file."""
    before, after = (_lines(data, file.encoding) for data in (file.before, file.after))
    name = shown_path(file.file)
    old, new = (name, name) if name.startswith("/") else (f"a/{name}", f"b/{name}")
    lines = unified_diff(before, after, old, new)
    return "".join(line if line.endswith("\n") else f"{line}\n{_NO_END}\n" for line in lines)


def _lines(data: bytes, encoding: str) -> list[str]:
    text = data.decode(encoding)
    lines = text.split("\n")
    return [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def shown_path(file: str) -> str:
    """Return a file's path from the present folder where it is inside, else as it is."""
    place, here = Path(file), Path.cwd()
    if place.is_absolute() and place.is_relative_to(here):
        place = place.relative_to(here)
    return place.as_posix()


def summary(change: CodeChange) -> str:
    """Return the sites with their places, and what was proved."""
    lines = [_site(site) for site in change.sites]
    lines += [f"note  {note}" for note in change.notes]
    lines += [f"written  {shown_path(change.written)}"] if change.written else []
    files = _counted(len(change.files), "file")
    proof = f"{change.builder} of the changed source builds the swapped model in a fresh process"
    lines.append(
        f"OK  {_counted(len(change.sites), 'site')} in {files}: {proof}; "
        f"{change.modules} modules of equal classes, outputs {change.apart:.2g} apart"
    )
    return "".join(f"{line}\n" for line in lines)


def _site(site: SiteChange) -> str:
    place = f"{shown_path(site.file)}:{site.line}"
    way = "the call is replaced" if site.way == "call" else "a line is added"
    observed = f"; written as observed: {', '.join(site.literals)}" if site.literals else ""
    return f"{site.path}  {place}  {way}{observed}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def written_lines(files: Sequence[WrittenFile]) -> str:
    """Return a line for each file that was written, with the place of its old text."""
    kept = (shown_path(one.copy) if one.copy else "in git" for one in files)
    return "".join(
        f"written  {shown_path(one.file)}, its old text is {old}\n"
        for one, old in zip(files, kept, strict=True)
    )


def standalone_lines(made: StandaloneFile, file: str) -> str:
    """Return what a standalone file lacks, and that it was proved."""
    lines = [f"note  {note}" for note in made.notes]
    count = made.text.count("\n")
    lines.append(f"written  {shown_path(file)}, {count:,} lines")
    lines.append(
        "OK  its `load(file)` gives the swapped model in a process without modswap, "
        f"outputs {made.apart:.2g} apart"
    )
    return "".join(f"{line}\n" for line in lines)


def host_summary(made: StandaloneFile, library: str) -> str:
    """Return what was proved of the lines for a library."""
    return (
        f"OK  the lines give the swapped model of {library} in a fresh process, "
        f"outputs {made.apart:.2g} apart"
    )
