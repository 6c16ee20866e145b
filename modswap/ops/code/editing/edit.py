"""Put the making of new modules into source files, and leave every other character as it is."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from torch import nn

from modswap.core.errors import UsageError
from modswap.core.kept.code_change import FileChange, SiteChange
from modswap.ops.code.building.record import CallPlace
from modswap.ops.code.building.source import SourceFile, Span
from modswap.ops.code.editing.intended import refuse_unintended
from modswap.ops.code.editing.lines import AddedLine, lines_for, reading, statement
from modswap.ops.code.editing.locate import Located, Locator, Use
from modswap.ops.code.editing.names import SourceNames
from modswap.ops.code.editing.spell import Form, Spelled, spell

MIN_LIMIT, MAX_LIMIT = 88, 120  # characters of a line


@dataclass(slots=True)
class FileEdit:
    """The changes of a source file: texts of calls, and lines of constructors."""

    source: SourceFile
    names: SourceNames
    calls: dict[Span, str] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)
    # insertions and replacements, by their offsets in the old text
    splices: list[tuple[int, int, str]] = field(default_factory=list)

    def change(self) -> FileChange:
        """Return the changed file; raise an error if more than the intended nodes changed."""
        source = self.source
        if self.names.added:
            self.splices.append(_import_splice(source, list(self.names.added)))
        text = source.text
        places = [(start, end, number) for number, (start, end, _) in enumerate(self.splices)]
        for start, end, number in sorted(places, reverse=True):
            text = text[:start] + self.splices[number][2] + text[end:]
        refuse_unintended(source, text, self.calls, self.lines, list(self.names.added))
        return FileChange(source.file, source.data, text.encode(source.encoding), source.encoding)


class Editor:
    """Writes new modules into the files that make their sites."""

    def __init__(self, locator: Locator) -> None:
        self.locator = locator
        self.model: nn.Module = locator.recording.model
        self.edits: dict[str, FileEdit] = {}
        self.sites: list[SiteChange] = []

    def changes(self) -> tuple[tuple[FileChange, ...], tuple[SiteChange, ...]]:
        """Return the changed files, and the place of each site.

        Raises:
            UsageError: If a site is made by no source of the user's own.
        """
        located = self.locator.located()
        for place, uses in located.calls.items():
            self._replace(place, uses, located)
        for line in lines_for(self.locator, located.rest):
            self._add(line)
        changed = tuple(edit.change() for _, edit in sorted(self.edits.items()))
        return changed, tuple(self.sites)

    def _edit(self, source: SourceFile) -> FileEdit:
        if source.file not in self.edits:
            self.edits[source.file] = FileEdit(source, SourceNames(source))
        return self.edits[source.file]

    def _replace(self, place: CallPlace, uses: Sequence[Use], located: Located) -> None:
        """Replace a call by the making of the new module, or by the shared one's name."""
        source = self.locator.sources.of(place.file)
        assert source is not None  # noqa: S101 - only calls in own files are located
        edit, first = self._edit(source), uses[0]
        lead = _lead(first, located)
        line, last, column, end = place.span
        form = _form(source, line)
        literals: tuple[str, ...] = ()
        if lead is not None:
            text = f"{lead.call.owner_name}{self._way(lead)}"
        else:
            spelled = spell(first.new, edit.names, uses)
            literals = spelled.literals
            room = form.limit - len(source.lines[line - 1].encode()[:column].decode())
            text = spelled.call.wrapped(room, form)
            self._mark(edit, literals, last)
        edit.calls[place.span] = text
        edit.splices.append((source.offset(line, column), source.offset(last, end), text))
        paths = dict.fromkeys(use.path for use in uses)
        self.sites += [SiteChange(path, "call", place.file, line, literals) for path in paths]

    def _way(self, lead: Use) -> str:
        """Return the text from the constructor's own module to the shared one."""
        owner = lead.call.owner
        around = next((n for n, m in self.model.named_modules() if m is owner), None)
        if around is None:
            raise UsageError("it is shared by no module of the model", lead.path, "swap it alone")
        line = AddedLine(None, "", lead.new, "", around)
        return reading(line, self.model, "")

    @staticmethod
    def _mark(edit: FileEdit, literals: Sequence[str], last: int) -> None:
        """Say behind a line which observed arguments are written as numbers."""
        source = edit.source
        end = len(source.lines[last - 1].rstrip("\r\n"))
        start = source.starts[last - 1]
        inside = any(
            isinstance(n, ast.Constant | ast.JoinedStr) and n.lineno <= last < (n.end_lineno or 0)
            for n in ast.walk(source.tree)
            if isinstance(n, ast.expr)
        )
        line = source.lines[last - 1].rstrip()
        if literals and not inside and "#" not in line and not line.endswith("\\"):
            mark = f"  # as observed: {', '.join(literals)}"
            edit.splices.append((start + end, start + end, mark))

    def _add(self, line: AddedLine) -> None:
        """Add a line at the end of a constructor."""
        source = line.source
        assert source is not None  # noqa: S101 - `lines_for` names it, and its constructor
        edit = self._edit(source)
        body = source.constructor(line.cls)
        assert body is not None  # noqa: S101 - as said above
        this = body.args.args[0].arg if body.args.args else body.args.posonlyargs[0].arg
        put_in = edit.names.name("modswap.nn.inserted_site", "put_in") if line.new.beside else ""
        written = edit.lines.setdefault(line.cls, [])
        first = f"{line.around}.{line.tail}".lstrip(".") == (line.new.beside or line.new.paths)[0]
        literals: tuple[str, ...] = ()
        at = body.body[-1]
        form = _form(source, at.lineno)
        if first:
            spelled = spell(line.new, edit.names)
            literals = spelled.literals
            text = _line(line, self.model, this, spelled, put_in, form)
        else:
            text = statement(line, self.model, this, reading(line, self.model, this), put_in)
        written.append(text)
        edit.splices.append(_line_splice(source, at, text, literals))
        instances = [n for n, m in self.model.named_modules() if type(m).__qualname__ == line.cls]
        paths = [f"{name}.{line.tail}".lstrip(".") for name in instances]
        number = source.classes[line.cls].lineno
        self.sites += [SiteChange(p, "line", source.file, number, literals) for p in paths]


