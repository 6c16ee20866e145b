"""Judge the names that a user allows a checkpoint to build: classes, or all of a package."""

import re
import sys
from collections.abc import Iterable, Sequence

# whose modules run code or reach files when they are merely imported or called
_NOT_AS_PATTERN = frozenset(sys.stdlib_module_names) | {
    "__main__", "_distutils_hack", "builtins", "functorch", "pip", "pkg_resources", "setuptools",
    "torch", "torchgen",
}  # fmt: skip
_FIX = "name each class in full, --allow package.module.Class"


def package_prefixes(allow: Iterable[str]) -> tuple[str, ...]:
    """Return `package.` for every `package.*` among the entries that may stand for a package."""
    return tuple(
        entry[:-1] for entry in allow if entry.endswith(".*") and permission_flaw(entry) is None
    )


def permission_flaw(entry: str) -> tuple[str, str] | None:
    """Return what is wrong with an entry of `--allow`, and how to mend it; None if it is sound.

    An entry is a dotted name, or a package followed by `.*`; the standard library, torch and
    `__main__` cannot be allowed as a whole.
    """
    stem = entry.removesuffix(".*")
    segments = stem.split(".")
    if not all(segment.isidentifier() for segment in segments):
        what = f"{entry!r:.80} is no package.module.Class and no package.*"
        return what, "`*` stands for the classes of a package only at the end, behind a dot"
    if any(re.fullmatch("__.*__", segment) for segment in segments[1:]):
        what = f"{entry!r:.80} is in a module that runs when it is imported"
        return what, "import it yourself and save the file again without that class"
    if stem == entry:
        return None
    if segments[0] == "__main__":
        what = f"{entry!r:.80} would allow the classes of any script"
        return what, "say where each class is now: --alias __main__.Net=mynets.Net"
    if segments[0] in _NOT_AS_PATTERN:
        whose = "torch" if segments[0].startswith(("torch", "functorch")) else "Python"
        what = f"{entry!r:.80} would allow parts of {whose} that run code and write files"
        return what, _FIX
    return None


def alias_flaw(old: str, new: str) -> tuple[str, str] | None:
    """Return what is wrong with an alias, and how to mend it; None if it is sound."""
    for name in (old, new):
        if not all(segment.isidentifier() for segment in name.split(".")):
            what = f"{name!r:.80} is no dotted name"
            return what, "an alias is for a class: --alias __main__.Net=mynets.Net"
    return None


def first_flaw(
    allow: Sequence[str], aliases: Sequence[tuple[str, str]]
) -> tuple[str, str, str] | None:
    """Return the option, the fault and the fix of the first wrong permission, or None."""
    if isinstance(allow, str):
        return "allow", f"{allow!r:.80} is one text, not a list of names", f"write [{allow!r:.80}]"
    for entry in allow:
        if flaw := permission_flaw(entry):
            return ("allow", *flaw)
    for pair in aliases:
        if not _is_pair(pair):
            what = f"{pair!r:.80} is no pair of names, old and new"
            return "alias", what, "write [('__main__.Net', 'mynets.Net')]"
        if flaw := alias_flaw(*pair):
            return ("alias", *flaw)
    return None


def _is_pair(entry: object) -> bool:
    """Return whether an entry is two texts; a caller from Python may give anything."""
    match entry:
        case (str(), str()):
            return True
    return False
