"""Find the constructors at whose end a line is added for each site that no call makes alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from keyword import iskeyword

from torch import nn

from modswap.core.errors import UsageError
from modswap.ops.apply import module_at
from modswap.ops.code.building.source import SourceFile, file_of
from modswap.ops.code.building.wanted import NewModule
from modswap.ops.code.editing.locate import Locator
from modswap.ops.code.editing.spell import literal

_LOOKED_UP = ".get_submodule("
OTHERWISE = "see `--standalone FILE`, or `--for HOST` for models of a library"


@dataclass(frozen=True, slots=True)
class AddedLine:
    """A line that puts a new module where the old one is, or beside it.

    Args:
        source: The file; `cls` is the qualified name of the class whose constructor gets the line.
            None for a line outside of any class.
        new: The module; its path is `tail` inside of an instance of the class.
        around: The path of one such instance.
    """

    source: SourceFile | None
    cls: str
    new: NewModule
    tail: str
    around: str


def lines_for(locator: Locator, rest: Sequence[NewModule]) -> Iterator[AddedLine]:
    """Yield the lines for new modules; one line for all instances of a class.

    Raises:
        UsageError: If a site is in no class of the user's own, or other code uses its class.
    """
    by_path = {path: new for new in rest for path in _places(new)}
    done: set[str] = set()
    for new in rest:
        first, *others = _places(new)
        if first in done:
            continue
        source, cls, around = _constructor(locator, new, by_path)
        tail = _below(first, around)
        for path in _instances(locator.recording.model, around):
            done.add(f"{path}.{tail}".lstrip("."))
        yield AddedLine(source, cls, new, tail, around)
        for path in others:
            yield AddedLine(source, cls, new, _below(path, around), around)


def _places(new: NewModule) -> tuple[str, ...]:
    return new.beside or new.paths


def _below(path: str, around: str) -> str:
    return path.removeprefix(f"{around}.") if around else path


def _instances(model: nn.Module, path: str) -> list[str]:
    cls = type(module_at(model, path)) if path else type(model)
    return [name for name, module in model.named_modules() if type(module) is cls]


def _constructor(
    locator: Locator, new: NewModule, by_path: Mapping[str, NewModule]
) -> tuple[SourceFile, str, str]:
    """Return the innermost constructor of the user's own that all its instances agree on."""
    reason = "it is the model itself"
    model = locator.recording.model
    for around in _around(_places(new)):
        cls = type(module_at(model, around) if around else model)
        file = file_of(cls)
        source = locator.sources.of(file)
        if source is None or source.constructor(cls.__qualname__) is None:
            reason = _no_source(cls, file)
            continue
        reason = _disagreement(locator, new, around, by_path)
        if not reason and locator.used_elsewhere(source.file, cls.__qualname__):
            reason = f"other code uses {cls.__name__} too"
        if not reason:
            return source, cls.__qualname__, around
    raise UsageError(f"its source cannot be shown: {reason}", _places(new)[0], OTHERWISE)


def _no_source(cls: type, file: str) -> str:
    if file.endswith(".py"):
        return f"{cls.__qualname__} has no constructor of your own"
    return f"{cls.__qualname__} has no source file"


def _around(paths: Sequence[str]) -> list[str]:
    """Return the paths of the modules around all of these paths, innermost first."""
    split = [path.split(".")[:-1] for path in paths]
    shared = 0
    while all(len(one) > shared and one[: shared + 1] == split[0][: shared + 1] for one in split):
        shared += 1
    return [".".join(split[0][:n]) for n in range(shared, -1, -1)]


def _disagreement(
    locator: Locator, new: NewModule, around: str, by_path: Mapping[str, NewModule]
) -> str:
    """Return why the constructor of a module cannot have a line for a new module, or nothing."""
    model = locator.recording.model
    container = module_at(model, around) if around else model
    instances = _instances(model, around)
    first, *others = _places(new)
    name = type(container).__name__
    if others and len(instances) > 1:
        return f"{name} has {len(instances)} instances"
    tail = _below(first, around)
    swapped = [by_path.get(f"{path}.{tail}".lstrip(".")) for path in instances]
    if not all(one is not None and _alike(one, new) for one in swapped):
        return f"the instances of {name} are not swapped alike"
    calls = locator.recording.of(module_at(model, first))
    if calls and not any(call.owner is container for call in calls):
        return f"{name} does not make it in its constructor"
    return ""


def _alike(one: NewModule, other: NewModule) -> bool:
    return one.kind == other.kind and one.blueprint.args == other.blueprint.args


def statement(line: AddedLine, model: nn.Module, this: str, value: str, put_in: str) -> str:
    """Return the statement of a line; `value` makes the new module, or names it.

    `this` is the constructor's first argument, `put_in` the name of that function in the file.
    """
    at = module_at(model, line.around) if line.around else model
    *inner, last = line.tail.split(".")
    text = this
    for name in inner:
        text += _step(at, name)
        at = at.get_submodule(name)
    if line.new.beside:
        name = literal(line.new.paths[0].rpartition(".")[2])
        return f"{put_in}({text}{_step(at, last)}, {name}, {value})"
    step = _step(at, last)
    if step.startswith(_LOOKED_UP):
        return f"{text}.add_module({literal(last)}, {value})"
    return f"{text}{step} = {value}"


def reading(line: AddedLine, model: nn.Module, this: str) -> str:
    """Return the expression by which a constructor reaches the first place of a shared module."""
    at, text = (module_at(model, line.around) if line.around else model), this
    for name in _below(_places(line.new)[0], line.around).split("."):
        text += _step(at, name)
        at = at.get_submodule(name)
    return f"{text}.{line.new.paths[0].rpartition('.')[2]}" if line.new.beside else text


def _step(at: nn.Module, name: str) -> str:
    """Return the text that goes from a module to its child."""
    if isinstance(at, (nn.Sequential, nn.ModuleList)) and name.isdigit():
        return f"[{name}]"
    if isinstance(at, nn.ModuleDict):
        return f"[{literal(name)}]"
    known = name.isidentifier() and not iskeyword(name)
    return f".{name}" if known else f"{_LOOKED_UP}{literal(name)})"
