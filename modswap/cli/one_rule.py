"""A recipe of one rule, made of options of the command line."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modswap.cli import completion
from modswap.cli.options import inputs_of
from modswap.core.asked.own_texts import RECIPE_TEXT
from modswap.core.asked.source import COMMAND_LINE, RuleText
from modswap.core.asked.used_paths import UsedPath
from modswap.core.errors import RecipeError, UsageError

if TYPE_CHECKING:
    from modswap.cli.session import Session
    from modswap.core.asked.recipe import CallInput, Recipe, TensorInput
    from modswap.core.asked.source import Place
    from modswap.core.kept.outcome import Outcome


def _valued(option: str, metavar: str, text: str, complete: Any = None) -> Any:
    """Return an option with a value and no default."""
    return typer.Option(
        option, metavar=metavar, help=text, show_default=False, autocompletion=complete
    )


_Several = list[str] | None
Match = Annotated[
    _Several,
    _valued("--match", "PATTERN", "Modules to replace, in place of a recipe; may be repeated."),
]
After = Annotated[
    _Several,
    _valued(
        "--after",
        "PATTERN",
        "Modules behind which to put the new one in, in place of --match; may be repeated.",
    ),
]
Before = Annotated[
    _Several,
    _valued("--before", "PATTERN", "Modules before which to put it in; may be repeated."),
]
Around = Annotated[
    _Several,
    _valued(
        "--around", "PATTERN", "Modules to which it becomes a parallel branch; may be repeated."
    ),
]
With = Annotated[
    str | None,
    _valued(
        "--with",
        "MODULE",
        "The new module: a name of `modswap catalogue`, or package.module:Class.",
        completion.modules,
    ),
]
Settings = Annotated[
    _Several,
    _valued("--set", "OPTION=VALUE", "An argument of the new module, as YAML; may be repeated."),
]
Exclude = Annotated[_Several, _valued("--exclude", "PATTERN", "Modules to leave out.")]
Classes = Annotated[_Several, _valued("--class", "CLASS", "Only modules of this class.")]
Expect = Annotated[
    str | None,
    _valued("--expect", "N", "The number of modules that are to match; any other is an error."),
]
Adapt = Annotated[
    bool, typer.Option("--adapt", help="Fit what goes in and comes out by an adapter.")
]
Share = Annotated[bool, typer.Option("--share", help="Put one module in all places.")]
Start = Annotated[
    str | None,
    _valued(
        "--start",
        "START",
        "How the new weights begin: fresh, inherit, preserve, or donor:FILE:PATH.",
        completion.starts,
    ),
]
SaveRecipe = Annotated[
    Path | None, _valued("--save-recipe", "FILE", "Write the recipe that does the same.")
]
_PLACES = ("match", "after", "before", "around")
_HERE = Path()
HEAD = "# written by modswap from the options of a command; docs/recipe.md explains every key\n"


@dataclass(frozen=True, slots=True)
class OneRule:
    """The options of a rule, as the user gave them."""

    match: Sequence[str] = ()
    after: Sequence[str] = ()
    before: Sequence[str] = ()
    around: Sequence[str] = ()
    with_: str = ""
    settings: Sequence[str] = ()
    exclude: Sequence[str] = ()
    classes: Sequence[str] = ()
    expect: str = ""
    adapt: bool = False
    share: bool = False
    start: str = ""

    @property
    def given(self) -> tuple[str, ...]:
        """Return the options that the user gave."""
        values = {
            "--match": self.match,
            "--after": self.after,
            "--before": self.before,
            "--around": self.around,
            "--with": self.with_,
            "--set": self.settings,
            "--exclude": self.exclude,
            "--class": self.classes,
            "--expect": self.expect,
            "--adapt": self.adapt,
            "--share": self.share,
            "--start": self.start,
        }
        return tuple(name for name, value in values.items() if value)

    def refuse_half(self) -> None:
        """Refuse options that make no whole rule.

        Raises:
            UsageError: If one that every rule has is missing, or it has several places.
        """
        places = [name for name in self.given if name.removeprefix("--") in _PLACES]
        if len(places) > 1:
            fix = "put the others into a recipe, or call the command once for each"
            raise UsageError(f"{' and '.join(places)} exclude each other", places[1], fix)
        for name, value, metavar in (
            ("--match", places, "PATTERN"),
            ("--with", self.with_, "MODULE"),
        ):
            if not value:
                what = f"{self.given[0]} needs {name} as well"
                raise UsageError(what, self.given[0], f"add {name} {metavar}")

    def text(self, inputs: "Sequence[TensorInput | CallInput]", folder: Path = _HERE) -> RuleText:
        """Return the recipe of the rule and of the dummy inputs, as a file in a folder has it."""
        place, rule = self._rule(folder)
        part = "replace" if place == "match" else "insert"
        first, *others = (f"{key}: {_shown(value)}" for key, value in rule.items())
        calls = [_shown(one.model_dump(mode="json", exclude_defaults=True)) for one in inputs]
        head = ["version: 1", *([f"inputs: [{', '.join(calls)}]"] if calls else [])]
        lines = [*head, f"{part}:", f"  - {first}", *(f"    {line}" for line in others)]
        options: dict[Place, str] = {(part, 0, name): f"--{name}" for name in rule}
        options[(part, 0, "args")] = "--set"
        options[(part, 0, "donor")] = "--start"
        options |= {(part, 0, "args", name): f"--set {name}" for name in rule.get("args", ())}
        return RuleText("\n".join(lines) + "\n", options | {(part, 0): f"--{place}"})

    def _rule(self, folder: Path) -> tuple[str, dict[str, Any]]:
        """Return the key of the patterns, and the rule."""
        place = next(name for name in _PLACES if getattr(self, name))
        rule: dict[str, Any] = {place: list(getattr(self, place))}
        rule |= {"exclude": list(self.exclude)} if self.exclude else {}
        rule |= {"class": list(self.classes)} if self.classes else {}
        rule |= {"with": self.with_}
        rule |= {"args": settings_of(self.settings)} if self.settings else {}
        rule |= _start(self.start, folder) if self.start else {}
        rule |= {"expect": _value(self.expect, "--expect")} if self.expect else {}
        rule |= {name: True for name in ("adapt", "share") if getattr(self, name)}
        if place != "match" and "donor" in rule:
            del rule["start"]  # which says there whether the new module has a gate
        return place, rule


@dataclass(frozen=True, slots=True)
class Chosen:
    """The recipe of a run: that of a file, or one rule."""

    config: str | None
    rule: RuleText | None
    save_to: Path | None
    options: OneRule | None = None  # from which the rule was made
    inputs: "Sequence[TensorInput | CallInput]" = ()  # of the rule's recipe

    @property
    def name(self) -> str:
        """Return the recipe's file, or words for the command line."""
        return self.config or COMMAND_LINE

    def recipe(self) -> "Recipe":
        """Return the recipe."""
        from modswap.ops.recipes import read_recipe, recipe_of_options

        return read_recipe(self.name) if self.rule is None else recipe_of_options(self.rule)

    def refuse_without_file(self, **wanted: bool) -> None:
        """Refuse options that need a recipe in a file, if there is none."""
        for name, given in wanted.items():
            if self.rule is not None and given:
                fix = "save it by --save-recipe FILE, then check that recipe"
                raise UsageError(f"--{name} needs a recipe in a file", f"--{name}", fix)

    def save(self, session: "Session", outcomes: "Sequence[Outcome]") -> None:
        """Write the recipe of the options, if that was asked for and the swap holds."""
        from modswap.cli.session import put_text

        if self.save_to is None or self.options is None or self.rule is None:
            return
        if all(one.ok for one in outcomes):
            session.judge()
            found = next((one.found_input for one in outcomes if one.found_input), None)
            inputs = self.inputs if found is None else found.inputs
            rule = self.options.text(inputs, self.save_to.parent)
            put_text(self.save_to, HEAD + rule.text)


