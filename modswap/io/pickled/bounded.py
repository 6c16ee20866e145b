"""An unpickler whose containers and keys are bounded by the bytes that say them.

Each container takes a byte or two of a pickle and a hundred bytes of memory, so a pickle of a few
megabytes could make gigabytes of them. A tuple of tuples as a key is hashed as often as it has
paths, on the C stack; large numbers and tuples of numbers can be chosen so that the hashes of
thousands collide.
"""

import pickle
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, ClassVar, NoReturn

from modswap.core.budget import MemoryBudget

MAX_KEY_DEPTH = 8  # tuples inside tuples
MAX_KEY_PARTS = 64  # values in all tuples of a key
MAX_KEYS_OF_A_HASH = 64  # each is compared with all before it; -1 and -2 have one hash
MAX_OBJECT_KEYS = 10_000  # made of numbers, whose hashes a file can choose
_INTEGER_BITS = 64  # up to which few numbers have one hash
_HASHED = frozenset((str, bytes, float, bool, type(None)))
_NUMBERS = (int, float, bool)
_PLAIN = _HASHED.union(_NUMBERS)
# bytes of memory that objects take, here and afterwards in torch's reader; other values are small
# beside the bytes that say them
_LIST_BYTES, _TUPLE_BYTES, _DICT_BYTES, _ITEM_PAIR_BYTES = 64, 56, 160, 72
_KEPT_KEY_BYTES = 120
# the pickle module in Python: its steps can be replaced, and it reserves no memory in advance
_Unpickler: Any = vars(pickle)["_Unpickler"]


class BoundedUnpickler(_Unpickler):  # type: ignore[misc] # the base class has no known type
    """Python's unpickler with a budget of memory and a judge of keys."""

    metastack: list[list[Any]]
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(_Unpickler.dispatch)

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, encoding="utf-8", errors="surrogatepass")
        self.stream, self.start = stream, stream.tell()
        self.memory, self.keys = MemoryBudget(), Keys()

    def refuse(self, what: str) -> NoReturn:
        """Raise the reader's error about a pickle that asks for too much."""
        raise NotImplementedError  # pragma: no cover - each reader has its own

    def spend(self, nbytes: int) -> None:
        """Use some of the memory that the objects of the pickle may take."""
        self.memory.room -= nbytes
        if self.memory.room < 0 and not self.memory.grow(self.stream.tell() - self.start):
            taken = self.memory.granted - self.memory.room
            self.refuse(
                f"its objects would take over {taken >> 20:,} MiB of memory, far more than a sound "
                "file of its size"
            )

    def _load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def _load_setitems(self) -> None:
        self.set_items(self.pop_mark())

    def _load_dict(self) -> None:
        items = self.pop_mark()
        self._load_empty_dictionary()
        self.set_items(items)

    def set_items(self, items: list[Any]) -> None:
        """Put keys and values, which take turns, into the object on top of the stack."""
        target = self.stack[-1]
        if isinstance(target, (list, tuple, str)) or not hasattr(target, "__setitem__"):
            self.refuse(f"it puts an item into {type(target).__name__}")
        keys, values = items[::2], items[1::2]
        before = self.keys.held
        if flaw := self.keys.flaw(keys):
            self.refuse(flaw)
        self.spend(_KEPT_KEY_BYTES * (self.keys.held - before))
        if not isinstance(target, dict):
            self.spend(_ITEM_PAIR_BYTES * len(keys))
        for key, value in zip(keys, values, strict=True):
            target[key] = value

    def _load_empty_list(self) -> None:
        self.spend(_LIST_BYTES)
        self.append([])

    def _load_list(self) -> None:
        self.spend(_LIST_BYTES)
        items = self.pop_mark()
        self.append(items)

    def _load_empty_dictionary(self) -> None:
        self.spend(_DICT_BYTES)
        self.append({})

    def _load_mark(self) -> None:
        self.spend(_LIST_BYTES)
        super().load_mark()

    def _load_tuple(self) -> None:
        self.spend(_TUPLE_BYTES)
        items = tuple(self.pop_mark())
        self.append(items)

    def _load_tuple1(self) -> None:
        self.spend(_TUPLE_BYTES)
        self.stack[-1] = (self.stack[-1],)

    def _load_tuple2(self) -> None:
        self.spend(_TUPLE_BYTES)
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]

    def _load_tuple3(self) -> None:
        self.spend(_TUPLE_BYTES)
        self.stack[-3:] = [(self.stack[-3], self.stack[-2], self.stack[-1])]

    dispatch |= {
        pickle.SETITEM[0]: _load_setitem,
        pickle.SETITEMS[0]: _load_setitems,
        pickle.DICT[0]: _load_dict,
        pickle.LIST[0]: _load_list,
        pickle.EMPTY_LIST[0]: _load_empty_list,
        pickle.EMPTY_DICT[0]: _load_empty_dictionary,
        pickle.MARK[0]: _load_mark,
        pickle.TUPLE[0]: _load_tuple,
        pickle.TUPLE1[0]: _load_tuple1,
        pickle.TUPLE2[0]: _load_tuple2,
        pickle.TUPLE3[0]: _load_tuple3,
    }


