"""Everything in a safetensors file, from its header."""

from collections.abc import Iterator

from modswap.core.kept.difference import Facts
from modswap.core.seen.entries import PlainEntry, in_short
from modswap.io.formats.contents import Contents, HeldTensor
from modswap.io.formats.safetensors.header import Header, sound_header
from modswap.io.recognise.dtypes import dtype_of
from modswap.io.recognise.look import Look
from modswap.io.recognise.model_places import common_prefix


def safetensors_contents(look: Look) -> Contents:
    """Return everything in a safetensors file.

    Raises:
        CheckpointError: If its header is damaged.
    """
    header = sound_header(look)
    tensors = held_tensors(header)
    prefix = common_prefix(list(tensors))
    named = {name.removeprefix(prefix): held for name, held in tensors.items()}
    place = f"every name after {prefix!r}" if prefix else ""
    return Contents("safetensors", named, {}, dict(_entries(header)), place=place)


def held_tensors(header: Header) -> dict[str, HeldTensor]:
    """Return the tensors of a header, each under each of its names."""
    stored = {
        name: HeldTensor(
            Facts(dtype_of(one.dtype), one.shape),
            (one.extent,) if one.extent.nbytes else (),
            identity=(one.extent.file, one.extent.start) if one.extent.nbytes else None,
        )
        for name, one in header.tensors.items()
    }
    return stored | {alias: stored[name] for alias, name in header.ties.items()}


def _entries(header: Header) -> Iterator[tuple[str, PlainEntry]]:
    for name, text in header.metadata.items():
        if name not in header.ties:
            kind = "container" if name == "format" else "metadata"
            yield name, PlainEntry(in_short(text), kind)
