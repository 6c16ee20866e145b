"""A browser for the module tree: walk, search, select, write the rule for what is selected."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.markup import escape
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Footer, Input, Static
from textual.widgets import Tree as TreeWidget

from modswap.cli.browser.rule import rule_text
from modswap.core.asked.patterns import compile_pattern
from modswap.core.errors import ModswapError, RecipeError
from modswap.core.seen.tree import Tree, TreeRow
from modswap.core.words.printable import tame
from modswap.report.page import bare, human_bytes, human_count

if TYPE_CHECKING:
    from textual.widgets.tree import TreeNode

FILE = "swap.yaml"  # that a rule is written to, unless the user names another
Write = Callable[[Path, str], None]
_HINT = "/ search, n next, x select, a select what was found, w write the rule, q quit"


class TreeBrowser(App[None]):
    """The browser. `write` puts a text into a file that does not exist."""

    TITLE = "modswap tree"
    CSS = """
    #tree { width: 3fr; }
    #side { width: 2fr; border-left: solid $primary; padding: 0 1; }
    #status { height: auto; padding: 0 1; background: $boost; }
    Input { display: none; }
    Input.asking { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "ask('search')", "search"),
        Binding("n", "next", "next"),
        Binding("x", "select", "select"),
        Binding("a", "select_found", "select found"),
        Binding("w", "ask('module')", "write the rule"),
        Binding("escape", "leave", "back"),
        Binding("q", "quit", "quit"),
    ]

    def __init__(self, tree: Tree, write: Write) -> None:
        super().__init__()
        self.rows, self.write = tree, write
        self.chosen: dict[str, None] = {}  # paths in the order in which they were selected
        self.found: list[str] = []
        self.module = ""
        self.nodes: dict[str, TreeNode[TreeRow]] = {}

    def compose(self) -> ComposeResult:
        """Yield the widgets, from top to bottom."""
        with Horizontal():
            widget: TreeWidget[TreeRow] = TreeWidget(Text(tame(self.rows.file)), id="tree")
            yield widget
            with VerticalScroll(id="side"):
                yield Static(id="details")
        yield Static(_HINT, id="status")
        yield Input(placeholder="pattern, or a part of a path", id="search")
        yield Input(placeholder="module to put in, a name of `modswap catalogue`", id="module")
        yield Input(value=FILE, placeholder="file for the recipe", id="file")
        yield Footer()

    def on_mount(self) -> None:
        """Fill the tree."""
        widget = self.query_one(TreeWidget)
        root, *others = self.rows.rows
        widget.root.data = root
        self.nodes[""] = widget.root
        for row in others:
            above = self.nodes.get(row.path.rpartition(".")[0], widget.root)
            self.nodes[row.path] = above.add("", data=row)
        for path, node in self.nodes.items():
            node.allow_expand = bool(node.children)
            self._label(path)
        widget.root.expand()
        widget.focus()

    def _label(self, path: str) -> None:
        node = self.nodes[path]
        row = node.data
        if row is None or not path:
            return
        mark = "[x] " if path in self.chosen else "▶ " if path in self.found else ""
        style = "bold green" if mark else ""
        name = tame(path.rpartition(".")[2])
        kind = f"  {bare(row.class_name) or '?'}  {row.params:,}"
        node.set_label(Text.assemble((f"{mark}{name}", style), (tame(kind), "dim")))

    def on_tree_node_highlighted(self, event: TreeWidget.NodeHighlighted[TreeRow]) -> None:
        """Show what is known of the module under the cursor."""
        if event.node.data is not None:
            self.query_one("#details", Static).update(escape(details(event.node.data)))

    def action_ask(self, what: str) -> None:
        """Show the line in which the user types a pattern, a module or a file."""
        if what == "module" and not self.chosen:
            self._say("nothing is selected: press x on a module")
            return
        asked = self.query_one(f"#{what}", Input)
        asked.add_class("asking")
        asked.focus()

    def action_leave(self) -> None:
        """Go back from a line to the tree."""
        for asked in self.query(Input):
            asked.remove_class("asking")
        self.query_one(TreeWidget).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Do what a line was typed for."""
        text = event.value.strip()
        self.action_leave()
        if event.input.id == "search":
            self._search(text)
        elif event.input.id == "module":
            self.module = text
            if self._recipe() is not None:
                self.action_ask("file")
        else:
            self._write(Path(text))

    def _search(self, text: str) -> None:
        """Find modules by a pattern, or by a part of their paths where none matches it."""
        try:
            pattern = compile_pattern(text)
        except RecipeError as error:
            self._say(error.line())
            return
        paths = [path for path in self.nodes if path]
        before = self.found
        self.found = [path for path in paths if pattern.matches(path)]
        self.found = self.found or [path for path in paths if text and text in path]
        for path in {*before, *self.found}:
            self._label(path)
        self._say(f"{len(self.found)} found: n goes to the next, a selects all")
        self.action_next()

    def action_next(self) -> None:
        """Go to the next module that was found."""
        if not self.found:
            return
        widget = self.query_one(TreeWidget)
        node = widget.cursor_node
        here = node.data.path if node is not None and node.data is not None else ""
        place = self.found.index(here) + 1 if here in self.found else 0
        target = self.nodes[self.found[place % len(self.found)]]
        above = target.parent
        while above is not None:
            above.expand()
            above = above.parent
        self.call_after_refresh(widget.move_cursor, target)

    def action_select(self) -> None:
        """Select the module under the cursor, or let it go."""
        node = self.query_one(TreeWidget).cursor_node
        if node is None or node.data is None or not node.data.path:
            return
        path = node.data.path
        if path in self.chosen:
            del self.chosen[path]
        else:
            self.chosen[path] = None
        self._label(path)
        self._say(f"{len(self.chosen)} selected: w writes the rule")

    def action_select_found(self) -> None:
        """Select all modules that were found."""
        self.chosen |= dict.fromkeys(self.found)
        for path in self.found:
            self._label(path)
        self._say(f"{len(self.chosen)} selected: w writes the rule")

    def _recipe(self) -> str | None:
        """Return the recipe for what is selected; say why there is none."""
        chosen = [path for path in self.nodes if path in self.chosen]
        try:
            return rule_text(self.rows, chosen, self.module)
        except ModswapError as error:
            self._say(error.all[0].line())
            return None

    def _write(self, file: Path) -> None:
        text = self._recipe()
        if text is None:
            return
        try:
            self.write(file, text)
        except ModswapError as error:
            self._say(error.line())
            return
        self.query_one("#details", Static).update(escape(text))
        self._say(f"written: {file}, for {len(self.chosen)} modules")

    def _say(self, text: str) -> None:
        self.query_one("#status", Static).update(escape(tame(text)))


def details(row: TreeRow) -> str:
    """Return what is known of a module, a line for each fact."""
    lines = [row.path or "(the model)", row.class_name or "class unknown"]
    lines += [f"the same module as {row.alias_of}"] if row.alias_of else []
    lines.append(f"{row.params:,} parameters, {human_bytes(row.nbytes)}, {row.dtype or 'no dtype'}")
    lines += [f"{one.name}: {one.params:,} elements, beside modules" for one in row.bare]
    lines += [f"{name} = {other}" for name, other in row.ties]
    lines += [f"{human_count(row.flops)} FLOPs"] if row.flops is not None else []
    lines += [f"call {number}: {call}" for number, call in enumerate(row.calls, 1)]
    return "\n".join(map(tame, lines))
