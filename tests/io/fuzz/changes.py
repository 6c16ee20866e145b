"""Sound files, and changes of them: of bytes, of operations of a pickle, of zips, JSON and YAML."""

import io
import json
import pickletools
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from tests.io.corpus.case import RECIPE, SWAP, net
from tests.io.corpus.raw import (
    Entry,
    call,
    entries_of,
    name_,
    new,
    number,
    pushed,
    records_in,
    records_of,
    safetensors,
    storage,
    tensor,
    text,
    zipped,
)
from tests.io.corpus.safetensors_files import whole as whole_safetensors

NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 127, 128, 255, 256, 0x7FFF, 0xFFFF, 0x10000, 1 << 20, 10**12),
    *((1 << 31) - 1, 1 << 31, -(1 << 31), 1 << 32, (1 << 62) + 1, 1 << 63, (1 << 64) - 1, 1 << 70),
)
# what a mutation puts into a pickle
PIECES: tuple[bytes, ...] = (
    *(b"N", b"\x88", b"\x89", b")", b"]", b"}", b"(", b"t", b"\x85", b"\x86", b"\x87", b"l", b"d"),
    *(b"a", b"e", b"s", b"u", b"R", b"b", b"\x81", b"Q", b".", b"0", b"2", b"\x8f", b"\x90"),
    *(b"h\0", b"h\1", b"q\0", b"q\1", b"r\xff\xff\xff\x7f", b"\x82\1", b"\x80\4", b"\x80\2"),
    *(map(number, NUMBERS)),
    *(text(word) for word in ("", "x", "forward", "_modules", "_parameters", "state_dict", "\0")),
    *(call("os", "system", "touch canary"), call("builtins", "eval", "open('canary', 'w')")),
    *(call("builtins", "bytearray", 1 << 33), call("torch", "FloatTensor", 1 << 33)),
    *(new("torch", "UntypedStorage", 1 << 33), new("torch.nn.modules.linear", "Linear")),
    call("torch.nn.modules.linear", "Linear", 1 << 16, 1 << 16),
    *(name_("torch.nn.functional", "relu"), name_("collections", "OrderedDict")),
    *(name_("torch", "float16"), name_("torch._utils", "_rebuild_parameter")),
    *(storage(), storage("1", 1 << 30), storage("99"), tensor(), tensor((10**12,), (0,))),
    *(pushed({"forward": name_("torch.nn.functional", "relu")}), pushed({"a": [1, (2, None)]})),
)
ODD: tuple[Any, ...] = (
    *(None, True, False, "", "F32", "x", [], {}, [1], {"a": 1}, 1.5, -0.0, "\ud800", [[]]),
    *NUMBERS,
)


# -- sound files


@cache
def training(*, legacy: bool) -> bytes:
    """Return a training with its optimizer."""
    model = net().train()
    optimizer = torch.optim.AdamW(model.parameters())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    payload = {
        "epoch": 3,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": {"base_lrs": [0.1], "last_epoch": 3},
    }
    stream = io.BytesIO()
    torch.save(payload, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


@cache
def old_module() -> bytes:
    """Return a whole module as it was written before torch 1.6."""
    stream = io.BytesIO()
    torch.save(net(), stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


@cache
def bases() -> tuple[Mapping[str, bytes], ...]:
    """Return the records of sound zips."""
    return records_of("module"), records_of("weights"), records_in(training(legacy=False))


# -- changes


def scrambled(data: bytes, dice: random.Random) -> bytes:
    """Return bytes with a few changes that know nothing of what they mean."""
    out = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 4, 16))):
        at = dice.randrange(len(out) + 1)
        length = dice.choice((1, 1, 2, 4, 8, 64))
        match dice.randrange(7):
            case 0 if at < len(out):
                out[at] ^= 1 << dice.randrange(8)
            case 1:
                out[at : at + length] = dice.randbytes(length)
            case 2:
                del out[at : at + length]
            case 3:
                out[at:at] = out[at : at + length * 8]
            case 4:
                size = dice.choice((1, 2, 4, 8))
                out[at : at + size] = (dice.choice(NUMBERS) % (1 << 8 * size)).to_bytes(
                    size, dice.choice(("little", "big"))
                )
            case 5 if dice.random() < 0.2:
                del out[at:]
            case _:
                out[at : at + length] = bytes([dice.choice((0, 0xFF, 0x2E, 0x28))]) * length
    return bytes(out)


def operations(code: bytes) -> list[bytes]:
    """Return a pickle cut into its operations."""
    starts = [at for _, _, at in pickletools.genops(code) if at is not None]
    ends = [*starts[1:], len(code)]
    return [code[start:end] for start, end in zip(starts, ends, strict=True)]


@cache
def _cut(code: bytes) -> tuple[bytes, ...]:
    return tuple(operations(code))


def reworked(code: bytes, dice: random.Random) -> bytes:
    """Return a pickle of sound operations in an unsound order."""
    parts = list(_cut(code))
    for _ in range(dice.choice((1, 1, 2, 3, 8))):
        _rework(parts, dice)
    return b"".join(parts)


def _rework(parts: list[bytes], dice: random.Random) -> None:
    at, other = dice.randrange(1, len(parts)), dice.randrange(1, len(parts))
    match dice.randrange(7):
        case 0 if len(parts) > 3:
            del parts[at]
        case 1:
            parts.insert(at, parts[other])
        case 2:
            parts[at], parts[other] = parts[other], parts[at]
        case 3:
            parts.insert(at, dice.choice(PIECES))
        case 4:
            parts[at:at] = parts[other : other + dice.randrange(40)]
        case 5:  # names, texts and numbers
            words = [n for n, part in enumerate(parts) if part[:1] in b"cXKMJ"]
            parts[dice.choice(words or [at])] = dice.choice(PIECES)
        case _:
            parts[at] = dice.choice(PIECES)


