"""Judge the outputs of a model in which a swap changes outputs on purpose, as a new head does."""

from collections.abc import Iterator, Mapping, Sequence

from modswap.core.seen.values import Group, TensorInfo, Value, difference

Expected = Mapping[str, Sequence[int | None]]  # the shape of an output by its place; None: any size


def is_resized(before: Value, after: Value) -> bool:
    """Return whether two values differ in the sizes of tensors alone."""
    if isinstance(before, Group) and isinstance(after, Group):
        alike = (before.kind, before.names) == (after.kind, after.names)
        return alike and all(map(is_resized, before.items, after.items))
    if isinstance(before, TensorInfo) and isinstance(after, TensorInfo):
        return (len(before.shape), before.dtype) == (len(after.shape), after.dtype)
    return difference(before, after) is None


def resized_outputs(before: Value, after: Value) -> tuple[str, ...]:
    """Return a sentence for each tensor that has another size, for values of one structure."""
    now = dict(_places(after))
    return tuple(
        f"{place} was {tensor}, is now {now[place]}"
        for place, tensor in _places(before)
        if place in now and now[place].shape != tensor.shape
    )


def unexpected_outputs(output: Value, expected: Expected) -> tuple[str, ...]:
    """Return a sentence for each output that has not the shape that the recipe expects.

    An output is named as in messages, `output`, `output[0]` or `output.logits`, or without the
    first word.
    """
    seen = dict(_places(output))
    found = []
    for name, shape in expected.items():
        names = (name, f"output.{name}", f"output[{name}]")
        place = next((place for place in names if place in seen), None)
        wanted = f"({', '.join('any' if size is None else str(size) for size in shape)})"
        if place is None:
            found.append(f"there is no output {name!r} of {wanted}: it gives {', '.join(seen)}")
        elif not _is_of(seen[place].shape, shape):
            found.append(f"{place} is {seen[place]}, expected {wanted}")
    return tuple(found)


def _is_of(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(
        size in {have, None} for have, size in zip(shape, wanted, strict=True)
    )


def _places(value: Value, place: str = "output") -> Iterator[tuple[str, TensorInfo]]:
    """Yield every tensor of an output with its place."""
    if isinstance(value, TensorInfo):
        yield place, value
    elif isinstance(value, Group):
        for name, item in zip(value.names, value.items, strict=True):
            inside = f"{place}[{name}]" if name.isdigit() else f"{place}.{name}"
            yield from _places(item, inside)
