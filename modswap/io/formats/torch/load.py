"""Read files of `torch.save` by torch's safe unpickler only."""

import re
import warnings
import zipfile
from collections.abc import Mapping, Set
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn
from torch.sparse import check_sparse_tensor_invariants

from modswap.core.asked.job import Policy
from modswap.core.errors import CheckpointError, ModswapError, UnsafeError
from modswap.io.formats.container import Container, Slot, find_slots, passed_over
from modswap.io.formats.torch.allow import resolve
from modswap.io.formats.torch.default_dict import refuse_factories
from modswap.io.formats.torch.rewrite import RECEIPT, RECIPE
from modswap.io.formats.torch.screen import Screened, screen
from modswap.io.formats.torch.sound import refuse_half_made
from modswap.io.formats.torch.stand_ins import StandIn, standing
from modswap.io.formats.torch.states import Known, named_in, refuse_planted
from modswap.io.formats.torch.unbuilt import UnbuiltClass, unbuilt, unbuilt_names
from modswap.io.pickled.data import CostlyError, UnreadableError
from modswap.io.pickled.outline import costly
from modswap.io.recognise.look import Look
from modswap.io.recognise.model_places import OWN_KEY

TRUSTED = (
    "loaded by torch's full unpickler (--trust): any code in the file was run with your rights"
)
_COLORS = re.compile(r"\x1b\[[0-9;]*m")
_WANTED = re.compile(r"GLOBAL (\S+) was not an allowed global")
_BLOCKED = re.compile(r"GLOBAL (\S+) whose module \S+ is blocked")
# torch asks a plain value for what a tensor has: the file has another value in its place
_OF_DATA = re.compile(
    "'(NoneType|bool|bytes|complex|dict|float|int|list|set|str|tuple|OrderedDict)' object has no"
)
_NEWER = re.compile(r"file with version (\d+), but the maximum supported version .*? is (\d+)")
# how an old file refers to a module: a persistent id that begins with the word and a class
_WHOLE_MODULE = re.compile(rb"\(X\x06\0\0\0module(?:q.|r....)c", re.DOTALL)
_OPENING_BYTES = 1 << 20


def load(look: Look, policy: Policy) -> Container:
    """Read a file of `torch.save`: a zip mapped and not copied, an older file into memory."""
    payload, plain = _read(look, policy)
    refuse_half_made(payload, look)
    own = payload.get(OWN_KEY) if isinstance(payload, Mapping) else None
    records = _records(look) if look.names else {}
    if not records and isinstance(own, Mapping):
        records = {RECIPE: own.get("recipe"), RECEIPT: own.get("receipt")}
    slots = _slots(payload, plain, policy, look)
    trusted = (TRUSTED,) if policy.trust else ()
    return Container(
        format="torch" if look.names else "torch (legacy)",
        file=look.file,
        payload=payload,
        slots=slots,
        recipe=_text(records.get(RECIPE)),
        receipt=_text(records.get(RECEIPT)),
        notes=(*trusted, *passed_over(payload, slots)),
        unbuilt=tuple(plain),
    )


def _slots(payload: Any, plain: list[str], policy: Policy, look: Look) -> tuple[Slot, ...]:
    """Return the slots of a payload; refuse weights in or among objects that were not built."""
    try:
        slots = find_slots(payload, look.file)
    except CheckpointError:
        resolve(plain, policy, look.file)  # raises the error that names the options
        raise
    if plain and not all(map(torch.is_tensor, slots[0].value.values())):
        resolve(plain, policy, look.file)
    return slots


def _records(look: Look) -> dict[str, Any]:
    """Return modswap's records in a zip."""
    try:
        with zipfile.ZipFile(look.file) as archive:
            return {
                record: archive.read(name).decode("utf-8", "replace")
                for name in archive.namelist()
                for record in (RECIPE, RECEIPT)
                if name.endswith(f"/{record}")
            }
    except (zipfile.BadZipFile, EOFError) as error:
        what = f"it is damaged: {error}"
        raise look.error(what, "save or download it again") from None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _read(look: Look, policy: Policy) -> tuple[Any, list[str]]:
    """Return the payload of a file, and the names of plain data in it that was not built."""
    if policy.trust:
        return _unpickled(look, [], trust=True), []
    if not look.names:
        _refuse_whole_legacy(look)
    try:
        screened = screen(look)
    except CostlyError as error:
        raise costly(look, error) from error
    except UnreadableError as error:
        if look.names:
            _wanted(look)  # raises the error of the file, and builds nothing
        raise _unpickling(look, str(error)) from error
    # before anything that the user allows is imported
    refuse_planted(screened.made, Known({}, named_in(policy)), look.file)
    refuse_factories(screened.made, named_in(policy), look.file)
    if not look.names:
        return _read_legacy(look, policy, screened)
    wanted = _wanted(look)
    plain = unbuilt_names(wanted, policy, screened)
    others = [name for name in wanted if name not in plain]
    allowed = resolve(others, policy, look.file, screened.made)
    _refuse_unsafe(allowed, screened, policy, look)
    return _unpickled(look, [*allowed, *unbuilt(plain, screened.made)]), plain


def _refuse_unsafe(
    allowed: list[tuple[Any, str]], screened: Screened, policy: Policy, look: Look
) -> None:
    """Refuse what an allow-list lets through."""
    _refuse_constructors(allowed, screened.calls, look)
    known = {name: value.cls if isinstance(value, StandIn) else value for value, name in allowed}
    # tensors have been looked at, and most have no state
    with_state = [made for made in screened.made if made.state is not None]
    refuse_planted(with_state, Known(known, named_in(policy)), look.file)