def chosen(context: typer.Context, session: "Session", files: int = 1) -> Chosen:
    """Return the recipe that the options of a command name or make.

    Raises:
        UsageError: If a recipe and a rule are given, or half a rule, or a rule for several files.
    """
    given = context.params
    config, save_to = given["config"], given["save_recipe"]
    rule = OneRule(**{one.name: given[one.name] for one in fields(OneRule) if given[one.name]})
    if not rule.given:
        if save_to is not None:
            what = "there is no rule to save"
            raise UsageError(what, "--save-recipe", "add --match PATTERN --with MODULE")
        return Chosen(config, None, None)
    if config is not None:
        what = f"a recipe and {', '.join(rule.given)} exclude each other"
        raise UsageError(what, "-c", "put the rule into the recipe, or leave the recipe out")
    session.by_options = True
    rule.refuse_half()
    if files > 1:
        raise UsageError(f"{files} files and one rule", "check", "check one file at a time")
    if save_to is not None:
        session.writes.append(UsedPath("the saved recipe", save_to, RECIPE_TEXT))
    inputs = _call(inputs_of(given["inputs"])[0])
    return Chosen(None, rule.text(inputs), save_to, rule, inputs)


def _call(tensors: "Sequence[TensorInput]") -> "list[TensorInput | CallInput]":
    """Return the `inputs` of a recipe for the tensors of one call."""
    from modswap.core.asked.recipe import CallInput

    if len(tensors) < 2:  # a single tensor needs no list
        return list(tensors)
    return [CallInput(args=tuple(one.model_dump(exclude_defaults=True) for one in tensors))]


