"""The first differences between two nets, for tests and for people."""

from collections.abc import Iterator
from itertools import islice, zip_longest

import numpy as np

from ttfsc.ir.arrays import Array
from ttfsc.ir.net import Net, consts_of
from ttfsc.ir.show import show_op


def diff(a: Net, b: Net, *, limit: int = 10) -> list[str]:
    """Up to `limit` sentences on what differs; empty exactly when the nets are equal."""
    return list(islice(_differences(a, b), limit))


def _differences(a: Net, b: Net) -> Iterator[str]:
    if a.name != b.name:
        yield f"name: @{a.name} and @{b.name}"
    for i, (x, y) in enumerate(zip_longest(a.ops, b.ops)):
        if x != y:
            left, right = ("nothing" if op is None else show_op(op) for op in (x, y))
            yield f"op {i}: {left}  and  {right}"
        if x is None or y is None:
            continue
        for const in consts_of(x):
            both = const in consts_of(y) and const in a.arrays and const in b.arrays
            if both and a.arrays.digest(const) != b.arrays.digest(const):
                yield f"%{x.name} @{const}: {_array_difference(a.arrays[const], b.arrays[const])}"
    for const in sorted(set(a.arrays) ^ set(b.arrays)):
        yield f"@{const}: only in the {'first' if const in a.arrays else 'second'}"
    spare = set(a.arrays) - {c for op in a.ops for c in consts_of(op)}
    for const in sorted(spare & set(b.arrays)):
        if a.arrays.digest(const) != b.arrays.digest(const):
            yield f"@{const} (read by no op): {_array_difference(a.arrays[const], b.arrays[const])}"
    if a.mapped != b.mapped:
        yield from _map_differences(a, b)


def _array_difference(a: Array, b: Array) -> str:
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return f"{a.dtype} {list(a.shape)} and {b.dtype} {list(b.shape)}"
    places = np.argwhere((a != b) & ~((a != a) & (b != b)))
    if not len(places):
        return "same values, different bits (zero signs or NaNs)"
    first = tuple(int(i) for i in places[0])
    return f"{len(places)} of {a.size} values differ, the first at {list(first)}: {a[first]} and {b[first]}"


def _map_differences(a: Net, b: Net) -> Iterator[str]:
    if a.mapped is None or b.mapped is None:
        yield f"map: only in the {'first' if a.mapped else 'second'}"
        return
    for part in ("chip", "mesh", "partition", "placement", "delivery"):
        x, y = getattr(a.mapped, part), getattr(b.mapped, part)
        if x != y:
            yield f"map {part}: {x} and {y}"
    for part in ("cores", "routes"):
        for x, y in zip_longest(getattr(a.mapped, part), getattr(b.mapped, part)):
            if x != y:
                yield f"map {part}: {x} and {y}"