def _refuse_whole_legacy(look: Look) -> None:
    with look.file.open("rb") as stream:
        if _WHOLE_MODULE.search(stream.read(_OPENING_BYTES)):
            raise _whole_module(look)


def _refuse_constructors(allowed: list[tuple[Any, str]], called: Set[str], look: Look) -> None:
    """Refuse to call layers, which a sound file makes without their constructors."""
    for value, name in allowed:
        if name in called and isinstance(value, type) and issubclass(value, nn.Module):
            what = f"to load it, the constructor of {name} would be called"
            fix = "do not load it unless it is your own; for a file of your own making: --trust"
            raise UnsafeError(what, str(look.file), fix)


def _read_legacy(look: Look, policy: Policy, screened: Screened) -> tuple[Any, list[str]]:
    """Read an old file, whose names the unpickler reports one at a time."""
    names: list[str] = []
    while True:
        plain = unbuilt_names(names, policy, screened)
        others = [name for name in names if name not in plain]
        allowed = resolve(others, policy, look.file, screened.made)
        _refuse_unsafe(allowed, screened, policy, look)
        try:
            return _unpickled(look, [*allowed, *unbuilt(plain, screened.made)]), plain
        except _WantedError as error:
            if error.name in names:
                raise _asks(look, error.name) from error
            names.append(error.name)


class _WantedError(Exception):
    """A name that the unpickler was not allowed to build."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _unpickled(look: Look, allowed: list[tuple[Any, str]], *, trust: bool = False) -> Any:
    with standing(allowed, look) as objects:
        payload = _loaded(look, objects, trust=trust)
    for value, _ in allowed:
        if isinstance(value, UnbuiltClass):
            value.empty()
    return payload


def _loaded(look: Look, allowed: list[tuple[Any, str]], *, trust: bool) -> Any:
    # indices outside a sparse tensor are not checked by default, and crash a later operation
    checked = check_sparse_tensor_invariants(enable=True)
    quiet = warnings.catch_warnings(action="ignore", category=UserWarning)
    with torch.serialization.safe_globals([*allowed]), checked, quiet:
        try:
            # the one place where a pickle is read: weights_only builds what was allowed above and
            # nothing else, unless the user asked for the full unpickler
            # torch's own: host libraries put others in the place of torch.load
            return torch.serialization.load(  # noqa: TID251 - the one place that reads a pickle
                look.file, map_location="cpu", mmap=bool(look.names), weights_only=not trust
            )
        except ModswapError:
            raise
        except Exception as error:
            raise _explained(look, error) from error


def _wanted(look: Look) -> list[str]:
    """Return every name that a file wants and torch does not allow by itself; builds nothing."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(look.file))
    except Exception as error:
        raise _explained(look, error) from error


def _explained(look: Look, error: Exception) -> Exception:
    """Return the error for a file that torch cannot read, by the exception that it raised."""
    text = " ".join(_COLORS.sub("", str(error)).split())
    text = text.rpartition("WeightsUnpickler error: ")[2]
    if isinstance(error, UnpicklingError):
        return _unpickling(look, text)
    if isinstance(error, UnicodeEncodeError):
        return look.error("torch cannot open a file of this name", "rename it: in UTF-8")
    if newer := _NEWER.search(text):
        what = f"it was written by a newer torch: file version {newer[1]}, this torch reads up to"
        return look.error(f"{what} {newer[2]}", "update torch, or save it again with this one")
    if isinstance(error, (AttributeError, ImportError)) and not _OF_DATA.match(text):
        what = f"it needs code that is not here: {text[:200]}"
        return look.error(what, "install its package, or say where it is: --alias OLD=NEW")
    what = f"it is damaged or cut short: {type(error).__name__}: {text[:160]}"
    return look.error(what, "save or download it again")


def _unpickling(look: Look, text: str) -> Exception:
    """Return the error for a pickle that the safe unpickler refuses."""
    if wanted := _WANTED.search(text):
        # torch leaves the module out of the names of builtins
        return _WantedError(wanted[1] if "." in wanted[1] else f"builtins.{wanted[1]}")
    if blocked := _BLOCKED.search(text):
        what = f"to load it, {blocked[1]} would have to be called, which can run any code"
        return UnsafeError(what, str(look.file), "do not load it unless it is your own")
    if "Only persistent_load of storage is allowed" in text:
        return _whole_module(look)
    unknown = "Unsupported operand" in text or text.startswith("KeyError: ")  # an operation
    protocol = _protocol(look) if unknown else 2
    if protocol > 3:
        what = f"it was saved with pickle protocol {protocol}, a safe reader reads 2"
        fix = "save it again without `pickle_protocol`; a file of your own making: --trust"
        return look.error(what, fix)
    return _asks(look, text[:160])


def _whole_module(look: Look) -> CheckpointError:
    what = "it is a whole module in the format of before torch 1.6, which cannot be read safely"
    fix = "load it where it was made and save it again; a file of your own: --trust"
    return look.error(what, fix)


def _asks(look: Look, text: str) -> CheckpointError:
    what = f"the safe loader refuses its pickle: {text}"
    return look.error(what, "save the state dict instead; a file of your own making: --trust")


def _protocol(look: Look) -> int:
    """Return the protocol that a file's pickle says it has; the oldest say nothing."""
    head = look.head
    if look.names:
        with zipfile.ZipFile(look.file) as archive:
            head = archive.read(next(name for name in look.names if name.endswith("/data.pkl")))
    return head[1] if head[:1] == b"\x80" and len(head) > 1 else 0