def _start(text: str, folder: Path) -> dict[str, Any]:
    """Return the keys of a rule for a start; that of a donor is `donor:FILE:PATH`.

    A recipe names the donor's file relative to its own folder.
    """
    kind, colon, rest = text.partition(":")
    if kind != "donor":
        return {"start": text}
    file, _, path = rest.rpartition(":") if ":" in rest else (rest, "", "")
    if not colon or not file:
        fix = "write --start donor:FILE:PATH, or donor:FILE for a file of that module alone"
        raise UsageError("no file is named", "--start", fix)
    file = file if folder == _HERE or Path(file).is_absolute() else os.path.relpath(file, folder)
    return {"start": kind, "donor": {"file": file, "path": path}}


def settings_of(texts: Sequence[str]) -> dict[str, Any]:
    """Return the options and values of all `--set`, each option once."""
    found: dict[str, Any] = {}
    for name, value in map(_setting, texts):
        if name in found:
            raise UsageError(f"{name!r:.80} is given twice", "--set", "keep one of them")
        found[name] = value
    return found


def _setting(text: str) -> tuple[str, Any]:
    """Return an option and its value, from `--set OPTION=VALUE`."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        fix = "write the value behind it, as in --set num_heads=8, or `auto` or `null`"
        raise UsageError(f"{text!r:.80} is no OPTION=VALUE", "--set", fix)
    return name.strip(), _value(value, f"--set {name.strip()}")


def _value(text: str, option: str) -> Any:
    """Return a value that was written as YAML."""
    from modswap.io.recipe.nodes import read_document

    try:
        document = read_document(f"value: {text}\n", option)
    except RecipeError as error:
        raise UsageError(f"{text!r:.80} is no YAML value", option, _quoted(option)) from error
    wrong = document.errors or not isinstance(document.data, dict)
    if wrong or document.data.keys() != {"value"}:
        raise UsageError(f"{text!r:.80} is no YAML value", option, _quoted(option))
    return document.data["value"]


def _quoted(option: str) -> str:
    name, _, setting = option.partition(" ")
    return f"quote it: {name} \"{setting}='…'\"" if setting else "write a whole number"


def _shown(value: Any) -> str:
    """Return a value as YAML on one line."""
    import yaml

    if isinstance(value, str) or _are_texts(value):
        return json.dumps(value, ensure_ascii=False)
    shown = yaml.safe_dump(value, default_flow_style=True, width=1 << 20, sort_keys=False)
    return shown.removesuffix("\n").removesuffix("\n...")


def _are_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
