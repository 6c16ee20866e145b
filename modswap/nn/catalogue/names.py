"""The rows that a name or another spelling of it can mean, and advice on a wrong one."""

import re
from collections.abc import Mapping, Sequence

from torch import nn

from modswap.core.words.nearest import in_question, mistyped

MIN_PREFIX = 3  # characters of the beginning of a name by which it is offered
OWN_CLASS = "a class of your own is named package.module:Class or file.py:Class"


def plain(name: str) -> str:
    """Return a name without upper case, hyphens, underscores and blanks, `Attn` written in full."""
    return re.sub(r"(?<=.)attn?$", "attention", re.sub(r"[\s_-]", "", name.casefold()))


def rows_named(name: str, spellings: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the rows that have a name or spelling; `spellings` has those of each row."""
    wanted = plain(name)
    return tuple(row for row, names in spellings.items() if wanted in map(plain, (row, *names)))


def advice(name: str, spellings: Mapping[str, Sequence[str]], otherwise: str) -> str:
    """Return what to write in place of a name that is no row's, or that of several."""
    shared = rows_named(name, spellings)
    if len(shared) > 1:
        return f"it can mean {' and '.join(shared)}: write one of these"
    module, dot, cls = name.rpartition(".")
    if dot and ":" not in name and cls.isidentifier() and cls != "py":
        module = "torch.nn" if module == "nn" and hasattr(nn, cls) else module
        return f"write `{module}:{cls}` if that class is meant"
    layer = getattr(nn, name, None)
    if isinstance(layer, type) and issubclass(layer, nn.Module):
        return f"write `torch.nn:{name}` if torch's layer is meant"
    near = _near(name, spellings)
    return f"{near} {OWN_CLASS[0].upper()}{OWN_CLASS[1:]}" if near else f"{otherwise}; {OWN_CLASS}"


def _near(name: str, spellings: Mapping[str, Sequence[str]]) -> str:
    """Return `did you mean 'x'?` for a mistyped name, and for the beginning of one."""
    bare = plain(name)
    known = {spelling: row for row, names in spellings.items() for spelling in (row, *names)}
    begun = [row for spelling, row in known.items() if plain(spelling).startswith(bare)]
    if len(bare) >= MIN_PREFIX and begun:
        return in_question(list(dict.fromkeys(begun))[:3])
    return mistyped(name, spellings)