def _pickle(dice: random.Random) -> tuple[str, bytes]:
    records = dict(dice.choice(bases()))
    change = dice.choice((reworked, reworked, scrambled))
    records["data.pkl"] = change(records["data.pkl"], dice)
    return "net.pt", zipped(entries_of(records))


def _directory(dice: random.Random) -> tuple[str, bytes]:
    entries = entries_of(dice.choice(bases()))
    for _ in range(dice.choice((1, 1, 2, 3))):
        at = dice.randrange(len(entries))
        entries[at] = _other(entries[at], dice)
        if dice.random() < 0.2:
            dice.shuffle(entries)
        if dice.random() < 0.2:
            entries.append(dice.choice(entries))
    odd = dice.random() < 0.2
    content = zipped(
        entries,
        count=dice.choice(NUMBERS) % 0xFFFF if odd else None,
        at=dice.choice(NUMBERS) % (1 << 32) if odd and dice.random() < 0.5 else None,
        tail=dice.randbytes(9) if dice.random() < 0.05 else b"",
    )
    return "net.pt", scrambled(content, dice) if dice.random() < 0.3 else content


def _other(entry: Entry, dice: random.Random) -> Entry:
    wide = dice.choice(NUMBERS) % (1 << 32)
    changes: tuple[dict[str, Any], ...] = (
        {"size": wide},
        {"packed": wide},
        {"start": wide},
        {"size": wide, "packed": wide},
        {"flags": 1 << dice.randrange(16)},
        {"method": dice.choice((8, 12, 14, 99))},
        {"name": dice.choice(("net/DATA.PKL", "net/version", "../x", "net/data/1", "", "/", "x"))},
        {"local": "net/other"},
        {"extra": dice.randbytes(dice.choice((2, 4, 12, 28)))},
        {"extra": b"\1\0\x18\0" + dice.randbytes(24), "size": 0xFFFFFFFF},
        {"crc": 7},
        {"data": scrambled(entry.data, dice)},
    )
    return replace(entry, **dice.choice(changes))


def _legacy(dice: random.Random) -> tuple[str, bytes]:
    whole = dice.choice((training(legacy=True), training(legacy=True), old_module()))
    if dice.random() < 0.3:
        return "net.pt", scrambled(whole, dice)
    # magic number, version, system, payload, keys; then the bytes of the storages
    stream = io.BytesIO(whole)
    pickles = []
    for _ in range(5):
        start = stream.tell()
        for _ in pickletools.genops(stream):
            pass
        pickles.append(whole[start : stream.tell()])
    at = dice.choice((1, 2, 3, 3, 3, 3, 4))
    pickles[at] = reworked(pickles[at], dice) if len(_cut(pickles[at])) > 3 else pickles[at]
    return "net.pt", b"".join(pickles) + whole[stream.tell() :]


def _safetensors(dice: random.Random) -> tuple[str, bytes]:
    header, data = whole_safetensors()
    if dice.random() < 0.3:
        return "net.safetensors", scrambled(safetensors(header, data), dice)
    head = json.dumps(odd_json(header, dice)).encode()
    return "net.safetensors", safetensors(
        scrambled(head, dice) if dice.random() < 0.2 else head, data
    )


def odd_json(value: Any, dice: random.Random) -> Any:
    """Return JSON with odd values at any depth, in the place of others or beside them."""
    changed: Any = json.loads(json.dumps(value))
    for _ in range(dice.choice((1, 1, 2))):
        holder: Any = changed
        while dice.random() < 0.8 and isinstance(holder, (dict, list)) and holder:
            inner = holder[_key(holder, dice)]
            if not isinstance(inner, (dict, list)) or not inner:
                break
            holder = inner
        if isinstance(holder, (dict, list)) and holder:
            holder[_key(holder, dice)] = dice.choice(ODD)
        if isinstance(holder, dict) and dice.random() < 0.3:
            holder[dice.choice(("__metadata__", "x", "", "gate"))] = dice.choice(ODD)
    return changed


def _key(holder: Any, dice: random.Random) -> Any:
    return dice.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))


WORDS = (
    *("match", "with", "args", "inputs", "shape", "replace", "version", "expect", "where", "auto"),
    *("SEBlock", "gate", "'**'", "'re:('", "&a", "*a", "<<", "!!python/name:os.system", "- ", ": "),
    *("{", "}", "[", "]", ",", "\n", "\t", "\0", "|", "'", '"', "---", "~", "1e9", ".nan", "1:30"),
    *(str(value) for value in NUMBERS),
)


def _recipe(dice: random.Random) -> tuple[str, bytes]:
    if dice.random() < 0.3:
        return RECIPE, scrambled(SWAP.encode(), dice)
    parts = SWAP.replace(",", " , ").replace("{", "{ ").replace("[", "[ ").split(" ")
    for _ in range(dice.choice((1, 1, 2, 3))):
        at = dice.randrange(len(parts))
        match dice.randrange(3):
            case 0:
                parts[at] = dice.choice(WORDS)
            case 1:
                parts.insert(at, dice.choice(WORDS))
            case _:
                del parts[at]
    return RECIPE, " ".join(parts).encode("utf-8", "surrogatepass")


KINDS: Mapping[str, Callable[[random.Random], tuple[str, bytes]]] = {
    "pickle": _pickle,
    "directory": _directory,
    "legacy": _legacy,
    "safetensors": _safetensors,
    "recipe": _recipe,
}
