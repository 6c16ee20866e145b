"""Read errors, with their fixes, from what the command printed."""

import re
from typing import NamedTuple

_ERROR = re.compile(r"\s*(?:error: |✗ |x )(.*)")
_FIX = re.compile(r"\s+fix: (.*)")
_RUN = re.compile(r"\s+run(?:: modswap (.*)|, with your own .*)")
_PLACE = re.compile(r"^\S+\.yaml:\d+:\d+: ")  # of a recipe, which another key moves


class Said(NamedTuple):
    """An error, its fixes, joined by semicolons, and the command that takes them."""

    what: str
    fix: str
    command: str = ""  # without what the user has to fill in

    @property
    def fault(self) -> str:
        """Return the error without its line in a recipe."""
        return _PLACE.sub("", self.what)


def errors(*texts: str) -> list[Said]:
    """Return the errors that a run of the command printed."""
    found: list[tuple[str, list[str], list[str]]] = []
    for line in "\n".join(texts).splitlines():
        error, fix, run = _ERROR.match(line), _FIX.match(line), _RUN.match(line)
        if error:
            found.append((error[1], [], []))
        elif found and fix:
            found[-1][1].append(fix[1])
        elif found and run:
            found[-1][2].append(run[1] or "")
        elif found and line.startswith("  "):  # the rest of a long line
            what, fixes, runs = found.pop()
            last = runs or fixes or [what]
            last[-1] += f" {line.strip()}"
            found.append((what if runs or fixes else last[-1], fixes, runs))
    return [Said(what.rstrip(), "; ".join(fixes), " ".join(runs)) for what, fixes, runs in found]
