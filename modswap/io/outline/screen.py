"""Looking through a pickle, as data, for what no sound file asks of a safe unpickler.

An allow-list says which classes may be built; what is built of them is another matter. A call of an
allowed class runs its constructor, which may take all memory; an attribute may shadow a method.
"""

import re
from collections.abc import Iterator
from typing import Any

from modswap.core.errors import CheckpointError, UnsafeError
from modswap.io.outline.pickle_data import Made, Name, Stored, UnreadableError
from modswap.io.outline.torch_zip import payload_of, tensor_parts
from modswap.io.recognise import Look

# methods of every module; a sound file keeps none of them as an attribute of one
_METHODS = {"forward", "__call__", "_call_impl", "_wrapped_call_impl"}
_RESERVES = re.compile(r"(builtins|__builtin__)\.bytearray|torch\.(\w+\.)*\w*(Tensor|Storage)")
_REBUILDS = ("torch._utils._rebuild_", "torch._tensor._rebuild_", "torch.nn.parameter.")
_SPARE = 4 << 30  # bytes that tensors may say they have beyond what the file holds
_FIX = "do not load it unless it is your own; for a file of your own making there is --trust"


def called_names(look: Look) -> frozenset[str]:
    """Return every name that a torch zip would call; refuse what no sound file asks for.

    Args:
        look: The file.

    Raises:
        UnsafeError: If it reserves memory, shadows a method, or calls an object of its own.
        CheckpointError: If a tensor cannot be, or a module contains itself.
    """
    try:
        payload, _ = payload_of(look)
    except UnreadableError:
        return frozenset()  # the unpickler says what is wrong with it
    calls: set[str] = set()
    for value in everything(payload):
        if not isinstance(value, Made):
            continue
        if value.how == "called":
            calls.add(str(value.what))
            _check_call(value, look)
            _check_tensor(value, look)
        if isinstance(value.state, dict):
            _check_state(value, look)
    _check_rings(payload, look)
    return frozenset(calls)


def everything(payload: Any) -> Iterator[Any]:
    """Yield everything in a payload, each object once."""
    seen: set[int] = set()
    stack = [payload]
    while stack:
        value = stack.pop()
        if isinstance(value, (str, int, float, bytes, type(None))) or id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        stack += _inside(value)


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        yield from value
    elif isinstance(value, dict):
        yield from value
        yield from value.values()
    elif isinstance(value, Made):
        yield from (value.what, value.args, value.state, value.elements)
        for key, item in value.items:
            yield from (key, item)


def _check_call(made: Made, look: Look) -> None:
    name = str(made.what)
    if _RESERVES.fullmatch(name) and any(isinstance(arg, int) for arg in made.args):
        what = f"to load it, {name}({made.args[0]!r:.24}) would be called, which reserves memory"
        raise UnsafeError(what, str(look.file), _FIX)
    if name.endswith("._rebuild_from_type_v2") and made.args:
        make = made.args[0]
        if not isinstance(make, Name) or not str(make).startswith(_REBUILDS):
            shown = make if isinstance(make, Name) else f"an object of {type(make).__name__}"
            if isinstance(make, Made):
                shown = f"a {make.what} of its own"
            what = f"to load it, {shown} would be called to make a tensor"
            raise UnsafeError(what, str(look.file), _FIX)


def _check_state(made: Made, look: Look) -> None:
    planted = sorted(_METHODS & {key for key in made.state if isinstance(key, str)})
    if planted and "_modules" in made.state:
        what = f"it puts an attribute {planted[0]!r} into a {made.what}, in place of the method"
        raise UnsafeError(what, str(look.file), _FIX)


def _check_tensor(made: Made, look: Look) -> None:
    parts = tensor_parts(made)
    if parts is None or not isinstance(parts.stored, Stored):
        return
    held = parts.stored.count * parts.itemsize
    if parts.nbytes > max(held, 0) + _SPARE:
        what = (
            f"a tensor of it has {parts.numel:,} elements on a storage of {parts.stored.count:,}: "
            "used, it would take more memory than the file can account for"
        )
        raise CheckpointError(what, str(look.file), "save it again without expanded tensors")


def _check_rings(payload: Any, look: Look) -> None:
    """Refuse modules that contain themselves, on which every walk of a model would end badly."""
    done: set[int] = set()
    for value in everything(payload):
        if isinstance(value, Made) and id(value) not in done and _holds_itself(value, done):
            what = f"a {value.what} of it contains itself"
            raise CheckpointError(what, str(look.file), "save the model again without the ring")


def _holds_itself(start: Made, done: set[int]) -> bool:
    above: set[int] = set()
    stack: list[tuple[Made, bool]] = [(start, False)]
    while stack:
        made, left = stack.pop()
        if left:
            above.discard(id(made))
            done.add(id(made))
            continue
        if id(made) in above:
            return True
        if id(made) in done:
            continue
        above.add(id(made))
        stack.append((made, True))
        stack += [(child, False) for child in _modules(made)]
    return False


def _modules(made: Made) -> Iterator[Made]:
    held = made.state.get("_modules") if isinstance(made.state, dict) else None
    pairs = held.items() if isinstance(held, dict) else getattr(held, "items", ())
    yield from (value for _, value in pairs if isinstance(value, Made))