class Keys:
    """A judge of the keys of a file, which looks for those whose hashes collide."""

    def __init__(self) -> None:
        self.held = 0  # keys that it keeps to compare with later ones
        self._objects = 0  # made of numbers, whose hashes are not known here
        # by a hash, the first key that has it, or all of them in a list
        self._by_hash: dict[int, Any] = {}

    def flaw(self, keys: Iterable[Any]) -> str:
        """Return the flaw of the first key that must not be hashed; empty if all may be."""
        return next(filter(None, map(self._flaw_of, keys)), "")

    def _flaw_of(self, key: Any) -> str:
        if type(key) in _HASHED:
            return ""
        if isinstance(key, int):
            return self._collision(key) if key.bit_length() > _INTEGER_BITS else ""
        return self._flaw_of_parts(key)

    def _flaw_of_parts(self, key: Any) -> str:
        # an object may be hashed as the arguments that it is made of
        inside = key if isinstance(key, tuple) else getattr(key, "args", None)
        if not isinstance(inside, tuple):
            return ""
        most = len(inside) < MAX_KEY_PARTS and (flat := set(map(type, inside))) <= _PLAIN
        kinds = flat if most else _kinds(inside)
        if kinds is None:
            return "a key of it is a tuple that holds too much to be hashed"
        if inside is key and kinds <= _PLAIN:
            return "" if kinds.isdisjoint(_NUMBERS) else self._collision(key)
        self._objects += not kinds.isdisjoint(_NUMBERS)
        over = self._objects > MAX_OBJECT_KEYS
        return f"over {MAX_OBJECT_KEYS:,} keys of it are objects made of numbers" if over else ""

    def _collision(self, key: Any) -> str:
        """Return the flaw of a key with whose hash there are many others; else keep the key."""
        number = hash(key)
        others = self._by_hash.get(number, [])
        if not isinstance(others, list):
            others = [others]
        if key not in others:
            self.held += 1
            self._by_hash[number] = [*others, key] if others else key
        over = len(others) > MAX_KEYS_OF_A_HASH
        return f"over {MAX_KEYS_OF_A_HASH} keys of it have one hash" if over else ""


def _kinds(key: tuple[Any, ...]) -> set[type] | None:
    """Return the types of values in a tuple and in the tuples of it; None if it holds too much."""
    stack: list[tuple[Any, int]] = [(key, 1)]
    kinds: set[type] = set()
    parts = 0
    while stack:
        value, depth = stack.pop()
        parts += 1
        if depth > MAX_KEY_DEPTH or parts > MAX_KEY_PARTS:
            return None
        inside = value if isinstance(value, tuple) else getattr(value, "args", ())
        stack += [(item, depth + 1) for item in inside[: MAX_KEY_PARTS + 1]]
        kinds |= set() if isinstance(value, tuple) else {type(value)}
    return kinds
