"""Parts of the lines for a library: new modules put in, and the weights of a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from modswap.core.errors import UsageError
from modswap.ops.code.building.builder import shapes_of
from modswap.ops.code.building.source import SourceFile
from modswap.ops.code.building.swapped import Swapped
from modswap.ops.code.editing.lines import AddedLine, reading, statement
from modswap.ops.code.editing.names import SourceNames
from modswap.ops.code.editing.spell import literal, spell


@dataclass(frozen=True, slots=True)
class HostText:
    """Lines of code for a library, of which `body` defines `model`.

    Args:
        imports: Imports of the library.
        body: What follows them.
        fresh: The library's model without the swap, to compare; None where it is loaded as it is.
        config: The configuration with the swap, which OUT can hold; None for libraries without.
    """

    imports: tuple[str, ...]
    body: str
    fresh: nn.Module | None
    config: Mapping[str, Any] | None = None


class HostFile:
    """The file that lines are written for, with the names that they need."""

    def __init__(self, made: Swapped) -> None:
        self.made = made
        self.names = SourceNames(SourceFile("", b""))

    @property
    def file(self) -> str:
        """Return the file as the user named it, in quotes."""
        return literal(str(self.made.subject.file))

    def put_in(self, this: str, indent: str) -> str:
        """Return the lines that put the new modules into a model of this name."""
        lines = []
        for new in self.made.wanted:
            put = self.names.name("modswap.nn.inserted_site", "put_in") if new.beside else ""
            made_new = str(spell(new, self.names).call)
            for number, path in enumerate(new.beside or new.paths):
                line = AddedLine(None, "", new, path, "")
                text = made_new if number == 0 else reading(line, self.made.model, this)
                lines.append(statement(line, self.made.model, this, text, put))
        return "".join(f"{indent}{line}\n" for line in lines)

    @property
    def new_classes(self) -> str:
        """Return the names of the new modules' classes, in words."""
        return ", ".join(dict.fromkeys(new.cls.__name__ for new in self.made.wanted))

    def weights(self) -> tuple[tuple[str, ...], str]:
        """Return imports and lines that load the file's weights into `model`.

        Raises:
            UsageError: If its tensors have other names than the model's.
        """
        container = self.made.loaded.container
        slot = container.slots[0]
        stored = self.made.loaded.stored
        sources = stored.sources if stored is not None else {}
        if any(tuple(one) != (name,) for name, one in sources.items()):
            fix = "write it by `modswap replace … -o OUT.safetensors`, which gets the model's names"
            what = "its tensors have other names than the model's"
            raise UsageError(what, str(self.made.subject.file), fix)
        if container.format == "safetensors":
            lines = f"weights = load_file({self.file})\n"
            return ("from safetensors.torch import load_file",), lines + _load(slot.prefix)
        keys = "".join(f"[{literal(key)}]" for key in slot.keys)
        whole = slot.kind == "module"
        option = ", weights_only=False" if whole else ""
        state = ".state_dict()" if whole else ""
        lines = f'weights = torch.load({self.file}, map_location="cpu"{option}){keys}{state}\n'
        return ("import torch",), lines + _load("" if whole else slot.prefix)


def _load(prefix: str) -> str:
    if not prefix:
        return "model.load_state_dict(weights)\n"
    taken = f"weights = {{n.removeprefix({literal(prefix)}): t for n, t in weights.items()}}\n"
    return taken + "model.load_state_dict(weights)\n"


def refuse_unlike(made: Swapped, fresh: nn.Module, where: str) -> None:
    """Refuse a library's model that is not the one of the file before the swap.

    Raises:
        UsageError: At the first tensor that differs.
    """
    there, held = shapes_of(fresh, made.without), made.shapes
    found = next((n for n in {**held, **there} if held.get(n) != there.get(n)), None)
    if found is not None:
        what = f"the library's call builds another model: {found} is {there.get(found)}"
        fix = "say how it was built: `--model \"timm:create_model(model_name='resnet18')\"`"
        raise UsageError(f"{what}, in the file {held.get(found)}", where, fix)
