"""Rewriting a file of `torch.save`: its pickle as data, its records by copy."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from modswap.core.errors import UnsafeError
from modswap.core.kept.ledger import Changes
from modswap.io.pickled.data import Name, Storage, read_pickle
from modswap.io.pickled.edit import put_module, put_weights, set_item, value_at
from modswap.io.pickled.marks import marks
from modswap.io.pickled.names import runs_code
from modswap.io.pickled.opened import DATA, PICKLE, Opened, content
from modswap.io.pickled.optimizers import Parameters, remap
from modswap.io.pickled.outline import ITEM_BYTES, is_module, is_weights, mapping, unwrapped
from modswap.io.pickled.walk import everything
from modswap.io.pickled.writing import write_pickle
from modswap.io.raw.byte_range import ByteRange, in_memory
from modswap.io.raw.checksums import with_checksum
from modswap.io.raw.copying import Sink
from modswap.io.raw.torch_zip_layout import lay_out, read_archive
from modswap.io.recognise.model_places import OWN_KEY
from modswap.io.rewriting import Graft, Records, Rewritten

RECIPE, RECEIPT = "modswap/recipe.yaml", "modswap/receipt.json"
# what tells readers how torch laid the file out, which is not how it is laid out here
_LEFT_OUT = (PICKLE, ".format_version", ".storage_alignment", ".data/serialization_id")


class ZipRewriting:
    """A file of `torch.save` that is to be written with other modules in it.

    Args:
        opened: The file as it is; its payload is changed.
        grafts: What goes in.
        parameters: The model's, for its optimizers.
        trust: Whether names in it that can run code are written again.

    Raises:
        UnreadableError: If it holds what cannot be written again.
        UnsafeError: If its pickle names what can run code.
        CheckpointError: If a tensor's record is not there, or of another size.
    """

    def __init__(
        self,
        opened: Opened,
        grafts: Sequence[Graft],
        parameters: Parameters,
        *,
        trust: bool = False,
    ) -> None:
        if not trust:
            _refuse_code(opened)
        self.opened = opened
        self.payload = opened.payload
        self._homes = [opened.archive]
        self.before = dict(marks(self.payload, self.extent_of))
        for graft in grafts:
            self._put(graft)
        done = remap(self.payload, parameters)
        self.after = dict(marks(self.payload, self.extent_of))
        self.notes = tuple(done.notes)
        left = tuple(done.left)
        self.changes = Changes(
            tuple(prefix for graft in grafts for prefix in graft.prefixes),
            done.renamed,
            frozenset(name for name in self.before if name.startswith(left)),
        )

    def extent_of(self, stored: Storage) -> ByteRange:
        """Return where a storage's bytes lie.

        Raises:
            CheckpointError: If there is no such record, or it is of another size.
        """
        extent = self._homes[stored.home].records.get(f"{DATA}{stored.key}")
        if extent is None:
            what = f"a tensor's record {stored.key!r:.40} is missing"
            raise self.opened.look.error(what, "save or download it again")
        kind = stored.kind.attribute.removesuffix("Storage")
        expected = stored.count * ITEM_BYTES.get(kind, 1)
        if extent.nbytes != expected:
            what = f"its record {extent.name!r} has {extent.nbytes:,} bytes, expected {expected:,}"
            raise self.opened.look.error(what, "save or download it again")
        return extent

    def _put(self, graft: Graft) -> None:
        target = value_at(self.payload, graft.keys)
        there = (value for value in everything(target) if isinstance(value, Storage))
        location = next((stored.location for stored in there), "cpu")
        archive = read_archive(graft.packed)
        data = content(archive.records[PICKLE])
        packed, _ = read_pickle(data, len(self._homes), location)
        self._homes.append(archive)
        if is_module(target):
            model = unwrapped(target)
            for paths, module in zip(graft.paths, packed, strict=True):
                for path in paths:
                    put_module(model, path, module)
            return
        for prefix in graft.more:
            put_weights(target, [prefix], {}, {})
        for paths, weights in zip(graft.paths, packed, strict=True):
            for path in paths:
                place = f"{graft.prefix}{path}"
                named = mapping(weights) or {}
                added = {f"{place}.{name}": value for name, value in named.items()}
                put_weights(target, [f"{place}."], added, _versions(weights, place))

    def write(self, out: Path, records: Records, *, checksums: bool) -> Rewritten:
        """Write the file into an empty one, and read it again.

        Args:
            out: The empty file.
            records: The recipe and the receipt.
            checksums: Whether copies are compared with the checksums of their sources.

        Raises:
            CheckpointError: If a record is damaged.
        """
        with ThreadPoolExecutor() as pool:  # reading lets go of the interpreter
            laid = self._laid(records)
            summed = dict(zip(laid, pool.map(with_checksum, laid.values()), strict=True))
        layout = lay_out(self.opened.archive.root, summed)
        with Sink(out, layout.nbytes, checksums=checksums) as sink:
            layout.write(sink)
            sha256 = sink.finish()
        copies = {arrival.start: arrival.extent for arrival in sink.arrivals}
        written = read_archive(out)
        payload, _ = read_pickle(content(written.records[PICKLE]))

        def copied(stored: Storage) -> ByteRange:
            extent = written.records[f"{DATA}{stored.key}"]
            return copies.get(extent.start, extent)

        return Rewritten(sha256, dict(marks(payload, copied)))

    def _laid(self, records: Records) -> dict[str, ByteRange]:
        """Return what the new zip holds, in order."""
        old = self.opened.archive.records
        inside = not is_module(self.payload) and not is_weights(self.payload)
        own = {RECIPE: records.recipe, RECEIPT: records.receipt}
        if inside and any(own.values()):
            value = {"recipe": records.recipe, "receipt": records.receipt}
            set_item(self.payload, OWN_KEY, value)
            own = {}
        numbers: dict[tuple[int, str], str] = {}
        storages: dict[str, ByteRange] = {}

        def key_of(stored: Storage) -> str:
            known = numbers.get((stored.home, stored.key))
            if known is None:
                known = numbers[stored.home, stored.key] = str(len(numbers))
                storages[f"{DATA}{known}"] = self.extent_of(stored)
            return known

        pickle = write_pickle(self.payload, key_of, self.opened.protocol)
        others = {
            name: extent
            for name, extent in old.items()
            if not name.startswith(DATA) and name not in (*_LEFT_OUT, RECIPE, RECEIPT)
        }
        kept = {name: text for name, text in own.items() if text}
        return {
            PICKLE: in_memory(pickle, PICKLE),
            **{name: extent for name, extent in others.items() if name != "version"},
            **storages,
            **{name: extent for name, extent in others.items() if name == "version"},
            **{name: in_memory(text.encode(), name) for name, text in kept.items()},
        }


def _refuse_code(opened: Opened) -> None:
    found = [str(name) for name in opened.names if runs_code(_modern(name))]
    if found:
        what = f"it names what can run any code: {', '.join(found[:6])}"
        fix = "do not use it unless it is your own; for a file of your own making: --trust"
        raise UnsafeError(what, str(opened.look.file), fix)


def _modern(name: Name) -> str:
    # what Python 2 called builtins is how protocol 2 writes them
    return str(name).replace("__builtin__.", "builtins.")


def _versions(weights: Any, place: str) -> dict[str, Any]:
    """Return the version numbers of new layers by their path."""
    state = getattr(weights, "state", None)
    known = mapping(state.get("_metadata")) if isinstance(state, dict) else None
    return {f"{place}.{path}" if path else place: v for path, v in (known or {}).items()}