def _lead(use: Use, located: Located) -> Use | None:
    """Return the first use of a shared module, or None if this is it."""
    first = use.new.paths[0]
    if use.path == first:
        return None
    same = (one for uses in located.calls.values() for one in uses if one.new is use.new)
    return next((one for one in same if one.path == first), None)


def _line(
    line: AddedLine, model: nn.Module, this: str, spelled: Spelled, put_in: str, form: Form
) -> str:  # fmt: skip
    """Return the statement that makes a new module, wrapped where it is long."""
    flat = statement(line, model, this, str(spelled.call), put_in)
    if len(form.indent) + len(flat) <= form.limit:
        return flat
    room = form.limit - len(form.indent) - (len(flat) - len(str(spelled.call)))
    return statement(line, model, this, spelled.call.wrapped(room, form), put_in)


def _form(source: SourceFile, line: int) -> Form:
    indents = [source.indent(n) for n in range(1, len(source.lines) + 1)]
    unit = next((one for one in indents if one), "    ")
    unit = "\t" if unit.startswith("\t") else "    " if len(unit) > 4 else unit
    longest = max((len(one.rstrip()) for one in source.lines), default=0)
    limit = min(max(longest, MIN_LIMIT), MAX_LIMIT)
    return Form(source.indent(line), unit, source.newline, limit)


def _line_splice(
    source: SourceFile, at: ast.stmt, text: str, literals: Sequence[str]
) -> tuple[int, int, str]:
    """Return the insertion of a statement behind another one, the last of a function."""
    last = at.end_lineno or at.lineno
    before = source.lines[at.lineno - 1].encode()[: at.col_offset].decode()
    mark = f"  # as observed: {', '.join(literals)}" if literals else ""
    if isinstance(at, ast.Return):  # nothing behind it would run
        start = source.offset(at.lineno, at.col_offset)
        joint = f"{source.newline}{before}" if not before.strip() else "; "
        return start, start, f"{text}{mark if not before.strip() else ''}{joint}"
    if before.strip():  # the function is on one line
        end = source.offset(last, at.end_col_offset or 0)
        return end, end, f"; {text}"
    line = source.lines[last - 1]
    end = source.starts[last - 1] + len(line.rstrip("\r\n"))
    return end, end, f"{source.newline}{before}{text}{mark}"


def _import_splice(source: SourceFile, statements: Sequence[str]) -> tuple[int, int, str]:
    """Return the insertion of imports behind the first imports of a file, or at its top."""
    added = source.newline.join(statements)
    head = list(takewhile(_is_head, source.tree.body))
    if head:
        last = head[-1]
        number = last.end_lineno or last.lineno
        end = source.starts[number - 1] + len(source.lines[number - 1].rstrip("\r\n"))
        gap = source.newline if isinstance(last, ast.Expr) else ""
        return end, end, f"{source.newline}{gap}{added}"
    first = source.tree.body[0]
    decorated = getattr(first, "decorator_list", [])
    start = source.starts[min([first.lineno, *(one.lineno for one in decorated)]) - 1]
    return start, start, f"{added}{source.newline * 3}"


def _is_head(node: ast.stmt) -> bool:
    """Return whether a statement is an import or a docstring."""
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return text or isinstance(node, (ast.Import, ast.ImportFrom))
