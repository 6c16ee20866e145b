"""Triton's interpreter with the products and roundings that tensor cores have.

The interpreter takes products of float32 exactly, so it cannot show what TF32 costs; it multiplies
the bits of bfloat16 as whole numbers, and cuts bfloat16 off where devices round. TF32 keeps ten
bits of the fraction; here the others are cut off, which is no better than any card does it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

CUT = 13  # bits of a fraction of float32 that TF32 lacks


def as_tf32(numbers: Any) -> Any:
    """Return float32 with the bits that TF32 keeps."""
    import numpy as np

    bits = np.ascontiguousarray(numbers, dtype=np.float32).view(np.uint32)
    return (bits & np.uint32(0xFFFFFFFF << CUT & 0xFFFFFFFF)).view(np.float32)


def widened(bits: Any) -> Any:
    """Return bfloat16, kept as uint16, in float32."""
    import numpy as np

    return (np.ascontiguousarray(bits).astype(np.uint32) << 16).view(np.float32)


def rounded(numbers: Any) -> Any:
    """Return float32 as bfloat16, kept as uint16, the nearest even one."""
    import numpy as np

    bits = np.ascontiguousarray(numbers, dtype=np.float32).view(np.uint32)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(numbers), 0x7FC0, nearest).astype(np.uint16)


def product(a: Any, b: Any, precision: str) -> Any:
    """Return a product of float32 matrices as tensor cores take it, added up in float32."""
    import numpy as np

    if precision == "IEEE":
        return np.matmul(a, b)
    big_a, big_b = as_tf32(a), as_tf32(b)
    total = np.matmul(big_a, big_b)
    if precision == "TF32x3":
        small_a, small_b = as_tf32(a - big_a), as_tf32(b - big_b)
        total = np.matmul(small_a, big_b) + np.matmul(big_a, small_b) + total
    return total


@contextmanager
def tensor_cores() -> Iterator[list[str]]:
    """Give the precisions in which products of float32 are taken meanwhile."""
    import numpy as np
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    asked: list[str] = []
    cast = InterpreterBuilder.cast_impl

    def dot(_: Any, a: Any, b: Any, d: Any, precision: Any, __: Any) -> Any:
        kinds = [one.dtype.scalar for one in (a, b)]
        left, right = (
            widened(one.data) if kind == tl.bfloat16 else one.data.astype(np.float32)
            for one, kind in zip((a, b), kinds, strict=True)
        )
        how = "IEEE"  # halves are exact in float32
        if kinds == [tl.float32, tl.float32]:
            how = precision.name
            asked.append(how)
        found = product(left, right, how) + d.data
        return TensorHandle(found.astype(d.data.dtype), d.dtype.scalar)

    def converted(self: Any, source: Any, kind: Any) -> Any:
        if (source.dtype.scalar, kind.scalar) == (tl.float32, tl.bfloat16):
            return TensorHandle(rounded(source.data), tl.bfloat16)
        return cast(self, source, kind)

    with (
        patch.object(InterpreterBuilder, "create_dot", dot),
        patch.object(InterpreterBuilder, "cast_impl", converted),
    ):
        yield asked
