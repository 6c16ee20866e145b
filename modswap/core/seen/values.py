"""Inputs and outputs of modules as shapes and types, without data."""

from collections.abc import Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor without its data."""

    shape: tuple[int, ...]  # size of each axis
    dtype: str = "float32"  # element type without the `torch.` prefix, such as `float32`
    device: str = "cpu"  # device as torch prints it, such as `cpu` or `cuda:0`

    def __str__(self) -> str:
        dtype = "" if self.dtype == "float32" else f" {self.dtype}"
        return f"({', '.join(map(str, self.shape))}){dtype}"


@dataclass(frozen=True, slots=True)
class Group:
    """A tuple, list, dict or dataclass of values."""

    kind: str  # name of the container's class
    names: tuple[str, ...]  # one name per item; indices as text for sequences
    items: tuple["Value", ...]

    def __str__(self) -> str:
        if self.kind in {"tuple", "list"}:
            inner = ", ".join(map(str, self.items))
        else:
            inner = ", ".join(f"{n}={v}" for n, v in zip(self.names, self.items, strict=True))
        return f"{self.kind}[{inner}]"


@dataclass(frozen=True, slots=True)
class Plain:
    """Anything else: a number, a string, None, an object."""

    kind: str  # name of its class
    text: str  # its printed form, shortened

    def __str__(self) -> str:
        return self.text


Value = TensorInfo | Group | Plain
NONE = Plain("NoneType", "None")


def tensors(value: Value) -> Iterator[TensorInfo]:
    """Yield the tensors inside a value, depth first."""
    if isinstance(value, TensorInfo):
        yield value
    elif isinstance(value, Group):
        for item in value.items:
            yield from tensors(item)


def shapes(value: Value) -> list[list[int]]:
    """Return the shape of every tensor inside a value, as lists for JSON."""
    return [list(tensor.shape) for tensor in tensors(value)]


def difference(before: Value, after: Value, place: str = "output") -> str | None:
    """Return the first difference in structure, shape or dtype, or None.

    Plain values count by their type and not by their text. `place` begins the sentence.
    """
    match before, after:
        case Group(), Group() if (before.kind, before.names) == (after.kind, after.names):
            return _difference_inside(before, after, place)
        case TensorInfo(), TensorInfo():
            same = (before.shape, before.dtype) == (after.shape, after.dtype)
        case Plain(), Plain():
            same = before.kind == after.kind
        case _:
            same = False
    return None if same else f"{place} was {before}, is now {after}"


def _difference_inside(before: Group, after: Group, place: str) -> str | None:
    for name, old, new in zip(before.names, before.items, after.items, strict=True):
        inside = f"{place}[{name}]" if name.isdigit() else f"{place}.{name}"
        found = difference(old, new, inside)
        if found is not None:
            return found
    return None


def of_any_precision(value: Value) -> Value:
    """Return a value in which all floating dtypes are one."""
    if isinstance(value, TensorInfo):
        return replace(value, dtype="float32") if "float" in value.dtype else value
    if isinstance(value, Group):
        return replace(value, items=tuple(of_any_precision(item) for item in value.items))
    return value
