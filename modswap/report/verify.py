"""The comparison of a checkpoint with its checksums, for people and for programs."""

from collections.abc import Iterator
from dataclasses import asdict

from rich.text import Text

from modswap.core.kept.comparison import Comparison, Unequal
from modswap.core.version import __version__
from modswap.core.words.printable import SHOWN_CHARACTERS, shown
from modswap.report.json_report import error_as_data
from modswap.report.page import SCHEMA, Page, as_json, human_bytes
from modswap.report.tamed import tamed

SHOWN_DIFFERENCES = 20  # differences in a table that is not verbose


def verify_json(found: Comparison) -> str:
    """Return a comparison as one JSON object."""
    data = {
        "schema": SCHEMA,
        "modswap": __version__,
        "command": "verify",
        "checkpoint": found.checkpoint,
        "format": found.format or None,
        "ok": found.ok,
        "compared": {"tensors": found.parts.tensors, "bytes": found.parts.nbytes},
        "unknown": found.unknown,
        "digests": {"files": found.files.tensors, "bytes": found.files.nbytes},
        "different": [asdict(one) for one in found.unequal],
        "notes": list(found.notes),
        "seconds": round(found.seconds, 3),
        "error": error_as_data(found.error),
    }
    return as_json(data)


def verify_table(found: Comparison, page: Page) -> str:
    """Return a comparison as a few lines; the error, if there is one, is printed elsewhere."""
    return page.render(_lines(tamed(found), page))


def _lines(found: Comparison, page: Page) -> Iterator[Text]:
    if found.files.tensors:
        yield _compared(found.files.tensors, "file", found.files.nbytes, "SHA-256")
    if found.parts.tensors:
        unit = "tensor" if found.format == "safetensors" else "record"
        yield _compared(found.parts.tensors, unit, found.parts.nbytes, "CRC-32")
    if found.unknown:
        yield Text(f"unknown   {found.unknown:,} without a checksum", "yellow")
    yield from _differences(found, page)
    yield from (Text.assemble(("note      ", "yellow"), note) for note in found.notes)
    if found.ok:
        yield Text.assemble(("OK  ", "bold green"), f"{found.checkpoint} is equal")
    else:
        yield Text.assemble(("FAILED  ", "bold red"), f"{found.checkpoint} {_failure(found)}")


def _differences(found: Comparison, page: Page) -> Iterator[Text]:
    listed = found.unequal if page.verbose else found.unequal[:SHOWN_DIFFERENCES]
    for one in listed:
        yield Text.assemble(("differs   ", "bold red"), _difference(one))
    if len(listed) < len(found.unequal):
        yield Text(f"          and {len(found.unequal) - len(listed):,} more; -v lists all")


def _failure(found: Comparison) -> str:
    if not found.unequal:
        return "was not compared"
    count = len(found.unequal)
    return f"differs in {count:,} {'place' if count == 1 else 'places'}"


def _compared(count: int, unit: str, nbytes: int, algorithm: str) -> Text:
    ending = "" if count == 1 else "s"
    return Text(f"compared  {count:,} {unit}{ending}, {human_bytes(nbytes)}, by {algorithm}")


def _difference(one: Unequal) -> str:
    inside = f" ({one.tensors:.{SHOWN_CHARACTERS}})" if one.tensors else ""
    sums = f"{one.algorithm} is {one.found}, expected {one.expected}"
    return f"{one.kind} {shown(one.name)}{inside} in {one.file}: {sums}"
