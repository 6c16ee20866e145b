"""Readers that are fuzzed, each with sound inputs: any input is read, or refused in words."""

import io
import json
import random
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed.checkpoint

import modswap
from modswap.core.asked.job import Policy
from modswap.core.errors import ModswapError
from modswap.core.kept.ledger import Changes
from modswap.core.kept.receipt import read_receipt
from modswap.io.formats.outline import outline, survey
from modswap.io.formats.reading import read, tensors
from modswap.io.formats.torch.rewrite import ZipRewriting
from modswap.io.lock import fingerprint, read_lock
from modswap.io.pickled.data import UnreadableError
from modswap.io.pickled.opened import open_torch
from modswap.io.pickled.optimizers import Parameters
from modswap.io.raw.folder_files import own_records
from modswap.io.raw.torch_zip_layout import read_inner_archive
from modswap.io.recipe.reader import parse_recipe, write_recipe
from modswap.io.recognise.look import look_at
from modswap.io.rewriting import Graft, Records
from tests.io.corpus.case import FACTORY, RECIPE, SWAP, net
from tests.io.corpus.raw import Entry, entries_of, records_of, safetensors, torch_zip, zipped
from tests.io.corpus.records import receipt
from tests.io.corpus.safetensors_files import whole as whole_safetensors
from tests.io.fuzz.changes import KINDS, odd_json, old_module, reworked, scrambled, training

FIXTURES = Path(__file__).parents[2] / "fixtures" / "before_the_rebuild"
REFUSED = (ModswapError, UnreadableError)
_DISTRIBUTED = ".metadata"


# -- what is done with an input, in a folder that holds nothing of another one


def _look_through(file: Path) -> None:
    """Read a file as data in every way that needs no torch."""
    with suppress(*REFUSED):
        outline(file)
    with suppress(*REFUSED):
        survey(file)


def _pickle(data: bytes, folder: Path) -> None:
    _look_through(_file_with(data, folder))


def _rewrite_pickle(data: bytes, folder: Path) -> None:
    with suppress(*REFUSED):
        _rewrite(_file_with(data, folder), folder / "out.pt")


def _file_with(data: bytes, folder: Path) -> Path:
    file = folder / "net.pt"
    file.write_bytes(torch_zip(data_pkl=data))
    return file


def _rewrite(file: Path, out: Path) -> None:
    """Swap a module, or its weights, in a file as data."""
    found = survey(file)
    place, opened = found.places[0], open_torch(look_at(file))
    path = next((s.site.path for s in found.sites if s.site.path.endswith("gate")), "gate")
    graft = Graft(place.keys, place.prefix, ((path,),), _packed(whole=place.kind == "module"))
    parameters = Parameters(found.parameters, (), (f"{path}.",))
    rewriting = ZipRewriting(opened, [graft], parameters, Changes(graft.prefixes))
    rewriting.write(out, Records("version: 1", "{}"), checksums=True)
    survey(out)


@cache
def _packed(*, whole: bool) -> bytes:
    module = torch.nn.Conv2d(8, 8, 1)
    stream = io.BytesIO()
    torch.save([module if whole else module.state_dict()], stream)
    return stream.getvalue()


def _zip(data: bytes, folder: Path) -> None:
    file = folder / "net.pt"
    file.write_bytes(data)
    _look_through(file)
    with suppress(*REFUSED):
        fingerprint(file, file.name, whole=0)
    with suppress(ValueError):  # of an archive inside a file
        read_inner_archive(file, 0, len(data))


def _safetensors(data: bytes, folder: Path) -> None:
    file = folder / "net.safetensors"
    file.write_bytes(data)
    _look_through(file)


def _recipe(data: bytes, folder: Path) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with suppress(*REFUSED):
        recipe = parse_recipe(text, RECIPE, str(folder))
        again = parse_recipe(write_recipe(recipe), RECIPE, str(folder))
        assert again.model_dump() == recipe.model_dump()


def _distributed(data: bytes, folder: Path) -> None:
    for name, content in _distributed_files().items():
        (folder / name).write_bytes(data if name == _DISTRIBUTED else content)
    _look_through(folder)


def _chunk(data: bytes, folder: Path) -> None:
    """Read a distributed checkpoint with other bytes in the place of its tensors."""
    for name, content in _distributed_files().items():
        (folder / name).write_bytes(content if name == _DISTRIBUTED else data)
    with suppress(*REFUSED):
        tensors(read(folder, Policy()))


_TEXTS: Mapping[str, Callable[[str, Path], object]] = {
    "receipt.json": lambda text, file: read_receipt(text, str(file)),
    "modswap.lock": lambda _, file: read_lock(file),
    "modswap.json": lambda _, file: own_records(file.parent),
    "model.safetensors.index.json": lambda _, file: _look_through(file.parent),
}


def _text(data: bytes, folder: Path) -> None:
    """Read JSON as each of the small files beside a checkpoint."""
    (folder / "a.safetensors").write_bytes(_fixture("weights.safetensors"))
    for name, reader in _TEXTS.items():
        (folder / name).write_bytes(data)
        with suppress(*REFUSED):
            reader(data.decode("utf-8", "replace"), folder / name)


