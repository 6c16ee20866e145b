"""Find the bytes of the storages that a pickle refers to."""

from collections.abc import Mapping

from modswap.io.pickled.data import Storage
from modswap.io.raw.byte_range import ByteRange
from modswap.io.recognise.look import Look

DATA = "data/"  # the beginning of the names of records that hold storages


class Storages:
    """The records of a file of `torch.save` by name, and those of modules that are put into it."""

    def __init__(self, look: Look, records: Mapping[str, ByteRange]) -> None:
        self.look = look
        self._homes = [records]

    def add(self, records: Mapping[str, ByteRange]) -> int:
        """Add the records of further modules; return the `home` that their storages bear."""
        self._homes.append(records)
        return len(self._homes) - 1

    def find(self, storage: Storage) -> ByteRange:
        """Return the bytes of a storage.

        Raises:
            CheckpointError: If there is no such record, or it is of another size.
        """
        found = self._homes[storage.home].get(f"{DATA}{storage.key}")
        if found is None:
            raise self.look.error(f"a tensor's record {storage.key!r:.40} is missing")
        if found.nbytes != storage.nbytes:
            sizes = f"{found.nbytes:,} bytes, expected {storage.nbytes:,}"
            raise self.look.error(f"its record {found.name!r} has {sizes}")
        return found
