"""The lines of the module tree: modules that repeat one another on one line, with a count."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from modswap.core.seen.tree import TreeRow


@dataclass(frozen=True, slots=True)
class TreeLine:
    """A line of the tree: a module, or several equal ones, as `layers.0–11`."""

    row: TreeRow
    path: str
    times: int = 1
    marked: bool = False  # whether it is highlighted

    @property
    def label(self) -> str:
        """Return the path, with how many modules it is."""
        return f"{self.path} ×{self.times}" if self.times > 1 else self.path


@dataclass(slots=True)
class _Node:
    """A row, the rows below it, and what makes it equal to another one."""

    row: TreeRow
    name: str
    below: list["_Node"] = field(default_factory=list)
    key: int = -1


def lines_of(
    rows: Sequence[TreeRow],
    marked: Collection[str] = (),
    *,
    fold: bool = True,
    beside: Mapping[str, Hashable] = MappingProxyType({}),
) -> list[TreeLine]:
    """Return the lines of some rows; `fold` puts equal neighbours with numbers for names on one.

    `beside` has further facts by which the modules at some paths differ.
    """
    if not fold:
        return [TreeLine(row, row.path, marked=row.path in marked) for row in rows]
    roots = _nodes(rows)
    keys: dict[object, int] = {}
    for node in _inside_out(roots):
        # numbers, so that two modules are compared without a walk through them
        key = _key(node, marked=node.row.path in marked), beside.get(node.row.path)
        node.key = keys.setdefault(key, len(keys))
    return _lines(roots, marked)


def _nodes(rows: Sequence[TreeRow]) -> list[_Node]:
    """Return the outermost rows, each with those below it; a row alone is one of them."""
    known: dict[str, _Node] = {}
    roots = []
    for row in rows:
        above, _, name = row.path.rpartition(".")
        node = known[row.path] = _Node(row, name)
        if row.path and above in known:
            known[above].below.append(node)
        else:
            roots.append(node)
    return roots


def _inside_out(roots: Sequence[_Node]) -> list[_Node]:
    found, stack = [], list(roots)
    while stack:
        node = stack.pop()
        found.append(node)
        stack += node.below
    return found[::-1]


def _key(node: _Node, *, marked: bool) -> object:
    """Return a value that is equal for two modules of which a reader would see no difference."""
    row = node.row
    own = (row.class_name, row.params, row.nbytes, row.dtype, row.flops, row.bare, row.ties)
    calls = tuple(map(str, row.calls))
    inside = tuple((below.name, below.key) for below in node.below)
    return own, row.alias_of, row.stored_as, row.outputs, calls, marked, inside


def _lines(roots: Sequence[_Node], marked: Collection[str]) -> list[TreeLine]:
    lines: list[TreeLine] = []
    stack = [(node, node.row.path, 1) for node in reversed(roots)]
    while stack:
        node, path, times = stack.pop()
        lines.append(TreeLine(node.row, path, times, node.row.path in marked))
        start = f"{path}." if path else ""
        stack += reversed(_groups(node.below, start))
    return lines


def _groups(nodes: Sequence[_Node], start: str) -> list[tuple[_Node, str, int]]:
    """Return the first of each run of equal modules with the path of all, and how many it has."""
    groups: list[list[_Node]] = []
    for node in nodes:
        if groups and _follows(groups[-1][-1], node):
            groups[-1].append(node)
        else:
            groups.append([node])
    return [(group[0], f"{start}{_names(group)}", len(group)) for group in groups]


def _follows(one: _Node, other: _Node) -> bool:
    """Return whether a module is the next one of a list, and equal to the one before."""
    numbers = one.name.isdecimal() and other.name.isdecimal()
    return numbers and int(other.name) == int(one.name) + 1 and one.key == other.key


def _names(group: Sequence[_Node]) -> str:
    first, last = group[0].name, group[-1].name
    return first if len(group) == 1 else f"{first}–{last}"
