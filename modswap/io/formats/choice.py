"""Find the row of a format: by a file's content, by a name, by an ending, or for a target."""

from pathlib import Path

from modswap.core.errors import CheckpointError
from modswap.core.words.nearest import mistyped
from modswap.io import formats
from modswap.io.formats.format import Format
from modswap.io.recognise.look import Look, foreign

# endings of other programs' files: a checkpoint of such a name would mislead
_MODELS = (".onnx", ".h5", ".hdf5", ".keras", ".tflite", ".pb", ".gguf", ".ggml", ".npy", ".npz",
           ".msgpack", ".engine", ".plan", ".trt", ".mlmodel", ".mlpackage")  # fmt: skip
_ARCHIVES = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z")
_TEXTS = (".json", ".yaml", ".yml", ".toml", ".md", ".txt", ".csv", ".log", ".html", ".xml", ".py",
          ".sarif", ".lock")  # fmt: skip
_OTHER_KINDS = frozenset((*_MODELS, *_ARCHIVES, *_TEXTS))


def recognised(look: Look) -> Format:
    """Return the row of a file, by the file's content; refuse a file of no known format."""
    for row in formats.FORMATS:
        if row.recognise(look):
            return row
    raise foreign(look)


def format_named(name: str) -> Format:
    """Return the row with this name."""
    return next(row for row in formats.FORMATS if row.name == name)


def has_known_ending(file: Path) -> bool:
    """Return whether a file's ending asks for a format."""
    return file.suffix.lower() in _endings()


def by_ending(file: Path) -> Format:
    """Return the row that a file's ending asks for; the first one where it has no ending.

    Raises:
        CheckpointError: If no format has this ending.
    """
    if not file.suffix:
        return formats.FORMATS[0]
    known = _endings()
    row = known.get(file.suffix.lower())
    if row is None:
        what = f"no format has the ending {file.suffix!r}"
        raise CheckpointError(what, str(file), f"use one of {', '.join(known)}")
    return row


def target_format(source: str, out: Path | None) -> Format:
    """Return the format to write: that of the input, unless the ending of `out` asks for another.

    For a dry run `out` is None.
    """
    own = format_named(source)
    if out is None or (own.folder and not has_known_ending(out)):
        return own
    return _endings().get(out.suffix.lower()) or _as_file(own)


def refuse_ending(file: Path, out: Path) -> None:
    """Refuse an OUT whose ending promises another kind of file, or is nearly one of another format.

    Any other ending that no format has is that of the input, `file`, by another name.

    Raises:
        CheckpointError: If the ending is refused.
    """
    ending, known = out.suffix.lower(), _endings()
    if ending in known or ending == file.suffix.lower():
        return
    own = known.get(file.suffix.lower())
    near = mistyped(ending, [other for other, row in known.items() if row is not own])
    if own is not None and mistyped(ending, own.endings):
        near = ""
    if near or ending in _OTHER_KINDS:
        what = f"no format has the ending {out.suffix!r}"
        raise CheckpointError(what, str(out), near or f"use one of {', '.join(known)}")


def ending_note(source: str, file: Path, out: Path | None) -> tuple[str, ...]:
    """Return a note if the ending of `out` is neither known nor that of the input, else nothing."""
    if out is None or not out.suffix or has_known_ending(out) or out.suffix == file.suffix:
        return ()
    row = target_format(source, out)
    what = f"{out.name} is written as a {row.name} file, as the input is"
    return () if row.folder else (f"{what}: no format has the ending {out.suffix!r}",)


def _as_file(own: Format) -> Format:
    return format_named(own.writes_as or own.name)


def _endings() -> dict[str, Format]:
    return {ending: row for row in formats.FORMATS for ending in row.endings}
