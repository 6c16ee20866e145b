"""Assemble the standalone file of a swapped model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modswap.core.asked.import_name import split_arguments
from modswap.core.asked.scripts.script import module_of_file
from modswap.core.errors import UsageError
from modswap.core.version import __version__
from modswap.core.words.printable import tame
from modswap.io.pickled.names import runs_code
from modswap.io.pickled.outline import values_of
from modswap.io.recognise.look import look_at
from modswap.ops.code.building.builder import Builder, ConfigBuilder
from modswap.ops.code.building.swapped import Swapped
from modswap.ops.code.building.wanted import NewModule
from modswap.ops.code.editing.lines import AddedLine, reading, statement
from modswap.ops.code.editing.spell import literal, spell
from modswap.ops.code.standalone.module import Imported
from modswap.ops.code.standalone.shake import Shaker, Target
from modswap.ops.code.standalone.template import (
    HEAD,
    LICENCE,
    LOADING,
    REBUILT,
    RESERVED,
    UNBUILT,
    WHOLE,
)
from modswap.ops.code.standalone.text import Printed

_OURS = (
    Imported("pickle", "", "pickle"),
    Imported("zipfile", "", "zipfile"),
    Imported("pathlib", "Path", "Path"),
    Imported("torch", "", "torch"),
    Imported("torch", "nn", "nn"),
)
_ALLOWED = (
    *("collections.OrderedDict", "builtins.set", "__builtin__.set", "torch.Size", "torch.device"),
    *("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"),
    *("torch.nn.parameter.Parameter", "torch.serialization._get_layout"),
)


@dataclass(frozen=True, slots=True)
class Standalone:
    """The text of a standalone file, and what is to be said of it."""

    text: str
    notes: tuple[str, ...]
    modules: tuple[str, ...]  # that it must not import


class StandaloneNames:
    """Names in a standalone file, which are known when all is taken."""

    def __init__(self, shaker: Shaker) -> None:
        self.shaker = shaker
        self.targets: dict[str, Target] = {}  # by the mark that holds the place of the name

    def of(self, new: NewModule) -> str:
        """Return the mark for the class of a new module."""
        return self.name(new.cls.__module__, new.cls.__qualname__)

    def name(self, module: str, name: str) -> str:
        """Return the mark for a name of a module, which is taken."""
        first, *inner = name.split(".")
        target = self.shaker.want(module, first)
        mark = f"\x00{len(self.targets)}\x00"
        self.targets[mark] = target
        return ".".join((mark, *inner))

    def resolved(self, text: str, printed: Printed) -> str:
        """Return a text with names in the place of the marks."""
        for mark, target in self.targets.items():
            text = text.replace(mark, printed.name(target))
        return text


def standalone(
    made: Swapped, texts: Mapping[str, bytes], builder: Builder | None, *, edited: bool
) -> Standalone:
    """Return the file that loads a swapped model without modswap.

    `texts` are the new bytes of changed files. Without `edited`, lines behind the builder's call
    put the new modules in. Without a builder, the file loads whole modules alone.
    """
    shaker = Shaker(texts)
    for one in _OURS:
        shaker.take(one)
    names = StandaloneNames(shaker)
    build = UNBUILT if builder is None else _build(made, builder, names, edited=edited)
    file = made.loaded.container
    pickled = pickled_names(made.subject.file)
    classes, allowed = _classes(made, pickled, names)
    printed = Printed(shaker, RESERVED)
    slot = file.slots[0]
    loading = LOADING.format(
        classes=_display(classes),
        allowed=_listed(sorted({*_ALLOWED, *allowed})),
        keys=repr(tuple(slot.keys)),
        prefix=repr(slot.prefix),
        names=repr(_file_names(made)),
        whole=REBUILT if isinstance(builder, ConfigBuilder) else WHOLE,
    )
    notes = _notes(shaker, printed, builder)
    parts = (
        _head(made, notes),
        "\n".join(printed.imports()) + "\n",
        LICENCE,
        f"\n{printed.body()}\n",
        f"\n{names.resolved(build, printed)}",
        names.resolved(loading, printed),
    )
    return Standalone("\n".join(parts), notes, _inlined(shaker))


def _head(made: Swapped, notes: Sequence[str]) -> str:
    new = ", ".join(dict.fromkeys(one.cls.__name__ for one in made.wanted))
    title = f"{type(made.model).__name__} with {new} put in."
    said = "".join(f"\n\n{note[0].upper()}{note[1:]}." for note in notes)
    file = tame(made.subject.file.name).replace("\\", "/").replace('"', "'")  # in a docstring
    return HEAD.format(title=title, file=file, version=__version__, notes=said)


def _notes(shaker: Shaker, printed: Printed, builder: Builder | None) -> tuple[str, ...]:
    """Return sentences on what the file lacks, and on names that are others in it."""
    left = (
        f"{one} are left out: the way for CPUs runs there too" for one in sorted(shaker.left_out)
    )
    names = ", ".join(printed.renamed)
    renamed = (f"renamed, since another part has the name: {names}",) if printed.renamed else ()
    unbuilt = ("it loads whole modules alone: no call is known that builds the model",)
    return (*left, *renamed, *(unbuilt if builder is None else ()))


def _inlined(shaker: Shaker) -> tuple[str, ...]:
    tops = (module.split(".")[0] for module, _ in shaker.taken)
    return tuple(dict.fromkeys(("modswap", *tops)))


def _build(made: Swapped, builder: Builder, names: StandaloneNames, *, edited: bool) -> str:
    """Return the function that builds the swapped model."""
    module, name = builder.parts
    if module.endswith(".py"):
        file = Path(builder.folder, module)
        known = {one.file: one.module for one in made.scripts}
        module = known.get(str(file), module_of_file(file))
    call = f"{names.name(module, name)}{_arguments(builder, names)}"
    if edited:
        return f"def _build() -> nn.Module:\n    return {call}\n"
    lines = [f"model = {call}", *_lines(made, names), "return model"]
    return "def _build() -> nn.Module:\n" + "".join(f"    {line}\n" for line in lines)


def _arguments(builder: Builder, names: StandaloneNames) -> str:
    """Return the arguments of a builder's call, with the brackets."""
    if isinstance(builder, ConfigBuilder):
        return f"({names.name(*builder.config)}.from_dict({literal(dict(builder.args))}))"
    return str(builder)[len(split_arguments(builder.reference)[0]) :]


