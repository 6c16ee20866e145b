"""The result of a command: all that a report may say, without a tensor."""

from collections.abc import Container, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modswap.core.decided.blueprint import Choice
from modswap.core.decided.verdict import Verdict
from modswap.core.errors import ModswapError
from modswap.core.healed.healing import Healing
from modswap.core.kept.found_input import FoundInput
from modswap.core.kept.model_view import ModelView
from modswap.core.kept.stamp import Stamps
from modswap.core.seen.site import Call, Layout

if TYPE_CHECKING:  # its import of recipes takes a tenth of a second
    from modswap.core.decided.plan import Plan


@dataclass(frozen=True, slots=True)
class SiteOutcome:
    """A swapped site, or a module that was put in beside another one.

    Args:
        path: Dotted name of the module that was there.
        aliases: Its other paths, those of other sites that share the instance left out.
        rule: Place of the rule, `swap.yaml:7:5`.
        old_class: Dotted class name of the old module.
        old_params: Parameter elements of the old module.
        new_class: Dotted class name of the new module.
        new_params: Parameter elements of the new module.
        args: Every constructor argument of the new module.
        calls: Its calls in the reference pass.
        layout: Layout of the site's tensors.
        start: How the new weights began.
        shared_with: Paths of the other sites that hold the same instance.
        choices: Values chosen for what the recipe left open, with reasons.
        notes: Anything else worth knowing, a sentence each.
        place: `after`, `before`, `around` or `instead` where the new module was put in beside the
            old one, which stays; empty where it replaced it.
        new_path: Dotted name of the new module; the same as `path` where it replaced one.
        parameters: Names of the new module's parameters in the model.
        mapped: Where the new module's tensors come from that did not begin fresh, by their names.
        fresh: Names of the tensors that began fresh.
    """

    path: str
    aliases: tuple[str, ...]
    rule: str
    old_class: str
    old_params: int
    new_class: str
    new_params: int
    args: Mapping[str, Any]
    calls: tuple[Call, ...]
    layout: Layout | None
    start: str = "fresh"
    shared_with: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    notes: tuple[str, ...] = ()
    place: str = ""
    new_path: str = ""
    parameters: tuple[str, ...] = ()
    mapped: tuple[tuple[str, str], ...] = ()
    fresh: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of tensors and their size in bytes.

    `parts` are the tensors: the name of each, a key for its bytes, and their number.
    """

    tensors: int = 0
    nbytes: int = 0
    parts: tuple[tuple[str, Hashable, int], ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def of(cls, parts: Iterable[tuple[str, Hashable, int]]) -> "Amount":
        """Count tensors by name and their bytes, bytes under two names once."""
        listed = tuple(parts)
        return cls(len(listed), sum({key: size for _, key, size in listed}.values()), listed)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the tensors."""
        return tuple(name for name, _, _ in self.parts)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The numbers of tensors kept, renamed, added and dropped.

    Args:
        kept: Bit for bit as they were, under the same name.
        mapped: Bit for bit as they were under another name, or made of old ones.
        fresh: New, and of no old one.
        dropped: No longer there.
        proved: Whether the kept ones were compared with the written file.
    """

    kept: Amount = Amount()
    mapped: Amount = Amount()
    fresh: Amount = Amount()
    dropped: Amount = Amount()
    proved: bool = False

    def with_mapped(self, names: Container[str]) -> "Ledger":
        """Return the ledger with some of the fresh tensors counted as mapped."""
        made = [part for part in self.fresh.parts if part[0] in names]
        rest = [part for part in self.fresh.parts if part[0] not in names]
        mapped = Amount.of([*self.mapped.parts, *made])
        return replace(self, mapped=mapped, fresh=Amount.of(rest)) if made else self


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written.

    Args:
        file: The file or folder.
        nbytes: Its size.
        sha256: Its digest in hexadecimal.
        format: Name of the row of the table of formats.
    """

    file: Path
    nbytes: int
    sha256: str
    format: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a command that works on a file, for reports and for callers from Python.

    Args:
        command: `replace`, `check`, `heal` and so on.
        checkpoint: The file as the user gave it; empty for a model in memory.
        recipe: The recipe's name.
        plan: The sites that each rule selected; None if the command ended before.
        sites: The swapped sites.
        verdict: Whether the swap holds; None if the command ended before.
        ledger: Tensors kept, mapped, fresh and dropped; None if nothing was swapped.
        params_before: Parameter elements of the model before.
        params_after: Parameter elements of the model after.
        written: The written file; None for a dry run.
        notes: Anything else worth knowing, a sentence each.
        error: The error that stopped it, or None.
        seconds: Wall time.
        fixed: Change that `--fix` made to the recipe, and its place; empty for none.
        stamps: The files of the checkpoint as they were when they were first opened.
        recipe_sha256: Digest of the recipe's text as it was read, in hexadecimal; empty if unknown.
        recipe_text: The recipe's text as it was read; empty if unknown.
        found_input: The dummy input that was found; None if it was given.
        receipt_text: The receipt inside the written file; empty if nothing was written.
        view: The modules before and after, and the flow around sites; None if it was not asked for.
        healing: What was measured when the new modules were healed; None if they were not.
    """

    command: str
    checkpoint: str
    recipe: str
    plan: "Plan | None" = None
    sites: tuple[SiteOutcome, ...] = ()
    verdict: Verdict | None = None
    ledger: Ledger | None = None
    params_before: int = 0
    params_after: int = 0
    written: Written | None = None
    notes: tuple[str, ...] = ()
    error: ModswapError | None = None
    seconds: float = field(default=0.0, compare=False)
    fixed: str = ""
    stamps: Stamps = field(default=(), compare=False, repr=False)
    recipe_sha256: str = field(default="", compare=False, repr=False)
    recipe_text: str = field(default="", compare=False, repr=False)
    receipt_text: str = field(default="", compare=False, repr=False)
    view: ModelView | None = field(default=None, compare=False, repr=False)
    found_input: FoundInput | None = None
    healing: Healing | None = None

    def fresh_parameters(self) -> tuple[str, ...]:
        """Return the names of all parameters that are new, for optimizers and for freezing."""
        return tuple(dict.fromkeys(name for site in self.sites for name in site.parameters))

    @property
    def ok(self) -> bool:
        """Return whether everything holds."""
        return self.error is None

    @property
    def exit_code(self) -> int:
        """Return the code that the command ends with."""
        return 0 if self.error is None else self.error.code
