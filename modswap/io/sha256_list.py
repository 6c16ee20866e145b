"""Read the SHA-256 of files from a list, as sha256sum and BSD's tools write it."""

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from modswap.core.errors import CheckpointError
from modswap.core.words.nearest import did_you_mean
from modswap.io.recognise.look import kind_of, unreadable
from modswap.io.recognise.small_files import read_small

MAX_LIST_BYTES = 4 << 20
_BLOCK_BYTES = 1 << 20
_DIGITS = 64
_HASH = r"(?P<hash>[0-9a-fA-F]{64})"
_LINES = tuple(
    re.compile(text)
    for text in (
        rf"(?P<escaped>\\?){_HASH} [ *](?P<name>.+)",  # sha256sum
        rf"(?P<escaped>\\?)SHA(?:2-)?256 ?\((?P<name>.+)\) ?= ?{_HASH}",  # BSD, openssl
        rf"(?:sha256:|oid sha256:)?{_HASH}",  # bare, or a pointer of git-LFS
    )
)
_ESCAPED = {r"\\": "\\", r"\n": "\n", r"\r": "\r"}
_FIX = "name a file as sha256sum writes it, or the 64 digits"


def expected_digests(given: str, file: Path) -> dict[Path, str]:
    """Return the SHA-256 that each file should have, in hexadecimal.

    Args:
        given: The name of a list, or the digest itself.
        file: The checkpoint. Of a file, its own line counts; of a folder, every line.

    Raises:
        CheckpointError: If the list cannot be read, is malformed, or does not name the file.
    """
    literal = _LINES[-1].fullmatch(given.strip())
    place = Path(given)
    if literal is not None and not place.exists():
        lines: list[tuple[str, str]] = [("", literal["hash"].lower())]
    else:
        lines = list(_lines(_text(place), place))
    if file.is_dir():
        return _of_folder(lines, place, file)
    return {file: _of_file(lines, place, file)}


def _text(place: Path) -> str:
    try:
        data = read_small(place, MAX_LIST_BYTES)
        return data.decode("utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig")
    except UnicodeDecodeError:
        raise CheckpointError("it is no text", str(place), _FIX) from None
    except FileNotFoundError:
        fix = "name a list of SHA-256, or give the 64 digits"
        raise CheckpointError("no such file", str(place), fix) from None


def _lines(text: str, place: Path) -> Iterator[tuple[str, str]]:
    """Yield names and digests; the name is empty for a bare digest."""
    count = 0
    for line in text.split("\n"):
        if len(line) < _DIGITS:  # a list of empty lines is passed over quickly
            continue
        found = next((hit for form in _LINES if (hit := form.fullmatch(line.strip("\r")))), None)
        if found is None and (found := _LINES[-1].fullmatch(line.strip())) is None:
            continue
        named = found.groupdict()
        name = named.get("name") or ""
        if named.get("escaped"):
            name = re.sub(r"\\[\\nr]", lambda hit: _ESCAPED[hit[0]], name)
        count += 1
        yield name, found["hash"].lower()
    if not count:
        raise CheckpointError("it holds no SHA-256", str(place), _FIX)


def _of_file(lines: list[tuple[str, str]], place: Path, file: Path) -> str:
    """Return the digest of one file."""
    bare = {digest for name, digest in lines if not name}
    own = {digest for name, digest in lines if name and _last(name) == file.name}
    found = own or bare
    if len(found) == 1:
        return found.pop()
    if found:
        what = f"it holds {len(found)} different SHA-256 for {file.name!r}"
        raise CheckpointError(what, str(place), "keep the line that is meant")
    near = did_you_mean(file.name, [_last(name) for name, _ in lines])
    what = f"it names no {file.name!r}"
    raise CheckpointError(what, str(place), near or "check that it is the list of this download")


def _of_folder(lines: list[tuple[str, str]], place: Path, folder: Path) -> dict[Path, str]:
    """Return the digests of the files of a folder."""
    found: dict[Path, str] = {}
    for name, digest in lines:
        file = _inside(name, folder, place)
        if found.setdefault(file, digest) != digest:
            what = f"it holds two different SHA-256 for {name!r:.200}"
            raise CheckpointError(what, str(place), "keep the line that is meant")
    return found


def _inside(name: str, folder: Path, place: Path) -> Path:
    """Return a file of the folder that a list names, from the folder or from its parent."""
    if not name:
        what = f"it is the SHA-256 of one file, and {folder.name!r} is a folder"
        raise CheckpointError(what, str(place), "name a list of the folder's files")
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or ".." in parts or parts[0] == "/":
        what = f"it names {name!r:.200}, which is no file of the folder {folder.name!r}"
        raise CheckpointError(what, str(place), "name a list of the folder's files")
    file = folder.joinpath(*parts)
    if parts[0] == folder.resolve().name and len(parts) > 1 and not file.exists():
        return folder.joinpath(*parts[1:])
    return file


def _last(name: str) -> str:
    return re.split(r"[/\\]", name)[-1]


def sha256_of(file: Path, advance: Callable[[int], None] = lambda _: None) -> str:
    """Return the SHA-256 of a regular file in hexadecimal.

    Raises:
        CheckpointError: If it is no regular file, or cannot be read.
    """
    digest = hashlib.sha256()
    try:
        kind = kind_of(file.stat().st_mode)
        if kind:
            raise CheckpointError(f"it is {kind}, expected a file", str(file), "name a file")
        with file.open("rb", buffering=0) as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
                advance(len(block))
    except FileNotFoundError:
        raise CheckpointError("no such file", str(file), "download it again") from None
    except (OSError, ValueError) as error:
        raise unreadable(file, error) from None
    return digest.hexdigest()
