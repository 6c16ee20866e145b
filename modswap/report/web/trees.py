"""The module trees before and after a swap, side by side, as a list without nesting."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from modswap.core.kept.model_view import ModelView
from modswap.core.seen.tree import TreeRow
from modswap.report.page import bare
from modswap.report.tree_rows import TreeLine, lines_of

MAX_OPEN = 300  # lines with a change that are open when the page is read
SAME, CHANGED, ADDED, REMOVED = "same", "changed", "added", "removed"


@dataclass(frozen=True, slots=True)
class TreeSide:
    """A module on one side: its class and its parameters; empty texts where it is not there."""

    name: str = ""
    params: str = ""

    @classmethod
    def of(cls, row: TreeRow | None) -> "TreeSide":
        """Return the side of a row of the tree, or of none."""
        return cls() if row is None else cls(bare(row.class_name) or "?", f"{row.params:,}")


@dataclass(frozen=True, slots=True)
class TreeItem:
    """A line of both trees, or the end of the lines inside one.

    Args:
        place: `start` where lines inside follow, `leaf` where none do, `end` after the last one.
        name: The name in the module around it; several equal ones as `0–11 ×12`.
        path: The whole path.
        before: The module before.
        after: The module after.
        kind: same, changed, added or removed.
        open: Whether the lines inside are shown at first.
    """

    place: str
    name: str = ""
    path: str = ""
    before: TreeSide = TreeSide()
    after: TreeSide = TreeSide()
    kind: str = SAME
    open: bool = False


def tree_items(view: ModelView) -> tuple[TreeItem, ...]:
    """Return the lines of both trees in one order, only changes open; nothing where none is known.

    Equal neighbours share a line.
    """
    before = {row.path: row for row in view.before}
    after = {row.path: row for row in view.after}
    if not before or not after:
        return ()
    rows = {**before, **after}
    kinds = {path: _kind(before.get(path), after.get(path)) for path in rows}
    changed = [path for path, kind in kinds.items() if kind != SAME]
    others = {
        path: (old.class_name, old.params) if old else None
        for path, old in ((path, before.get(path)) for path in rows)
    }
    lines = lines_of([*rows.values()], changed, beside=others)
    opened = _opened(lines)
    return tuple(_items(lines, before, after, opened))


def _kind(before: TreeRow | None, after: TreeRow | None) -> str:
    if before is None or after is None:
        return ADDED if before is None else REMOVED
    return SAME if before.class_name == after.class_name else CHANGED


def _opened(lines: Sequence[TreeLine]) -> set[str]:
    """Return the paths around the first changed lines, which are shown open."""
    opened: set[str] = set()
    for line in [line for line in lines if line.marked][:MAX_OPEN]:
        path = line.row.path
        while path:
            path = path.rpartition(".")[0]
            opened.add(path)
    return opened


def _items(
    lines: Sequence[TreeLine],
    before: Mapping[str, TreeRow],
    after: Mapping[str, TreeRow],
    opened: set[str],
) -> Iterator[TreeItem]:
    around: list[TreeLine] = []
    for number, line in enumerate(lines):
        while around and not _inside(line, around[-1]):
            around.pop()
            yield TreeItem("end")
        path = line.row.path
        old, new = before.get(path), after.get(path)
        parent = f"{around[-1].path}." if around and around[-1].path else ""
        name = line.label.removeprefix(parent) or "(the model)"
        filled = number + 1 < len(lines) and _inside(lines[number + 1], line)
        place = "start" if filled else "leaf"
        sides = TreeSide.of(old), TreeSide.of(new)
        yield TreeItem(place, name, line.path, *sides, _kind(old, new), path in opened)
        if filled:
            around.append(line)
    for _ in around:
        yield TreeItem("end")


def _inside(line: TreeLine, other: TreeLine) -> bool:
    """Return whether a line is inside another one."""
    path = other.row.path
    return line.row.path.startswith(f"{path}.") if path else bool(line.row.path)
