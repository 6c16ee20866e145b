"""Small safetensors files with a receipt, as modswap writes them, for tests."""

import json
from pathlib import Path
from typing import Any

import torch

from modswap.io.formats.safetensors.save import save
from modswap.io.rewriting import Records

RECEIPT = json.dumps({"modswap": "0.1.0", "torch": "2.0", "sites": []})
WEIGHTS = {
    "b.weight": torch.arange(300.0),
    "a.bias": torch.arange(7, dtype=torch.float16),
    "c.empty": torch.zeros(0, 3),
    "d.count": torch.tensor(3),
}


def write(file: Path, weights: dict[str, torch.Tensor] = WEIGHTS) -> None:
    """Write weights with a receipt."""
    save(weights, file, Records("version: 1\n", RECEIPT), {"format": "pt"})


def header(file: Path) -> dict[str, Any]:
    """Return the JSON of a file's header."""
    data = file.read_bytes()
    found: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return found


def put_header(file: Path, text: bytes) -> None:
    """Write a file again with another header, its data as they are."""
    data = file.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[start:])


def flip(file: Path, name: str, byte: int = 0) -> None:
    """Flip one bit of a tensor."""
    data = bytearray(file.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little") + header(file)[name]["data_offsets"][0]
    data[start + byte] ^= 4
    file.write_bytes(data)


def put_receipt(file: Path, change: Any) -> None:
    """Change a file's receipt in place, as another version of modswap would write it."""
    entries = header(file)
    receipt = json.loads(entries["__metadata__"]["modswap.receipt"])
    change(receipt)
    entries["__metadata__"]["modswap.receipt"] = json.dumps(receipt)
    text = json.dumps(entries).encode().replace(b'\\"digests\\"', b'\\"\\u0064igests\\"')
    put_header(file, text)