def _lines(made: Swapped, names: StandaloneNames) -> list[str]:
    """Return the lines that put the new modules into a model as its library builds it."""
    lines = []
    for new in made.wanted:
        put_in = names.name("modswap.nn.inserted_site", "put_in") if new.beside else ""
        for number, path in enumerate(new.beside or new.paths):
            line = AddedLine(None, "", new, path, "")
            text = (
                str(spell(new, names).call) if number == 0 else reading(line, made.model, "model")
            )
            lines.append(statement(line, made.model, "model", text, put_in))
    return lines


def pickled_names(file: Path) -> list[str]:
    """Return the names that the pickle of a file asks for; none for files without one."""
    look = look_at(file)
    if not any(name.endswith("/data.pkl") for name in look.names):
        return []
    return list(dict.fromkeys(map(str, values_of(look)[1])))


def _classes(
    made: Swapped, pickled: Sequence[str], names: StandaloneNames
) -> tuple[dict[str, str], list[str]]:
    """Return the classes of the file that a pickle may name, and the names of others."""
    aliases = dict(made.subject.policy.aliases)
    wanted = {old: aliases.get(old, old) for old in pickled}
    wanted |= {old: new for old, new in aliases.items() if new in wanted.values()}
    for module in made.model.modules():
        full = f"{type(module).__module__}.{type(module).__qualname__}"
        wanted.setdefault(full, full)
    classes: dict[str, str] = {}
    others: list[str] = []
    for old, new in wanted.items():
        place, _, name = new.rpartition(".")
        if names.shaker.module(place) is None:
            others += [] if runs_code(new) else [old]
        elif names.shaker.target(place, name) is not None:
            classes[old] = names.name(place, name)
    return classes, others


def _file_names(made: Swapped) -> dict[str, str]:
    """Return the model's names by those of the file, where they differ.

    Raises:
        UsageError: If a tensor of the model is made of several of the file.
    """
    stored = made.loaded.stored
    found: dict[str, str] = {}
    for name, sources in (stored.sources if stored is not None else {}).items():
        if len(sources) != 1:
            what = f"{name} is made of several tensors of the file"
            raise UsageError(what, str(made.subject.file), "write the file as .safetensors first")
        if sources[0] != name:
            found[sources[0]] = name
    return found


def _display(classes: Mapping[str, str]) -> str:
    inner = "".join(f"    {literal(name)}: {value},\n" for name, value in classes.items())
    return f"{{\n{inner}}}" if inner else "{}"


def _listed(names: Sequence[str]) -> str:
    return "{\n" + "".join(f"    {literal(name)},\n" for name in names) + "}"
