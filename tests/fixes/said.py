"""Read errors, with their fixes, from what the command printed."""

import re
from typing import NamedTuple

_ERROR = re.compile(r"\s*(?:error: |✗ |x )(.*)")
_FIX = re.compile(r"\s+fix: (.*)")
_PLACE = re.compile(r"^\S+\.yaml:\d+:\d+: ")  # of a recipe, which another key moves


class Said(NamedTuple):
    """An error and its fixes, joined by semicolons."""

    what: str
    fix: str

    @property
    def fault(self) -> str:
        """Return the error without its line in a recipe."""
        return _PLACE.sub("", self.what)


def errors(*texts: str) -> list[Said]:
    """Return the errors that a run of the command printed."""
    found: list[tuple[str, list[str]]] = []
    for line in "\n".join(texts).splitlines():
        error, fix = _ERROR.match(line), _FIX.match(line)
        if error:
            found.append((error[1], []))
        elif fix and found:
            found[-1][1].append(fix[1])
        elif found and found[-1][1] and line.startswith("  "):
            found[-1][1][-1] += f" {line.strip()}"  # the rest of a long line
        elif found and not found[-1][1] and line.startswith("  "):
            found[-1] = (f"{found[-1][0]} {line.strip()}", [])
    return [Said(what.rstrip(), "; ".join(fixes)) for what, fixes in found]
