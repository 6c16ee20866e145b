"""Rewrite a file of `torch.save`: change its pickle as data, and copy its records."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from modswap.core.errors import UnsafeError
from modswap.core.kept.ledger import Changes
from modswap.io.pickled.data import Instance, Storage, read_pickle
from modswap.io.pickled.edit import (
    put_beside,
    put_heirs,
    put_module,
    put_weights,
    remove_item,
    set_item,
    take_beside,
    value_at,
)
from modswap.io.pickled.marks import marks
from modswap.io.pickled.names import runs_code
from modswap.io.pickled.opened import PICKLE, Opened, content
from modswap.io.pickled.optimizers import Parameters, remap
from modswap.io.pickled.storages import DATA, Storages
from modswap.io.pickled.values import INSERTION, is_module, is_weights, mapping, without_wrappers
from modswap.io.pickled.walk import everything
from modswap.io.pickled.writing import write_pickle
from modswap.io.raw.byte_range import ByteRange, in_memory
from modswap.io.raw.checksums import with_checksum
from modswap.io.raw.copying import Sink
from modswap.io.raw.torch_zip_layout import lay_out, read_archive
from modswap.io.recognise.look import Look
from modswap.io.recognise.model_places import OWN_KEY
from modswap.io.rewriting import Graft, Records, Removal, Rewritten

RECIPE, RECEIPT = "modswap/recipe.yaml", "modswap/receipt.json"
# records that describe torch's own layout of the file, which the new file does not have
_LEFT_OUT = (PICKLE, ".format_version", ".storage_alignment", ".data/serialization_id")


class ZipRewriting:
    """A file of `torch.save` that is to be written with other modules in its payload.

    Names in it that can run code are written again only with `trust`.

    Raises:
        UnreadableError: If it holds an object that cannot be written again.
        UnsafeError: If its pickle names a function that can run code.
        CheckpointError: If a tensor's record is not there, or of another size.
    """

    def __init__(
        self,
        opened: Opened,
        grafts: Sequence[Graft],
        parameters: Parameters,
        changes: Changes,
        *,
        trust: bool = False,
    ) -> None:
        if not trust:
            _refuse_code(opened)
        self.opened = opened
        self.payload = opened.payload
        self._storages = Storages(opened.look, opened.archive.records)
        for graft in grafts:
            put_heirs(value_at(self.payload, graft.keys), graft.more.heirs)
        self.before = dict(marks(self.payload, self._storages))
        for graft in grafts:
            self._put(graft)
        done = remap(self.payload, parameters)
        self.after = dict(marks(self.payload, self._storages))
        self.notes = done.notes
        left = frozenset(name for name in self.before if name.startswith(done.left))
        self.changes = replace(changes, renamed=done.renamed, gone=left)

    def _put(self, graft: Graft) -> None:
        target = value_at(self.payload, graft.keys)
        there = (value for value in everything(target) if isinstance(value, Storage))
        location = next((storage.location for storage in there), "cpu")
        archive = read_archive(graft.packed)
        home = self._storages.add(archive.records)
        packed, _ = read_pickle(content(archive.records[PICKLE]), home, location)
        if is_module(target):
            _put_modules(target, graft, packed)
        else:
            _put_weights(target, graft, packed)

    def write(self, out: Path, records: Records, *, checksums: bool) -> Rewritten:
        """Write the file into an empty one, and read it again."""
        with ThreadPoolExecutor() as pool:  # reading lets go of the interpreter
            laid = self._laid(records)
            summed = dict(zip(laid, pool.map(with_checksum, laid.values()), strict=True))
        layout = lay_out(self.opened.archive.root, summed)
        with Sink(out, layout.nbytes, checksums=checksums) as sink:
            layout.write(sink)
            sha256 = sink.finish()
        copies = {arrival.start: arrival.extent for arrival in sink.arrivals}
        written = read_archive(out).records
        payload, _ = read_pickle(content(written[PICKLE]))
        origins = {name: copies.get(held.start, held) for name, held in written.items()}
        return Rewritten(sha256, dict(marks(payload, Storages(Look(out, b"", 0), origins))))

    def _beside(self, records: Records) -> dict[str, str]:
        """Put modswap's records into the payload; return them where they go beside it."""
        own = records.named(RECIPE, RECEIPT)
        if is_module(self.payload) or is_weights(self.payload):
            return own
        if own:
            set_item(self.payload, OWN_KEY, asdict(records))
        else:
            remove_item(self.payload, OWN_KEY)
        return {}

    def _laid(self, records: Records) -> dict[str, ByteRange]:
        """Return the records of the new zip, in order."""
        old = self.opened.archive.records
        own = self._beside(records)
        pickle, stored = write_pickle(self.payload, self.opened.protocol)
        storages = {f"{DATA}{n}": self._storages.find(each) for n, each in enumerate(stored)}
        others = {
            name: extent
            for name, extent in old.items()
            if not name.startswith(DATA) and name not in (*_LEFT_OUT, RECIPE, RECEIPT)
        }
        return {
            PICKLE: in_memory(pickle, PICKLE),
            **{name: extent for name, extent in others.items() if name != "version"},
            **storages,
            **{name: extent for name, extent in others.items() if name == "version"},
            **{name: in_memory(text.encode(), name) for name, text in own.items()},
        }


def _put_modules(target: Instance, graft: Graft, packed: Sequence[Any]) -> None:
    model, _ = without_wrappers(target)
    for path in graft.taken:
        take_beside(model, path)
    for paths, module in zip(graft.paths, packed, strict=True):
        put = put_beside if module.what == INSERTION else put_module
        for path in paths:
            put(model, path, module)


def _put_weights(target: Any, graft: Graft, packed: Sequence[Any]) -> None:
    if graft.named:
        put_weights(target, graft.more, mapping(packed[0]) or {}, {})
        return
    for prefix in (*graft.more.prefixes, *(f"{graft.prefix}{path}." for path in graft.taken)):
        put_weights(target, Removal((prefix,)), {}, {})
    for paths, weights in zip(graft.paths, packed, strict=True):
        named = mapping(weights) or {}
        for path in paths:
            place = f"{graft.prefix}{path}"
            added = {f"{place}.{name}": value for name, value in named.items()}
            put_weights(target, Removal((f"{place}.",)), added, _versions(weights, place))


def _refuse_code(opened: Opened) -> None:
    found = [str(name) for name in opened.names if runs_code(str(name))]
    if found:
        what = f"it names what can run any code: {', '.join(found[:6])}"
        fix = "do not use it unless it is your own; for a file of your own making: --trust"
        raise UnsafeError(what, str(opened.look.file), fix)


def _versions(weights: Any, place: str) -> dict[str, Any]:
    """Return the version numbers of new layers by their path."""
    state = getattr(weights, "state", None)
    known = mapping(state.get("_metadata")) if isinstance(state, dict) else None
    return {f"{place}.{path}" if path else place: v for path, v in (known or {}).items()}
