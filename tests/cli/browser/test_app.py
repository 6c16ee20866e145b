"""The browser of `modswap tree --interactive`, driven as by a user's keys.

Covers: rule, start.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input, Static

from modswap.cli.browser import start
from modswap.cli.browser.app import TreeBrowser, details
from modswap.cli.browser.rule import rule_text
from modswap.cli.session import Session
from modswap.core.errors import CheckpointError, MissingModuleError, RecipeError, UsageError
from modswap.core.seen.site import Call
from modswap.core.seen.tree import BareParameter, Tree, TreeRow
from modswap.core.seen.values import TensorInfo
from modswap.io.recipe.reader import parse_recipe

X = TensorInfo((1, 8))
PATHS = ("stem", *(p for n in range(3) for p in (f"blocks.{n}", f"blocks.{n}.attn")), "att_[0]")
TREE = Tree(
    "net.pt",
    "torch",
    (
        TreeRow("", "nets.Net", 9, 36),
        TreeRow("blocks", "nets.Blocks", 0, 0),
        *(TreeRow(path, f"nets.{path[-4:].strip('.0123')}", 4, 16) for path in PATHS),
    ),
)  # fmt: skip
Keys = Callable[..., Awaitable[None]]


class Browsed:
    """A browser that runs, and what it wrote."""

    def __init__(self, app: TreeBrowser, pilot: Any, written: dict[str, str]) -> None:
        self.app, self.pilot, self.written = app, pilot, written

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        focused = self.app.focused
        assert isinstance(focused, Input)
        focused.value = text
        await self.press("enter")

    @property
    def status(self) -> str:
        return str(self.app.query_one("#status", Static).render())

    @property
    def cursor(self) -> str:
        node = self.app.query_one("#tree").cursor_node  # type: ignore[attr-defined] # a tree's own
        return str(node.data.path)


def browse(script: Callable[[Browsed], Awaitable[None]], error: str = "") -> None:
    """Run a script of keys in a browser whose file cannot be written where an error is given."""
    written: dict[str, str] = {}

    def write(file: Path, text: str) -> None:
        if error:
            raise CheckpointError(error, str(file))
        written[str(file)] = text

    async def run() -> None:
        app = TreeBrowser(TREE, write)
        async with app.run_test(size=(110, 30)) as pilot:
            await script(Browsed(app, pilot, written))

    asyncio.run(run())


def test_modules_are_found_selected_and_written_as_a_rule() -> None:
    async def script(user: Browsed) -> None:
        await user.press("slash")
        await user.type("blocks.*.attn")
        assert user.status.startswith("3 found")
        assert user.cursor == "blocks.0.attn"
        await user.press("n")
        assert user.cursor == "blocks.1.attn"
        await user.press("a", "w")
        await user.type("ECA")
        assert user.app.focused is user.app.query_one("#file", Input)
        await user.press("enter")
        assert user.status == "written: swap.yaml, for 3 modules"
        (recipe,) = (parse_recipe(text, name, "") for name, text in user.written.items())
        assert list(recipe.replace[0].match) == ["blocks.*.attn"]
        assert (recipe.replace[0].with_, recipe.replace[0].expect) == ("ECA", 3)

    browse(script)


def test_module_under_the_cursor_is_selected_and_let_go() -> None:
    async def script(user: Browsed) -> None:
        await user.press("x")
        assert user.app.chosen == {}  # the model itself is no site
        await user.press("slash")
        await user.type("stem")
        await user.press("x")
        assert user.status == "1 selected: w writes the rule"
        await user.press("x")
        assert user.app.chosen == {}
        await user.press("w")
        assert user.status == "nothing is selected: press x on a module"

    browse(script)


@pytest.mark.slow
def test_part_of_a_path_is_found_where_no_pattern_matches() -> None:
    async def script(user: Browsed) -> None:
        await user.press("n")
        await user.press("slash")
        await user.type("att_")
        assert user.app.found == ["att_[0]"]
        await user.press("n", "slash")
        await user.type("nothing")
        assert user.status.startswith("0 found")
        await user.press("slash")
        await user.type("a..b")
        assert "empty segment" in user.status
        await user.press("slash", "escape")
        assert user.app.focused is user.app.query_one("#tree")

    browse(script)


@pytest.mark.slow
def test_wrong_module_and_file_that_exists_are_said() -> None:
    async def script(user: Browsed) -> None:
        await user.press("slash")
        await user.type("stem")
        await user.press("x", "w")
        await user.type("ECAA")
        assert "no module 'ECAA' in the catalogue" in user.status
        await user.press("w")
        await user.type("x")
        await user.press("w")
        await user.type("Identity")
        await user.press("enter")
        assert user.status == "swap.yaml: it exists"
        user.app.module = "ECAA"
        user.app._write(Path("other.yaml"))
        assert user.written == {}

    browse(script, "it exists")


def test_side_shows_what_is_known_of_a_module() -> None:
    row = TreeRow(
        "a.b", "nets.Net", 1200, 4800, alias_of="c", calls=(Call((X,), (), X),),
        ties=(("weight", "c.weight"),), bare=(BareParameter("gamma", 8, 32),), dtype="float16",
        flops=2000,
    )  # fmt: skip

    assert details(row).splitlines() == [
        "a.b", "nets.Net", "the same module as c", "1,200 parameters, 4.7 KiB, float16",
        "gamma: 8 elements, beside modules", "weight = c.weight", "2 k FLOPs",
        "call 1: ((1, 8)) -> (1, 8)",
    ]  # fmt: skip
    assert details(TreeRow("", "", 0, 0)).splitlines()[:2] == ["(the model)", "class unknown"]


def test_rule_has_the_class_or_the_exceptions_that_it_needs() -> None:
    text = rule_text(TREE, ["blocks.0", "blocks.1", "blocks.2"], "torch.nn:Identity")

    (rule,) = parse_recipe(text, "swap.yaml", "").replace
    assert list(rule.match) == ["blocks.*"]
    with pytest.raises(RecipeError, match="no module 'Nothing' in the catalogue"):
        rule_text(TREE, ["stem"], "Nothing")


@pytest.mark.parametrize(("form", "report"), [("json", None), ("table", Path("r.txt"))])
def test_browser_writes_no_report(form: str, report: Path | None) -> None:
    with pytest.raises(UsageError, match="a browser writes no report"):
        start.browse(Session(format=form, report=report), TREE)


def test_browser_needs_a_terminal_and_textual(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="there is no terminal to browse in"):
        start.browse(Session(), TREE)
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(sys, stream, type("Terminal", (), {"isatty": lambda _: True})())
    monkeypatch.delitem(sys.modules, "modswap.cli.browser.app")
    monkeypatch.setitem(sys.modules, "textual.app", None)
    with pytest.raises(MissingModuleError, match=r'pip install "modswap\[browse\]"'):
        start.browse(Session(), TREE)


def test_other_import_that_fails_is_not_taken_for_textual(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(sys, stream, type("Terminal", (), {"isatty": lambda _: True})())
    monkeypatch.delitem(sys.modules, "modswap.cli.browser.app")
    monkeypatch.setitem(sys.modules, "modswap.cli.browser.rule", None)
    with pytest.raises(ImportError, match="rule"):
        start.browse(Session(), TREE)


def test_browser_starts_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(sys, stream, type("Terminal", (), {"isatty": lambda _: True})())
    ran: list[TreeBrowser] = []
    monkeypatch.setattr(TreeBrowser, "run", lambda app: ran.append(app))  # noqa: PLW0108 - a method is bound, `append` is not

    start.browse(Session(), TREE)

    assert [app.rows for app in ran] == [TREE]