def _load_pickle(data: bytes, folder: Path) -> None:
    """Build what a pickle asks for, as far as it is allowed; torch does it."""
    _load(_file_with(data, folder))


def _load_file(data: bytes, folder: Path) -> None:
    """Load a whole file of any format, and carry out the recipe or the receipt inside."""
    file = folder / "net.pt"
    file.write_bytes(data)
    _look_through(file)
    _load(file)


def _load(file: Path) -> None:
    with suppress(*REFUSED):
        container = read(file, Policy())
        tensors(container)
    with suppress(*REFUSED):
        modswap.load(file, model=FACTORY)


# -- sound inputs


@cache
def _fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


@cache
def _distributed_files() -> Mapping[str, bytes]:
    """Return the files of a small distributed checkpoint."""
    payload = {"model": net().state_dict(), "epoch": torch.tensor(3), "note": "a text"}
    with TemporaryDirectory() as name, warnings.catch_warnings(action="ignore"):
        dcp: Any = torch.distributed.checkpoint
        dcp.save(payload, checkpoint_id=name, no_dist=True)
        return {file.name: file.read_bytes() for file in Path(name).iterdir()}


def _pickles() -> Iterable[bytes]:
    whats = ("module", "weights", "training")
    return [records_of(what)["data.pkl"] for what in whats]


def _receipts() -> Iterable[bytes]:
    index = {"metadata": {"total_size": 1}, "weight_map": {"stem.weight": "a.safetensors"}}
    own = {"recipe": SWAP, "receipt": receipt()}
    lock = _fixture("modswap.lock")
    return [lock, receipt().encode(), json.dumps(index).encode(), json.dumps(own).encode()]


def _headers() -> Iterable[bytes]:
    header, data = whole_safetensors()
    small = {name: entry for name, entry in header.items() if name.startswith("head")}
    ends = [entry["data_offsets"][0] for entry in small.values()]
    moved = {
        name: {**entry, "data_offsets": [n - min(ends) for n in entry["data_offsets"]]}
        for name, entry in small.items()
    }
    return [safetensors(header, data), safetensors({**moved, "__metadata__": {"format": "pt"}})]


def _zips() -> Iterable[bytes]:
    entries = entries_of({name: data[:64] for name, data in records_of("weights").items()})
    wide = Entry("net/data/9", b"abcd", extra=b"\1\0\x08\0" + bytes(8), start=0xFFFFFFFF)
    return [torch_zip("weights"), zipped(entries), zipped([*entries, wide])]


def _fixtures() -> Iterable[bytes]:
    names = ("SEBlock.pt", "weights.pt", "weights.safetensors", "shared.pt")
    swapped = map(_fixture, names)
    return [*swapped, old_module(), training(legacy=True), torch_zip("training")]


# -- changes that know what the bytes mean

Change = Callable[[bytes, random.Random], bytes]


def _change_pickle(data: bytes, dice: random.Random) -> bytes:
    try:
        return reworked(data, dice)
    except Exception:  # noqa: BLE001 - what is no pickle raises anything
        return scrambled(data, dice)


def _change_json(data: bytes, dice: random.Random) -> bytes:
    try:
        return json.dumps(odd_json(json.loads(data), dice)).encode()
    except (ValueError, RecursionError):
        return scrambled(data, dice)


def _change_header(data: bytes, dice: random.Random) -> bytes:
    end = 8 + int.from_bytes(data[:8], "little")
    return safetensors(_change_json(data[8:end], dice), data[end:])


def _one_of(*kinds: str) -> Change:
    """Return a change that takes a file of the mutations now and then."""

    def change(data: bytes, dice: random.Random) -> bytes:
        return KINDS[dice.choice(kinds)](dice)[1] if dice.random() < 0.2 else scrambled(data, dice)

    return change


@dataclass(frozen=True, slots=True)
class Target:
    """A reader that is fuzzed.

    Args:
        run: Read an input, with an empty folder for its files; refusals stay inside, and anything
            that is raised is a finding.
        seeds: Return sound inputs.
        change: Change an input in the knowledge of its form.
    """

    run: Callable[[bytes, Path], None]
    seeds: Callable[[], Iterable[bytes]]
    change: Change


TARGETS: Mapping[str, Target] = {
    "pickle": Target(_pickle, _pickles, _change_pickle),
    "rewrite": Target(_rewrite_pickle, _pickles, _change_pickle),
    "legacy": Target(_zip, lambda: [old_module(), training(legacy=True)], _one_of("legacy")),
    "zip": Target(_zip, _zips, _one_of("directory")),
    "safetensors": Target(_safetensors, _headers, _change_header),
    "recipe": Target(_recipe, lambda: [SWAP.encode()], _one_of("recipe")),
    "distributed": Target(
        _distributed, lambda: [_distributed_files()[_DISTRIBUTED]], _change_pickle
    ),
    "text": Target(_text, _receipts, _change_json),
    "load_pickle": Target(_load_pickle, _pickles, _change_pickle),
    "load_chunk": Target(_chunk, lambda: [_distributed_files()["__0_0.distcp"]], scrambled),
    "load_file": Target(_load_file, _fixtures, _one_of("directory", "legacy", "safetensors")),
}
